from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gls_es.bounds import preactivations
from gls_es.errors import ConfigError, DataError
from gls_es.experiments import TABLES, Cell, Table, make_plan, pace, planning
from gls_es.experiments.fitting import FEWEST_IMAGES, MOST_IMAGES, SHORTEST, TRAINING_SHARE, Extent, fitted
from gls_es.experiments.tables import BASELINES, SEARCHERS, SHORT, Published
from gls_es.problem.recipe import Recipe
from gls_es.problems.digits import DigitsCNN3
from gls_es.training import timing
from gls_es.training.lock import FolderLock
from gls_es.training.timing import BRIEF, brief_weights, generation_seconds, phases

TOY = Table(
    "toy",
    "a toy",
    "digits-cnn3",
    0.1,
    (
        Cell("grad-ibp", "grad", "ibp", {"generations": 2, "batch_size": 8}),
        Cell("pgpe-ibp", "pgpe", "ibp", {"generations": 2, "batch_size": 8, "popsize": 4}),
    ),
)

PHASED = Table(
    "phased",
    "with phases",
    "digits-cnn3",
    0.1,
    (Cell("grad", "grad", "ibp", {"generations": 40, "natural_until": 20, "ramp_until": 30, "batch_size": 8}),),
)


def test_a_plan_is_kept_and_read_again(tmp_path: Path) -> None:
    first = make_plan(TOY, tmp_path, seeds=2, limit=4)
    assert first.generations == {"grad-ibp": 2, "pgpe-ibp": 2}
    assert first.seeds == (0, 1)
    assert make_plan(TOY, tmp_path, seeds=2, limit=4) == first


def test_cells_and_seeds_are_added_and_nothing_else_changes(tmp_path: Path) -> None:
    first = make_plan(TOY, tmp_path, cells=["grad-ibp"], seeds=1, limit=4)
    assert list(first.generations) == ["grad-ibp"]
    more = make_plan(TOY, tmp_path, seeds=3, limit=4)
    assert more.seeds == (0, 1, 2)
    assert list(more.generations) == ["grad-ibp", "pgpe-ibp"]
    assert make_plan(TOY, tmp_path, seeds=1, limit=4).seeds == (0, 1, 2)


def test_what_contradicts_the_plan_is_refused(tmp_path: Path) -> None:
    make_plan(TOY, tmp_path, limit=4)
    with pytest.raises(ConfigError, match="--limit 4, not 5; leave the option out"):
        make_plan(TOY, tmp_path, limit=5)
    with pytest.raises(ConfigError, match=r"--train-time as the recipes say, not 25s .from --budget 200s.;"):
        make_plan(TOY, tmp_path, budget=200.0)
    with pytest.raises(ConfigError, match="is the plan of table 'toy'"):
        make_plan(TABLES["digits-0.1"], tmp_path, limit=4)


def test_a_damaged_plan_says_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"table": "toy"')
    with pytest.raises(DataError, match=r"plan\.json: cannot be read as a plan"):
        make_plan(TOY, tmp_path)


