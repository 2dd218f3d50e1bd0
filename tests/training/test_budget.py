"""Time instead of generations, and the best checkpoint instead of the last."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from gls_es.basics.durations import Running
from gls_es.cli.app import app
from gls_es.errors import ConfigError
from gls_es.fitness import Stage
from gls_es.problem.recipe import Recipe
from gls_es.training import Bookkeeping, TrainingInterrupted, loop, plan, resume, settings, timing, train
from gls_es.training.checkpoint import load_checkpoint
from tests.problem.toys import Blobs, options

from .running import BLOBS, Recording, StopAfter, assert_same, timeless


class Noting(Recording):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def tenth(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Generations are measured in earnest, and said to take a tenth of a second; a clock that does not move."""
    measured: list[float] = []
    real = timing.generation_seconds

    def seconds(*args: Any, **kwargs: Any) -> float:
        measured.append(real(*args, **kwargs))
        return 0.1

    monkeypatch.setattr(timing, "generation_seconds", seconds)
    still = SimpleNamespace(perf_counter=lambda: 0.0, process_time=lambda: 0.0)
    monkeypatch.setattr(timing, "time", still)
    monkeypatch.setattr(settings, "time", still)
    return measured


def test_phases_keep_their_share_of_the_time(tenth: list[float]) -> None:
    """100 s are 1000 generations; the recipe of 40 has its phases at a quarter and a half."""
    recipe = Recipe(generations=40, popsize=6, batch_size=8, natural_until=10, ramp_until=20, learning_rate_drops=(30,))
    planned = timing.fitted(Blobs(batch_size=8), "pgpe", recipe, 100.0)
    found = planned.recipe
    assert (found.generations, found.natural_until, found.ramp_until) == (1000, 250, 500)
    assert found.learning_rate_drops == (750,)
    assert found.replaced(**{n: getattr(recipe, n) for n in (*timing_fields(), "learning_rate_drops")}) == recipe
    assert len(tenth) == 2  # with the first weights, and with briefly trained ones
    assert all(seconds >= 0 for seconds in tenth)
    assert str(planned).startswith("planned: 1000 generations of 0.1 s, about 100 s in all (natural until 250, full")


def timing_fields() -> tuple[str, ...]:
    return "generations", "natural_until", "ramp_until"


def test_a_run_with_a_budget_is_the_run_of_that_many_generations(tmp_path: Path, tenth: list[float]) -> None:
    """Measuring leaves no trace, and a stopped run goes on bit for bit."""
    progress = Noting()
    end = train(BLOBS, out=tmp_path / "budget", budget="1.25s", overrides=options(), progress=progress)
    share = 12 / Recipe().generations
    phases = {name: round(options()[name] * share) for name in ("natural_until", "ramp_until")}
    plain = train(BLOBS, out=tmp_path / "plain", generations=12, overrides=options() | phases)
    assert_same(timeless(load_checkpoint(end)), timeless(load_checkpoint(plain)))
    assert progress.notes[0].startswith("planned: 12 generations of 0.1 s, about 1.25 s in all")
    assert progress.plans[0]["budget_seconds"] == 1.25
    with pytest.raises(TrainingInterrupted):
        train(BLOBS, out=tmp_path / "broken", budget=1.25, overrides=options(), progress=StopAfter(5))
    assert_same(timeless(load_checkpoint(resume(tmp_path / "broken"))), timeless(load_checkpoint(plain)))


def test_what_came_before_the_measurement_is_part_of_the_time(tenth: list[float]) -> None:
    """The clock stands at 0: three seconds are over."""
    recipe = Recipe(popsize=2, batch_size=8)
    assert timing.fitted(Blobs(), "rgs", recipe, 10.0).recipe.generations == 100
    assert timing.fitted(Blobs(), "rgs", recipe, 10.0, began=-3.0).recipe.generations == 70


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the generations move, each by the next number of a list, the last one's again and again."""
    now, steps = [0.0], [0.0]

    def step(_search: object) -> None:
        now[0] += steps.pop(0) if len(steps) > 1 else steps[0]

    clock = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0])
    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(timing, "run_generation", step)
    return steps


THREE_PHASES = Recipe(generations=30, popsize=2, batch_size=8, natural_until=10, ramp_until=20)


@pytest.mark.parametrize(
    ("budget", "steps", "spent", "generations"),
    [
        (60.0, [12.0, 4.0], 16.0, 11),  # two more are too many: they would end at 24 s
        (60.0, [6.0, 2.0, 2.0, 1.0, 2.0, 0.0], 13.0, 47),  # 2, 1 and 2, 0 s in the phases: 1 s each
    ],
)
def test_measuring_takes_a_third_of_the_time_and_no_more(
    budget: float, steps: list[float], spent: float, generations: int, stepped: list[float]
) -> None:
    """From the last phase to the first, each of them after one generation that does not count."""
    stepped[:] = [*steps]
    planned = timing.fitted(Blobs(), "rgs", THREE_PHASES, budget)
    assert budget - planned.seconds == pytest.approx(spent)
    assert planned.recipe.generations == generations


@pytest.mark.parametrize(("each", "generations"), [(4.0, 1), (2.0, 2)])
def test_a_hopeless_budget_is_refused_after_one_generation_or_two(
    each: float, generations: int, stepped: list[float]
) -> None:
    stepped[:] = [each]
    with pytest.raises(ConfigError, match=rf"took {each * generations:.3g} s, a generation takes .*method=\"ibp\""):
        timing.fitted(Blobs(method="crown"), "rgs", THREE_PHASES, 5.0)


