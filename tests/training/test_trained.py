"""From a checkpoint back to the network, the problem and its data."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

import gls_es
from gls_es.errors import CheckpointError, ConfigError
from gls_es.training import load_trained, resume, train
from gls_es.training.checkpoint import load_checkpoint
from gls_es.training.names import in_run
from tests.problem.toys import ScaledBlobs, WideBlobs

from .running import edited, run


@pytest.mark.parametrize("given", ["class", "name", "object"])
def test_a_problem_with_an_argument_of_its_own_trains_and_comes_back(tmp_path: Path, given: str) -> None:
    problem = {"class": WideBlobs, "name": "tests.problem.toys:WideBlobs", "object": WideBlobs(9, seed=1)}[given]
    checkpoint = train(problem, out=tmp_path / "run", generations=6)
    trained = load_trained(checkpoint)
    width = 9 if given == "object" else 5
    assert trained.problem.width == width
    assert trained.network.num_parameters == 4 * width + width + width * 3 + 3
    assert torch.equal(trained.network.parameter_vector(), trained.content["center"])
    assert trained.problem_name == "tests.problem.toys:WideBlobs"
    assert trained.content["recipe"]["popsize"] == 6  # the class' own recipe
    assert trained.content["recipe"]["ramp_until"] == 3  # for 6 generations instead of 40
    assert torch.equal(load_checkpoint(resume(tmp_path / "run"))["center"], trained.content["center"])


def test_a_trained_network_computes_what_was_trained(tmp_path: Path) -> None:
    made = ScaledBlobs(seed=2)
    checkpoint = train(made, out=tmp_path / "run", generations=4, overrides={"popsize": 4})
    trained = load_trained(checkpoint)
    images, _ = trained.dataset().test.batch()
    wanted = made.network.logits(images, trained.content["center"][None])
    assert torch.equal(trained.network.logits(images), wanted)
    assert (trained.eps, trained.method) == (made.eps, made.method)


def test_buffers_are_the_checkpoints(tmp_path: Path) -> None:
    """Normalisation as it was in training, whatever the problem's code says now."""
    train(ScaledBlobs, out=tmp_path / "run", generations=2, overrides={"popsize": 4})
    buffers = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["buffers"]
    (name,) = (name for name in buffers if name.endswith("mean"))
    buffers[name] = buffers[name] + 0.3
    trained = load_trained(edited(tmp_path / "run", buffers=buffers) / "checkpoint.pt")
    images, _ = trained.dataset().test.batch()
    assert torch.allclose(trained.network.logits(images)[0], trained.network.module()(images), atol=1e-5)
    fresh = ScaledBlobs().network.module(trained.content["center"])
    assert torch.allclose(trained.network.logits(images)[0], fresh(images - 0.3), atol=1e-5)


def test_a_network_trained_on_another_device_loads_on_the_cpu(tmp_path: Path) -> None:
    run(tmp_path / "run")
    arguments = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["problem_args"] | {"device": "cuda:77"}
    trained = load_trained(edited(tmp_path / "run", problem_args=arguments) / "checkpoint.pt")
    assert str(trained.problem.device) == "cpu"


def test_code_in_a_file_runs_only_if_the_user_names_the_file(tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text("from tests.problem.toys import Blobs\nclass Mine(Blobs):\n    eps = 0.2\n")
    name = f"{source}:Mine"
    checkpoint = run(tmp_path / "run", problem=name)
    source.write_text("raise SystemExit('executed')\n")
    sys.modules.pop(next(m for m in sys.modules if m.startswith("gls_es_problem_mine")))
    for use in (lambda: load_trained(checkpoint), lambda: resume(tmp_path / "run")):
        with pytest.raises(CheckpointError, match=f"if you trust that file, name it: --problem {name}"):
            use()
    source.write_text("from tests.problem.toys import Blobs\nclass Mine(Blobs):\n    eps = 0.2\n")
    assert load_trained(checkpoint, problem=name).eps == 0.2
    assert resume(tmp_path / "run", problem=name) == checkpoint


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"center": torch.zeros(3)}, CheckpointError, "holds 3 weights, but the network of .*toys:Blobs', .* has 51"),
        ({"buffers": None, "eps": None}, CheckpointError, r"not the checkpoint of a training run .*eps, buffers"),
        ({"buffers": {"mean": torch.zeros(1)}}, CheckpointError, "the network has no buffer 'mean'"),
        ({"problem": "gone"}, CheckpointError, "unknown problem 'gone'"),
        ({"problem_args": {"width": 2}}, CheckpointError, "Blobs cannot be rebuilt"),
    ],
)
def test_checkpoints_that_do_not_fit(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    run(tmp_path / "run")
    with pytest.raises(error, match=message):
        load_trained(edited(tmp_path / "run", **changes) / "checkpoint.pt")


def test_load_gives_the_trained_module(tmp_path: Path) -> None:
    """From the file, from its folder, and with the module where the run has nothing else to make one of."""
    checkpoint = train(WideBlobs, out=tmp_path / "run", generations=2)
    center = load_checkpoint(checkpoint)["center"]
    for path in (checkpoint, tmp_path / "run"):
        module = gls_es.load(path)
        assert not module.training
        assert torch.equal(parameters_to_vector(module.parameters()), center)
    own = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    data = (torch.rand(20, 4), torch.arange(20) % 2)
    trained = gls_es.train(own, data, eps="1/100", generations=2, out=tmp_path / "own")
    with pytest.raises(CheckpointError, match="give the module again"):
        gls_es.load(trained.run)
    again = gls_es.load(trained.run, own)
    assert torch.equal(again(data[0]), trained.module(data[0]))
    with pytest.raises(ConfigError, match="not both"):
        gls_es.load(trained.run, own, problem=WideBlobs)


def test_a_folder_stands_for_its_best_checkpoint(tmp_path: Path) -> None:
    assert in_run(tmp_path) is None
    (tmp_path / "checkpoint.pt").touch()
    assert in_run(tmp_path) == tmp_path / "checkpoint.pt"
    (tmp_path / "best.pt").touch()
    assert in_run(tmp_path) == tmp_path / "best.pt"