@pytest.mark.parametrize("options", [{"cells": ["grad-ipb"]}, {"budget": 10.0, "train_seconds": 1.0}])
def test_options_without_sense_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        make_plan(TOY, tmp_path, **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_budget_is_shared_by_all_runs_and_fills_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = {"grad": 0.5, "pgpe": 2.0}
    monkeypatch.setattr(planning, "generation_seconds", lambda _problem, searcher, _recipe, center: cost[searcher])
    plan = make_plan(TOY, tmp_path, seeds=3, limit=4, budget=800.0)
    assert plan.train_seconds == pytest.approx(800 * TRAINING_SHARE / 6)
    assert plan.generations == {"grad-ibp": 200, "pgpe-ibp": 50}  # 100 s each
    assert json.loads((tmp_path / "plan.json").read_text())["generation_seconds"] == {"grad-ibp": 0.5, "pgpe-ibp": 2.0}


def test_a_short_budget_leaves_out_seeds_then_baselines_and_images() -> None:
    table = TABLES["mnist-0.1"]
    cells = table.chosen([])

    def extent(seconds: float, **options: bool) -> Extent:
        return fitted(table, cells, budget=seconds, seeds=3, **{"fewer_seeds": True, "fewer_cells": True, **options})

    plenty = extent(36_000.0)
    assert (plenty.cells, plenty.seeds, plenty.limit) == (cells, 3, MOST_IMAGES)
    half_an_hour = extent(1_800.0)
    assert (half_an_hour.cells, half_an_hour.seeds) == (cells, 3)
    assert FEWEST_IMAGES < half_an_hour.limit < MOST_IMAGES
    tight = extent(800.0)
    assert (tight.cells, tight.seeds) == (cells, 2)
    assert tight.train_seconds >= SHORTEST
    tightest = extent(300.0)
    assert (set(cells) - set(tightest.cells), tightest.seeds) == ({f"grad-{loss}" for loss in BASELINES}, 1)
    assert extent(300.0, fewer_seeds=False, fewer_cells=False).runs == 3 * len(cells)
    for found, seconds in ((plenty, 36_000.0), (half_an_hour, 1_800.0), (tight, 800.0), (tightest, 300.0)):
        assert found.runs * found.train_seconds == pytest.approx(TRAINING_SHARE * seconds)


def test_a_budget_goes_on_as_it_was_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "generation_seconds", lambda _problem, _searcher, _recipe, center: 1.0)
    said: list[str] = []
    baseline = Cell("grad-natural", "grad", "ibp", {"generations": 2, "loss": "natural"}, kind="baseline")
    table = replace(TOY, cells=(*TOY.cells, baseline))
    first = make_plan(table, tmp_path, budget=60.0, say=said.append)
    assert (first.seeds, first.limit, set(first.generations)) == ((0,), 150, {"grad-ibp", "pgpe-ibp"})
    assert said[0] == "60 s are enough for 2 runs (2 cells, 1 seed), 22.5 s of training and 150 images each"
    assert make_plan(table, tmp_path, budget=60.0) == first
    everything = make_plan(table, tmp_path / "all", cells=["*"], seeds=2, limit=7, budget=60.0)
    assert (everything.seeds, everything.limit, len(everything.generations)) == ((0, 1), 7, 3)


def test_what_is_not_said_is_as_in_the_plan(tmp_path: Path) -> None:
    assert make_plan(TOY, tmp_path / "new").limit == 1000
    first = make_plan(TOY, tmp_path, seeds=1, limit=4, timeout=0.5, validation=9, settings={"batch_size": 4})
    assert make_plan(TOY, tmp_path) == first


def test_a_number_of_generations_scales_the_phases_and_excludes_a_time(tmp_path: Path) -> None:
    plan = make_plan(PHASED, tmp_path, limit=4, settings={"generations": 20})
    recipe = plan.recipe(PHASED, PHASED.cells[0])
    assert (recipe.generations, recipe.natural_until, recipe.ramp_until) == (20, 10, 15)
    assert plan.generations == {"grad": 20}
    exact = make_plan(PHASED, tmp_path / "exact", limit=4, settings={"generations": 20, "ramp_until": 12})
    assert exact.recipe(PHASED, PHASED.cells[0]).ramp_until == 12  # of the 20 that it was set beside
    for time in ({"budget": 100.0}, {"train_seconds": 1.0}):
        with pytest.raises(ConfigError, match="both say how long"):
            make_plan(PHASED, tmp_path / "timed", limit=4, settings={"generations": 20}, **time)  # type: ignore[arg-type]
    assert not (tmp_path / "timed").exists()


def test_a_cell_that_changed_since_it_was_planned_is_refused(tmp_path: Path) -> None:
    make_plan(TOY, tmp_path, limit=4)
    assert json.loads((tmp_path / "plan.json").read_text())["recipes"]["pgpe-ibp"]["popsize"] == 4
    changed = replace(
        TOY, cells=(TOY.cells[0], replace(TOY.cells[1], settings={**TOY.cells[1].settings, "popsize": 6}))
    )
    with pytest.raises(ConfigError, match=r"cell pgpe-ibp was planned with popsize = 4, now it has popsize = 6.*--out"):
        make_plan(changed, tmp_path)
    assert make_plan(changed, tmp_path, cells=["grad-ibp"]).limit == 4


def test_an_older_plan_is_read_and_completed(tmp_path: Path) -> None:
    first = make_plan(TOY, tmp_path, seeds=2)
    known = json.loads((tmp_path / "plan.json").read_text())
    old = {name: known[name] for name in ("table", "seeds", "generations")}
    (tmp_path / "plan.json").write_text(json.dumps(old))
    assert make_plan(TOY, tmp_path) == first
    assert json.loads((tmp_path / "plan.json").read_text()) == known


