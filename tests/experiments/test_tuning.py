"""The search for hyper-parameters: its space, its front, its trials, and that test images play no part in it."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from gls_es.cli.app import app
from gls_es.cli.tune import _shown
from gls_es.data import Dataset, load_digits
from gls_es.errors import ConfigError, DataError, TrainingError
from gls_es.experiments import Search, make_tuning, tuning
from gls_es.experiments.asking import next_point
from gls_es.experiments.front import cells_of_trial, front
from gls_es.experiments.space import Dimension, changes, parsed, space_of, start_of, usual_space
from gls_es.experiments.trials import Trial, read_trials
from gls_es.fitness import LOSSES
from gls_es.problem.recipe import Recipe
from gls_es.problems.sets import Digits
from gls_es.training import load_trained
from gls_es.training.lock import FolderLock


def _trial(number: int, natural: float, certified: float) -> Trial:
    return Trial(Path(f"trial-{number:04d}"), natural=natural, certified=certified)


def _pair(trial: Trial) -> tuple[float, float]:
    return trial.natural or 0.0, trial.certified or 0.0


def test_the_front_is_what_nothing_dominates() -> None:
    draw = random.Random(0)
    for count in (1, 2, 5, 40):
        trials = [_trial(i, draw.randint(0, 6) / 6, draw.randint(0, 6) / 6) for i in range(count)]
        failed = Trial(Path("trial-9999"), failed="no")

        def dominated(trial: Trial, others: list[Trial] = trials) -> bool:
            """By another one that is at least as good in both, and of equals by the first."""
            pair = _pair(trial)
            better = [x for x in others if all(a >= b for a, b in zip(_pair(x), pair, strict=True))]
            return any(_pair(x) != pair or x.number < trial.number for x in better)

        found = front([failed, *trials])
        assert {trial.number for trial in found} == {trial.number for trial in trials if not dominated(trial)}
        assert [t.certified for t in found] == sorted((t.certified for t in found), reverse=True)  # type: ignore[type-var]
    assert front([failed]) == []


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("searcher", ["grad", "rgs", "pgpe"])
def test_every_corner_of_the_usual_space_is_a_recipe(searcher: str, loss: str) -> None:
    base = Recipe(loss=loss, generations=50)
    space = usual_space(searcher, base)
    for ends in (0, -1):
        point = {d.name: (d.choices or (d.low, d.high))[ends] for d in space}
        recipe = base.replaced(**changes(point, base))
        assert 0 <= recipe.natural_until <= recipe.ramp_until <= 50
    own = start_of(space, base)
    for dimension in space:
        assert own[dimension.name] in dimension.choices or dimension.low <= own[dimension.name] <= dimension.high
    assert {"stdev_init", "popsize"} <= {d.name for d in space} or searcher == "grad"


def test_the_search_begins_at_the_recipe() -> None:
    base = Recipe(generations=200, natural_until=20, ramp_until=110, center_learning_rate=0.01, batch_size=64, l1=1e-6)
    space = usual_space("rgs", base)
    start = base.replaced(**changes(start_of(space, base), base))
    for name in ("natural_until", "ramp_until", "center_learning_rate", "batch_size", "l1", "eps_factor"):
        assert getattr(start, name) == pytest.approx(getattr(base, name))
    longer = base.replaced(generations=400)
    assert changes({"natural_share": 0.1, "ramp_share": 0.5}, longer) == {"natural_until": 40, "ramp_until": 220}
    assert changes({"ramp_share": 0.5}, longer) == {"ramp_until": 20 + 190}


def test_dimensions_as_they_are_written() -> None:
    assert parsed("stdev_init=0.01:0.1") == Dimension("stdev_init", 0.01, 0.1, log=True)
    assert parsed("eps-factor=1:1.5") == Dimension("eps_factor", 1, 1.5)
    assert parsed("popsize=1:8") == Dimension("popsize", 1, 8, whole=True)
    assert parsed("batch_size=32|64") == Dimension("batch_size", choices=(32, 64))
    assert parsed("ramp=linear|smooth").choices == ("linear", "smooth")
    for text in ("stdev_init", "stdev=0.1:1", "l1=1:0", "l1=a:b", "popsize=0.5:4", "ramp=flat", "ramp_share=0:2",
                 "generations=1:5"):  # fmt: skip
        with pytest.raises(ConfigError):
            parsed(text)
    base = Recipe()
    names = {d.name for d in space_of("grad", base, settings={"l1": 0.0, "ramp_until": 5})}
    assert names.isdisjoint({"l1", "ramp_share"})
    assert "batch_size" in names
    assert space_of("grad", base, settings={}, search=["l1=0:1"]) == (Dimension("l1", 0, 1),)
    with pytest.raises(ConfigError, match="both searched and set"):
        space_of("grad", base, settings={"ramp_until": 5}, search=["ramp_share=0:1"])


POINTS = ({"center_learning_rate": 0.02, "batch_size": 32}, {"center_learning_rate": 0.003, "batch_size": 64})
SPACE = ("center_learning_rate=0.001:0.1", "batch_size=32|64")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points by number instead of Optuna's."""
    monkeypatch.setattr(tuning, "optuna", lambda: None)
    monkeypatch.setattr(tuning, "next_point", lambda _space, trials, seed: POINTS[len(trials) % 2])