def test_budgets_that_make_no_sense(tenth: list[float]) -> None:
    with pytest.raises(ConfigError, match="budget and generations both say how long"):
        plan(BLOBS, budget="10m", generations=5)
    with pytest.raises(ConfigError, match=r"takes 0.1 s, and 5 fit into the rest; give at least 1.1 s"):
        plan(BLOBS, budget=0.5, overrides=options())
    for wrong in ("soon", "10 parsecs", 0, -3.0, float("nan"), True, "0m"):
        with pytest.raises(ConfigError, match=r"budget must be a positive time, 90s, 10m or 1\.5h say"):
            plan(BLOBS, budget=wrong)
    assert plan(BLOBS, budget="0.5m", overrides=options())["generations"] == 300
    assert len(tenth) == 2


def test_what_is_over_of_a_budget_is_said_to_be(tenth: list[float]) -> None:
    """As on the command line, where it begins before the imports."""
    with pytest.raises(ConfigError, match=r"a budget of 10 s .*: start and measurement took 9\.5 s, .* and 5 fit into"):
        plan(BLOBS, budget=Running.begun(10.0, -9.5), overrides=options())
    assert plan(BLOBS, budget=Running.begun(10.0, -4.0), overrides=options())["generations"] == 60


ACCURACIES = [(0.5, 0.9), (0.25, 1.0), (0.75, 0.8), (0.75, 0.8), (0.75, 0.9), (0.5, 1.0)]
"""Certified and natural accuracy by evaluation; the fifth is the best."""


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: Iterator[tuple[float, float]] = iter(ACCURACIES * 2)

    def row(*_args: object, **_options: object) -> Mapping[str, float]:
        certified, natural = next(rows)
        return {"natural_accuracy": natural, "certified_accuracy": certified}

    monkeypatch.setattr(loop, "center_row", row)


@pytest.mark.usefixtures("scripted")
def test_the_best_checkpoint_by_validation_is_kept(tmp_path: Path) -> None:
    """Also over a stop, and although the run saves after every generation."""
    book = Bookkeeping(keep="best", save_every=0)
    changes = options(evaluate_every=2, validation=6)
    with pytest.raises(TrainingInterrupted):
        train(BLOBS, out=tmp_path, generations=12, overrides=changes, bookkeeping=book, progress=StopAfter(7))
    assert load_checkpoint(tmp_path / "best.pt")["generation"] == 6
    assert load_checkpoint(tmp_path / "checkpoint.pt")["best"] == [0.75, 0.8]
    resume(tmp_path)
    best = load_checkpoint(tmp_path / "best.pt")
    assert best["generation"] == 10
    assert best["history"] == {"natural_accuracy": 0.9, "certified_accuracy": 0.75}
    assert load_checkpoint(tmp_path / "checkpoint.pt")["generation"] == 12


def test_test_images_never_choose(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Test images never choose"):
        train(BLOBS, out=tmp_path / "run", overrides=options(), bookkeeping=Bookkeeping(keep="best"))
    assert not (tmp_path / "run").exists()
    train(BLOBS, out=tmp_path / "run", generations=2, overrides=options())
    with pytest.raises(ConfigError, match="Test images never choose"):
        resume(tmp_path / "run", generations=4, bookkeeping=Bookkeeping(keep="best"))
    with pytest.raises(ConfigError, match="keep must be a number of checkpoints >= 0, or \"best\", not 'worst'"):
        Bookkeeping(keep="worst")


def test_the_command_line_takes_both(tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        found = CliRunner().invoke(app, ["train", "--problem", BLOBS, *map(str, arguments)])
        assert found.exit_code == 2, found.stderr
        return " ".join((found.stderr + found.stdout).split())

    assert "--set validation=500" in said("--keep", "best", "--out", tmp_path / "run")
    assert "neither a number of checkpoints nor best" in said("--keep", "worst")
    assert "give one of them" in said("--budget", "1m", "--generations", 3)


@pytest.mark.parametrize(("method", "notes"), [("crown", 1), ("ibp", 0)])
def test_slow_generations_are_pointed_out_once(
    method: str, notes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SLOW", 0.0)
    progress = Noting()
    train(BLOBS, out=tmp_path / "run", generations=6, method=method, overrides=options(), progress=progress)
    assert sum("--method crown-ibp" in note for note in progress.notes) == notes


@pytest.mark.parametrize(
    ("seconds", "stand_in", "said"),
    [
        ([40, 0.1, 0.1, 0.1], "", []),  # what is set up once
        ([1, 1, 9, 1, 1], "", []),  # one generation with an evaluation, or with a busy machine
        ([40, 3, 5, 6], "", [2]),
        ([3, 3, 3], "crown-ibp", []),  # the cheaper relaxation does most of the work already
    ],
)
def test_advice_is_given_for_generations_that_are_slow_again_and_again(
    seconds: list[float], stand_in: str, said: list[int]
) -> None:
    adviser = timing.Adviser()
    assert adviser.hint(Stage(0.0, 0.0, "crown"), 60.0) == ""  # natural training bounds nothing
    stage = Stage(0.1, 0.0, "crown", stand_in=stand_in)
    hints = [adviser.hint(stage, each) for each in seconds]
    assert [number for number, hint in enumerate(hints, 1) if hint] == said
    assert all("takes about 3 s: crown" in hint and 'method="crown-ibp"' in hint for hint in hints if hint)


@pytest.mark.parametrize(("method", "hinted"), [("crown", True), ("ibp", False)])
def test_a_budget_that_is_short_for_the_relaxation_is_pointed_out(
    method: str, hinted: bool, tenth: list[float]
) -> None:
    recipe = Recipe(generations=3000, popsize=2, batch_size=8)
    short, enough = (str(timing.fitted(Blobs(method=method), "rgs", recipe, seconds)) for seconds in (20.0, 60.0))
    assert ("leaves time for few: --method ibp" in short) == hinted
    assert "leaves time for few" not in enough