def test_a_folder_in_which_another_process_plans_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one's cells and seeds, written meanwhile, are kept."""
    lock = FolderLock(tmp_path / ".lock")

    def nap(_seconds: float) -> None:
        lock.release()
        monkeypatch.undo()
        make_plan(TOY, tmp_path, cells=["grad-ibp"], seeds=2, limit=4)

    monkeypatch.setattr(planning.time, "sleep", nap)
    said: list[str] = []
    plan = make_plan(TOY, tmp_path, cells=["pgpe-ibp"], seeds=1, limit=4, say=said.append)
    assert (sorted(plan.generations), plan.seeds) == (["grad-ibp", "pgpe-ibp"], (0, 1))
    assert said == [f"{tmp_path}: another process plans in it, waiting for that"]


def test_a_machine_without_the_device_or_the_data_is_told_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown device"):
        make_plan(TOY, tmp_path / "new", device="abacus")
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError):
        make_plan(TABLES["mnist-0.1"], tmp_path / "new", data_root=tmp_path / "data", train_seconds=1.0)
    assert not (tmp_path / "new").exists()


def test_measuring_costs_no_weights() -> None:
    problem = DigitsCNN3(method="ibp", batch_size=8)
    before = problem.network.parameter_vector().clone()
    assert generation_seconds(problem, "grad", Recipe(generations=20, natural_until=5, ramp_until=10)) > 0
    assert torch.equal(problem.network.parameter_vector(), before)


def test_patterns_choose_cells_and_bring_their_starts() -> None:
    table = TABLES["mnist-0.1"]
    assert table.chosen(["pgpe-crown*"])[0] == "grad-ibp"  # where one of them starts
    assert {"pgpe-crown", "pgpe-crown-ibp", "pgpe-crown-from-ibp"} < set(table.chosen(["pgpe-crown*"]))
    assert table.chosen(["*"]) == table.cell_names
    usual = {f"{searcher}-{method}" for searcher in SEARCHERS for method in ("ibp", "crown-ibp", "crown")}
    assert set(table.chosen([])) == usual | {f"grad-{loss}" for loss in BASELINES}
    with pytest.raises(ConfigError, match="no cell 'adam-"):
        table.chosen(["grad-*", "adam-*"])


def test_the_phases_of_a_run_cover_it_without_overlap() -> None:
    recipe = Recipe(generations=100, natural_until=10, warmup_until=30, warmup_method="ibp", ramp_until=50)
    assert phases(recipe) == [(0, 10), (10, 30), (30, 50), (50, 100)]
    assert phases(Recipe(generations=100, ramp_until=0)) == [(0, 100)]
    assert phases(Recipe(generations=3, natural_until=5, ramp_until=9)) == [(0, 3)]


