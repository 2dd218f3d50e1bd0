"""What a problem's class adds to the arguments of every problem, and how a run sets it."""

from __future__ import annotations

import pickle
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gls_es.data import Split
from gls_es.errors import ConfigError, DataError
from gls_es.problem.options import problem_options, split_overrides
from gls_es.problem.registry import resolve
from gls_es.training import TrainingInterrupted, load_trained, plan, resume, train
from gls_es.training.checkpoint import load_checkpoint
from tests.problem.toys import TRAIN, Blobs, WideBlobs, options
from tests.training.running import StopAfter, assert_same, timeless

WIDE = "tests.problem.toys:WideBlobs"


def test_options_are_what_the_constructors_add() -> None:
    assert problem_options(Blobs) == {"validation": 0, "norm": "linf"}
    assert problem_options(WideBlobs) == {"validation": 0, "norm": "linf", "width": 5}
    cnn7 = {"validation": 0, "norm": "linf", "width": 64, "hidden": 512, "batch_norm": True}
    assert problem_options(resolve("cifar-cnn7")) == cnn7
    assert problem_options(resolve("digits-cnn7")) == cnn7 | {"width": 8, "hidden": 64}
    assert problem_options(resolve("mnist-cnn3-wide")) == {"validation": 0, "norm": "linf", "width": 16}


def test_overrides_are_told_apart() -> None:
    changes = {"popsize": 4, "width": 3, "l1": 0.1}
    assert split_overrides(WideBlobs, changes) == ({"popsize": 4, "l1": 0.1}, {"width": 3})


@pytest.mark.parametrize(
    ("cls", "name", "words"),
    [
        (WideBlobs, "widht", "unknown key 'widht'; did you mean 'width'"),
        (Blobs, "popsiez", "unknown key 'popsiez'; did you mean 'popsize'"),
        (Blobs, "xyz", "unknown key 'xyz'; this problem's options are validation"),
        (Blobs, "lr", "unknown key 'lr'; here it is 'center_learning_rate'"),
        (Blobs, "num_actors", "unknown key 'num_actors'"),
    ],
)
def test_unknown_names(cls: Any, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        split_overrides(cls, {name: 1})


def test_options_travel_with_the_run(tmp_path: Path) -> None:
    """They are in config.toml, in the plan and the checkpoint; resuming and loading need not be told."""
    given = options(width=3, validation=4)
    whole = train(WIDE, out=tmp_path / "whole", generations=8, overrides=given)
    broken = tmp_path / "broken"
    with pytest.raises(TrainingInterrupted):
        train(WIDE, out=broken, generations=8, overrides=given, progress=StopAfter(3))
    again = resume(broken)
    assert_same(timeless(load_checkpoint(whole)), timeless(load_checkpoint(again)))
    assert tomllib.loads((broken / "config.toml").read_text())["options"] == {"validation": 4, "width": 3}
    assert plan(WIDE, overrides=given)["options"] == {"validation": 4, "width": 3}
    trained = load_trained(whole)
    assert trained.network.relu_shapes == [(3,)]
    data = trained.dataset()
    assert (len(data.train), len(data.split("validation"))) == (TRAIN - 4, 4)


def test_figures_during_training_are_about_the_validation_images(tmp_path: Path) -> None:
    checkpoint = train(Blobs, out=tmp_path / "run", generations=4, overrides=options(validation=7))
    trained = load_trained(checkpoint)
    images, labels = trained.dataset().split("validation").batch()
    right = trained.network.module()(images).argmax(1) == labels
    natural = load_checkpoint(checkpoint)["history"]["natural_accuracy"]
    assert natural == float(right.double().mean())
    assert (natural * 7).is_integer()  # of 7 images, not of the 12 to test on


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [(-1, ConfigError, "at least 0"), (2.5, ConfigError, "at least 0"), (TRAIN, DataError, "cannot be for validation")],
)
def test_wrong_validation(value: Any, error: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        train(Blobs, out=tmp_path / "run", overrides={"validation": value})


def test_an_object_has_settled_its_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="width is settled by the problem object"):
        train(WideBlobs(width=3), out=tmp_path / "run", overrides={"width": 4})
    checkpoint = train(WideBlobs(width=3), out=tmp_path / "run", generations=2, overrides={"popsize": 4})
    assert load_trained(checkpoint).network.relu_shapes == [(3,)]


def test_training_images_move_to_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = []
    real = Split.to
    monkeypatch.setattr(Split, "to", lambda self, device: moves.append(device) or real(self, device))
    problem = Blobs(batch_size=4)
    for generation in range(5):
        problem.begin(generation)
        assert len(problem.minibatch) == 4
    assert moves == ["cpu"]
    assert problem._training_images.images.data_ptr() == problem.data.train.images.data_ptr()  # no copy on a CPU
    assert pickle.loads(pickle.dumps(problem))._resident is None  # every process loads its own