def search(folder: Path, **options: Any) -> Search:
    settings = {"generations": 12} | options.pop("settings", {})
    return Search(
        make_tuning(folder, "digits-cnn3", "grad", settings=settings, search=SPACE, limit=20, method="ibp", **options),
        folder,
    )


@pytest.mark.usefixtures("made")
def test_test_images_play_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same networks come of it if they are white, and what is certified are the last training images."""
    found = search(tmp_path / "one").run(trials=2)
    assert [trial.params for trial in found] == [{"center_learning_rate": 0.01, "batch_size": 64}, POINTS[1]]
    assert [trial.images for trial in found] == [20, 20]
    digits = load_digits()
    white = dataclasses.replace(digits.test, images=torch.full_like(digits.test.images, 16))
    monkeypatch.setattr(Digits, "make_data", lambda _self: dataclasses.replace(digits, test=white))
    seen: list[torch.Tensor] = []
    certify = tuning.certification.certify

    def certified(trained: Any, images: torch.Tensor, labels: torch.Tensor, *args: Any, **options: Any) -> Any:
        seen.append(images)
        return certify(trained, images, labels, *args, **options)

    monkeypatch.setattr(tuning.certification, "certify", certified)
    again = search(tmp_path / "two").run(trials=2)
    for one, two in zip(found, again, strict=True):
        assert torch.equal(*(load_trained(trial.checkpoint).content["center"] for trial in (one, two)))
        assert one.natural == two.natural  # what is certified may be cut short by the clock
    count = len(digits.train) // 5
    wanted, _ = digits.train.batch(slice(len(digits.train) - count, len(digits.train) - count + 20))
    assert all(torch.equal(images, wanted) for images in seen)
    assert isinstance(load_trained(found[0].checkpoint).dataset(None), Dataset)


@pytest.mark.usefixtures("made")
def test_a_search_on_l2_balls_certifies_l2_balls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    certify = tuning.certification.certify

    def certified(*args: Any, **options: Any) -> Any:
        seen.append(options)
        return certify(*args, **options)

    monkeypatch.setattr(tuning.certification, "certify", certified)
    (trial,) = search(tmp_path, settings={"norm": "l2", "eps_factor": 0.5}, eps=0.3).run(trials=1)
    assert trial.finished
    assert [(options["norm"], options["eps"]) for options in seen] == [("l2", 0.3)]


@pytest.mark.usefixtures("made")
def test_a_search_goes_on_and_its_front_is_repeated_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning.certification, "certify", killed)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path).run(trials=2)
    (half,) = read_trials(tmp_path)
    assert (half.open, half.generations) == (True, 12)
    before = half.checkpoint.read_bytes()
    found = search(tmp_path).run(trials=2)
    assert [trial.finished for trial in found] == [True, True]
    assert found[0].checkpoint.read_bytes() == before  # not trained again
    assert search(tmp_path).run(trials=2) == found
    table = json.loads((tmp_path / "front.json").read_text())
    assert table["front"] == [trial.number for trial in front(found)]
    assert len(table["trials"]) == 2
    assert (tmp_path / "front.svg").read_text().count("certified accuracy") == 1
    best = front(found)[0]
    assert cells_of_trial(best)[0] == str(best.number)
    arguments = ["train", "--config", str(best.config), "--out", str(tmp_path / "again"), "--quiet"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    centers = [load_trained(path).content["center"] for path in (best.checkpoint, tmp_path / "again" / "checkpoint.pt")]
    assert torch.equal(*centers)
    with pytest.raises(ConfigError, match="has limit = 20, not 5"):
        make_tuning(tmp_path, "digits-cnn3", "grad", limit=5)
    assert make_tuning(tmp_path, "digits-cnn3", "grad") == search(tmp_path).tuning


@pytest.mark.usefixtures("made")
def test_a_trial_that_fails_is_noted_and_one_in_other_hands_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_args: object, **_options: object) -> None:
        raise TrainingError("every loss is NaN.")

    with monkeypatch.context() as patch:
        patch.setattr(tuning.training, "train", failing)
        (failed,) = search(tmp_path).run(trials=1)
    assert (failed.failed, failed.open, front([failed])) == ("every loss is NaN.", False, [])
    (failed.folder / "result.json").unlink()
    lock = FolderLock(failed.folder / ".lock")
    try:
        assert search(tmp_path).run(trials=1)[0].open
    finally:
        lock.release()
    (failed.folder / "trial.json").write_text("[]")
    with pytest.raises(DataError, match=r"trial\.json: cannot be read"):
        search(tmp_path).run(trials=1)


@pytest.mark.usefixtures("made")
def test_a_budget_is_what_all_trials_take_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(_self: Search, trial: Trial) -> None:
        tuning.write_found(dataclasses.replace(trial, natural=0.5, certified=0.5, unknown=0, images=1, seconds=10.0))

    monkeypatch.setattr(Search, "_work", worked)
    timed = search(tmp_path / "a", budget=400.0, settings={"generations": 12})
    assert timed.tuning.train_seconds is None  # the length is set
    assert len(timed.run(budget=35.0)) == 3
    assert len(timed.run(budget=35.0)) == 3
    assert len(timed.run(budget=50.0)) == 5
    assert len(search(tmp_path / "b").run()) == tuning.TRIALS
    assert len(search(tmp_path / "c").run(budget=1.0)) == 1
    plain = make_tuning(tmp_path / "d", "digits-cnn3", "grad", budget=400.0)
    assert plain.train_seconds == pytest.approx(400 * 0.75 / 20)


def test_optuna_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    arguments = ["tune", "--problem", "digits-cnn3", "--out", str(tmp_path / "new")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "pip install 'gls-es[tune]'" in result.stderr
    assert not (tmp_path / "new").exists()


def test_what_is_asked_lies_in_the_space_and_nears_what_is_good() -> None:
    """Both accuracies fall with the distance of log10 x from -2; x is drawn from 1e-4 to 1."""
    pytest.importorskip("optuna")
    space = (Dimension("l1", 1e-4, 1.0, log=True), Dimension("popsize", 1, 8, whole=True), parsed("ramp=linear|smooth"))
    trials: list[Trial] = []
    for number in range(40):
        point = next_point(space, trials, seed=1)
        assert point == next_point(space, trials, seed=1)
        assert list(point) == ["l1", "popsize", "ramp"]
        assert type(point["popsize"]) is int
        value = 1.0 - abs(math.log10(point["l1"]) + 2) / 4
        trials.append(Trial(Path(f"trial-{number:04d}"), point, natural=value, certified=value))
    assert len({trial.params["l1"] for trial in trials}) == 40
    values = [trial.certified or 0.0 for trial in trials]
    assert sum(values[-10:]) > sum(values[:10]) + 1.0  # random ones have 0.75 on average
    next_point(space, [*trials, Trial(Path("trial-0040"), failed="no")], seed=1)


def test_the_command_prints_the_front(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    arguments = ["tune", "--problem", "digits-cnn3", "--searcher", "rgs", "--method", "ibp", "--trials", "2"]
    arguments += ["--set", "generations=6", "--limit", "10", "--search", "stdev_init=0.01:0.1", "--out", str(tmp_path)]
    found = CliRunner().invoke(app, [*arguments, "--json", "--quiet"])
    assert found.exit_code == 0
    table = json.loads(found.stdout)
    assert [trial["number"] for trial in table["trials"]] == [0, 1]
    assert all(0.01 <= trial["params"]["stdev_init"] <= 0.1 for trial in table["trials"])
    shown = CliRunner().invoke(app, [*arguments, "--quiet"])
    assert "the front of 2 trials, 10 validation images" in shown.stdout
    assert [line.split()[0] for line in shown.stdout.splitlines()[2:]] == [str(number) for number in table["front"]]


def test_the_recipe_that_one_began_with_is_shown_beside_the_front() -> None:
    tuning = SimpleNamespace(problem="digits-cnn3", searcher="rgs", limit=10)
    said = str(_shown(tuning, [_trial(0, 0.9, 0.5), _trial(1, 0.95, 0.6)])[0])
    assert said.endswith("; the recipe as it is, trial 0, has 50.0 certified, 90.0 natural")
    assert "trial 0" not in str(_shown(tuning, [_trial(0, 0.9, 0.7), _trial(1, 0.95, 0.6)])[0])