def test_a_generation_costs_the_mean_over_the_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that natural generations move by 1 and others by 5."""
    problem, now = DigitsCNN3(method="ibp", batch_size=8), [0.0]

    def step(_search: object) -> None:
        now[0] += 5.0 if problem.stage.eps > 0 else 1.0

    monkeypatch.setattr(timing, "run_generation", step)
    monkeypatch.setattr(timing.time, "process_time", lambda: now[0])
    monkeypatch.setattr(timing.torch, "get_num_threads", lambda: 1)
    recipe = Recipe(generations=10, natural_until=4, ramp_until=4)
    assert generation_seconds(problem, "grad", recipe) == pytest.approx((4 * 1 + 6 * 5) / 10)


def test_what_starts_from_a_cell_is_measured_on_weights_that_it_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = replace(TOY, cells=(TOY.cells[0], Cell("on", "grad", "crown", {"batch_size": 8}, start="grad-ibp")))
    centers: list[torch.Tensor | None] = []

    def seconds(_problem: object, _searcher: str, _recipe: Recipe, *, center: torch.Tensor | None) -> float:
        centers.append(center)
        return 1.0

    monkeypatch.setattr(planning, "generation_seconds", seconds)
    make_plan(table, tmp_path, limit=4, seeds=1, train_seconds=3.0)
    problem = DigitsCNN3(method="ibp", batch_size=8, eps=0.1)
    assert centers[0] is None
    assert centers[1] is not None
    recipe = Recipe(**json.loads((tmp_path / "plan.json").read_text())["recipes"]["grad-ibp"])
    assert torch.equal(centers[1], brief_weights(problem, "grad", recipe))
    assert not torch.equal(centers[1], problem.network.parameter_vector())


def test_a_short_training_leaves_fewer_neurons_unstable_and_the_problem_as_it_was() -> None:
    problem = DigitsCNN3(method="ibp", batch_size=64, eps=0.1)
    before = problem.network.parameter_vector().clone()
    recipe = Recipe(generations=10 * BRIEF, popsize=1, stdev_init=0.0, center_learning_rate=0.005)
    trained = brief_weights(problem, "grad", recipe)
    assert torch.equal(problem.network.parameter_vector(), before)
    images, _ = problem.data.split("test").batch(slice(0, 64))
    low, high = (images - 0.1).clamp(0, 1), (images + 0.1).clamp(0, 1)

    def unstable(weights: torch.Tensor) -> int:
        layers = preactivations(problem.network, low, high, method="ibp", params=weights[None])
        return sum(int(((lower < 0) & (upper > 0)).sum()) for lower, upper in layers)

    assert unstable(trained) < unstable(before)


def test_more_images_than_are_kept_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only 3 images are kept"):
        make_plan(TOY, tmp_path, limit=4, validation=3)


def test_every_table_names_a_problem_and_known_numbers_are_fractions() -> None:
    for name, table in TABLES.items():
        assert name == table.name
        assert len(set(table.cell_names)) == len(table.cells)
        for cell in table.cells:
            for value in (cell.published.natural, cell.published.certified):
                assert value is None or 0 < value < 1


def test_settings_and_published_numbers_are_of_cells_that_are_there() -> None:
    published = {
        (table.name, cell.name) for table in TABLES.values() for cell in table.cells if cell.published != Published()
    }
    assert published == {
        ("mnist-0.1", "grad-crown"),
        ("mnist-0.3", "grad-ibp"),
        ("mnist-0.3", "pgpe-crown"),
        ("cifar-2", "grad-ibp"),
        ("cifar-8", "grad-ibp"),
        ("cifar-8", "pgpe-crown"),
    }
    assert set(SHORT) <= {*TABLES["mnist-0.1"].cell_names, *SEARCHERS}


@pytest.mark.parametrize(
    ("clock", "processor", "beside", "share"),
    [
        (10.0, 10.0, 0.0, 0.9),  # alone: what measuring took is missing
        (10.0, 4.0, 0.0, 0.9 / 2.5),  # others take the rest of the machine
        (10.0, 4.0, 30.0, 0.6 / 2.5),  # and certification some of the training's time
        (90.0, 90.0, 0.0, 0.5),  # measuring took nearly all of it: half is trained all the same
        (0.5, 0.1, 0.0, 0.995),  # too short to tell how busy the machine is
    ],
)
def test_a_budget_is_time_on_the_clock(
    clock: float, processor: float, beside: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"perf_counter": 5.0, "process_time": 3.0}
    monkeypatch.setattr(pace, "time", SimpleNamespace(**{name: lambda name=name: now[name] for name in now}))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    look = pace.Pace()
    now.update(perf_counter=5.0 + clock, process_time=3.0 + 2 * processor)  # both threads
    assert look.share(100.0, beside) == pytest.approx(share)


def test_a_busy_machine_gets_fewer_generations_and_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "generation_seconds", lambda _problem, _searcher, _recipe, center: 1.0)
    monkeypatch.setattr(pace.Pace, "slowdown", 2.0)
    monkeypatch.setattr(pace.Pace, "spent", 9.0)
    said: list[str] = []
    plan = make_plan(TOY, tmp_path, seeds=1, budget=120.0, say=said.append)
    assert plan.generations == {"grad-ibp": 20, "pgpe-ibp": 20}  # 45 s each less half of 9 s, at half the speed
    assert said[-1].startswith("estimate: about 120 s, of which measuring took 9 s, training takes 81 s")
    assert said[-1].endswith("a second of work takes 2 s here")
    again = make_plan(TOY, tmp_path, seeds=1, budget=120.0, say=said.append)
    assert again == plan
