"""Starting from somebody's weights: the right ones, in their places, or an error that says what does not fit."""

import tomllib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gls_es.errors import CheckpointError
from gls_es.training import Bookkeeping, TrainingInterrupted, load_trained, plan, resume, train
from gls_es.training.checkpoint import load_checkpoint, save_checkpoint
from tests.problem.normed import NormedBlobs
from tests.problem.toys import Blobs, ScaledBlobs, WideBlobs, perceptron

from .running import StopAfter, assert_same, edited, run, timeless

ONCE = Bookkeeping(save_every=0, keep=100)
SCALED = "tests.problem.toys:ScaledBlobs"


def first(run: Path) -> dict[str, Any]:
    """The state before the first generation."""
    return load_checkpoint(run / "checkpoint-0000000.pt")


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    source = run(tmp_path / "source", seed=1, average_decay=0.9)
    trained = load_checkpoint(source)
    checkpoint = run(tmp_path / "run", searcher="rgs", seed=2, init=source, bookkeeping=ONCE)
    begun = first(tmp_path / "run")
    assert torch.equal(begun["center"], trained["center"])
    assert torch.equal(begun["searcher_state"]["center"], trained["center"])  # the mean, which is the result
    assert begun["generation"] == 0
    assert begun["searcher_state"]["steps"] == 0
    assert not begun["searcher_state"]["optimizer"]  # Adam has seen nothing yet
    recorded = f"{source.resolve()}@sha256:{trained['digest']}"
    assert load_checkpoint(checkpoint)["init"] == recorded
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["init"] == recorded
    again = run(tmp_path / "again", searcher="rgs", seed=2, init=recorded, bookkeeping=ONCE)
    assert_same(timeless(load_checkpoint(checkpoint)), timeless(load_checkpoint(again)))


def test_a_resumed_run_keeps_its_start(tmp_path: Path) -> None:
    """Other buffers than the problem makes come with the start, and must be there after resuming, too."""
    run(tmp_path / "source", problem=SCALED)
    buffers = load_checkpoint(tmp_path / "source" / "checkpoint.pt")["buffers"]
    (mean,) = (name for name in buffers if name.endswith("mean"))
    source = edited(tmp_path / "source", buffers=buffers | {mean: buffers[mean] + 0.1}) / "checkpoint.pt"
    straight = run(tmp_path / "straight", problem=SCALED, init=source)
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "broken", problem=SCALED, init=source, progress=StopAfter(5))
    again = resume(tmp_path / "broken")
    assert_same(timeless(load_checkpoint(straight)), timeless(load_checkpoint(again)))
    assert torch.equal(load_checkpoint(again)["buffers"][mean], buffers[mean] + 0.1)


def test_a_state_dict_will_do(tmp_path: Path) -> None:
    """Of a module with BatchNorm: its statistics count, its number of batches does not."""
    module = NormedBlobs().make_network()
    module(torch.rand(20, 4))  # in training mode: moves the statistics
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    checkpoint = run(
        tmp_path / "run", problem=NormedBlobs, searcher="grad", init=tmp_path / "weights.pt", bookkeeping=ONCE
    )
    begun = first(tmp_path / "run")
    assert torch.equal(begun["center"], nn.utils.parameters_to_vector(module.parameters()).detach())
    assert torch.equal(begun["buffers"]["1.running_mean"], module.state_dict()["1.running_mean"])
    trained = load_trained(checkpoint)
    module.load_state_dict(trained.network.module().state_dict())
    images, _ = trained.dataset().test.batch()
    assert torch.allclose(trained.network.logits(images)[0], module.eval()(images), atol=1e-5)


def test_the_order_in_the_file_does_not_matter(tmp_path: Path) -> None:
    module = perceptron()
    torch.save(OrderedDict(reversed(module.state_dict().items())), tmp_path / "weights.pt")
    run(tmp_path / "run", init=tmp_path / "weights.pt", bookkeeping=ONCE)
    assert torch.equal(first(tmp_path / "run")["center"], nn.utils.parameters_to_vector(module.parameters()).detach())


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


STATE = perceptron().state_dict()
OTHERS: dict[str, tuple[Any, str]] = {
    "shapes": (
        perceptron(5).state_dict(),
        r"not fit the network, 0\.weight is \(5, 4\) and not \(6, 4\); 0\.bias",
    ),
    "lacking": ({name: tensor for name, tensor in STATE.items() if name != "2.bias"}, r"it lacks 2\.bias"),
    "besides": (STATE | {"bn.mean": torch.ones(1)}, r"it has also bn\.mean"),
    "transposed": (STATE | {"0.weight": torch.ones(4, 6)}, r"0\.weight is \(4, 6\)"),
    "not finite": (STATE | {"0.bias": torch.full((6,), float("nan"))}, "not finite"),
    "no tensors": ({"epoch": 3}, "holds no named tensors"),
    "nested": ({"state_dict": dict(STATE)}, "holds no named tensors"),
    "empty": ({}, "holds no named tensors"),
    "a module": (perceptron(), "a checkpoint holds only data"),
    "a list": ([1.0], "written by something else"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_files_that_do_not_fit(tmp_path: Path, kind: str) -> None:
    content, message = OTHERS[kind]
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        run(tmp_path / "run", init=tmp_path / "weights.pt")
    assert str(tmp_path / "weights.pt") in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_checkpoints_that_are_no_start(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        plan(Blobs, init=tmp_path / "missing.pt")
    save_checkpoint(tmp_path / "center.pt", {"center": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="has no parameters, buffers"):
        plan(Blobs, init=tmp_path / "center.pt")


def test_another_version_of_the_file_is_refused(tmp_path: Path) -> None:
    source = run(tmp_path / "source")
    recorded = f"{source}@sha256:{load_checkpoint(source)['digest']}"
    resume(tmp_path / "source", generations=14)
    with pytest.raises(CheckpointError, match="is not the file it was, its SHA-256 is now"):
        plan(Blobs, init=recorded)
    assert plan(Blobs, init=source)["init"].startswith(str(source.resolve()))


def test_a_problem_object_takes_the_weights(tmp_path: Path) -> None:
    source = train(WideBlobs(9), "grad", out=tmp_path / "source", generations=3)
    wide = WideBlobs(9, seed=5)
    assert plan(wide, init=source)["parameters"] == wide.solution_length
    assert torch.equal(wide.network.parameter_vector(), load_checkpoint(source)["center"])
    with pytest.raises(CheckpointError, match=r"\(9, 4\) and not \(5, 4\)"):
        plan(WideBlobs, init=source)


def test_buffers_come_in_the_place_of_the_networks_own() -> None:
    network = ScaledBlobs().network
    moved = {name: buffer + 0.25 for name, buffer in network.buffers().items()}
    center = network.parameter_vector() * 2
    other = network.holding(center, moved)
    x = torch.rand(5, 4)
    assert torch.equal(other.parameter_vector(), center)
    assert torch.allclose(other.logits(x)[0], other.module()(x), atol=1e-5)
    assert not torch.allclose(other.logits(x), network.logits(x, center[None]))
    assert {n: float(b.sum()) for n, b in network.buffers().items()} != {n: float(b.sum()) for n, b in moved.items()}
