"""One call for a module and data that somebody has: the run that a problem class would be."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gls_es
from gls_es.errors import CheckpointError, ConfigError, DataError
from gls_es.network import Network
from gls_es.problem import CertifiedTrainingProblem
from gls_es.training import TrainingInterrupted, load_trained, owned, resume
from gls_es.training.checkpoint import load_checkpoint
from tests.problem.toys import blobs, options, perceptron

from .running import StopAfter, assert_same, timeless

DATA = blobs()
SMALL = options(popsize=4)


def module(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return perceptron()


class Written(CertifiedTrainingProblem):
    """The same by hand."""

    method = "crown-ibp"

    def make_network(self) -> nn.Module:
        return module()

    def make_data(self) -> gls_es.Dataset:
        return DATA


@pytest.mark.parametrize("searcher", ["rgs", "snes"])
def test_it_is_the_run_of_a_problem_class(tmp_path: Path, searcher: str) -> None:
    """Same weights to the last bit; the module that was handed over stays as it was."""
    net = module()
    before = [parameter.clone() for parameter in net.parameters()]
    done = gls_es.train(
        net, DATA, eps=0.05, searcher=searcher, generations=6, out=tmp_path / "one", overrides=SMALL, seed=3
    )
    recipe = {k: v for k, v in load_checkpoint(done.checkpoint)["recipe"].items() if k != "generations"}
    other = gls_es.train(Written, searcher, eps=0.05, generations=6, out=tmp_path / "two", overrides=recipe, seed=3)
    one, two = load_checkpoint(done.checkpoint), load_checkpoint(other)
    assert torch.equal(one["center"], two["center"])
    assert (one["history"], one["eps"], one["data_digest"]) == (two["history"], two["eps"], two["data_digest"])
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    points, _ = DATA.test.batch()
    torch.testing.assert_close(Network(done.module, (4,)).parameter_vector(), one["center"])
    logits = done.module(points)
    assert not torch.equal(logits, net(points))
    assert done.natural_accuracy == one["history"]["natural_accuracy"]
    assert (done.run, done.generations, done.eps) == (tmp_path / "one", 6, 0.05)
    assert sorted(path.name for path in done.run.iterdir() if path.suffix) == [
        "checkpoint.pt", "config.toml", "metrics.jsonl",
    ]  # fmt: skip
    assert "6 generations" in str(done)


def test_every_form_of_data_trains_and_certifies_alike(tmp_path: Path) -> None:
    images, labels = DATA.train.batch()
    held = DATA.test.batch()
    forms: list[Any] = [
        (images, labels),
        (images.numpy(), labels.tolist()),
        DataLoader(TensorDataset(images, labels), batch_size=3, shuffle=True),
    ]
    found = []
    for number, data in enumerate(forms):
        done = gls_es.train(
            module(), data, held_out=held, eps=0.05, generations=4, out=tmp_path / str(number), overrides=SMALL
        )
        found.append(load_checkpoint(done.checkpoint))
    assert_same(timeless(found[0]), timeless(found[1]))
    assert_same(timeless(found[0]), timeless(found[2]))
    by_hand = gls_es.certify(done.module, *held, eps=0.05)
    loader = DataLoader(TensorDataset(*held), batch_size=5)
    for report in (
        gls_es.certify(done.module, loader, 0.05),
        gls_es.certify(done.module, loader, eps=0.05),
        gls_es.certify(done.module, held[0].numpy(), held[1].numpy(), 0.05),
    ):
        assert [v.verdict for v in report.verdicts] == [v.verdict for v in by_hand.verdicts]


def test_the_radius_may_be_the_third_argument_whatever_it_is() -> None:
    """After what holds images and labels: a text, a list, a tensor, a fraction; images alone have labels there."""
    net, (points, labels) = module(), DATA.test.batch()
    split, tensors = gls_es.data.Split(points, labels, 1.0), TensorDataset(points, labels)
    sources: list[Any] = [(points, labels), [points, labels.numpy()], (points.tolist(), labels.tolist())]
    sources += [split, tensors, DataLoader(tensors, batch_size=5), [tensors[i] for i in range(len(tensors))]]
    sources += [
        DataLoader(tensors, batch_size=5, collate_fn=lambda items: tuple(map(torch.stack, zip(*items, strict=True))))
    ]
    for radius in ("8/255", [0.02, 0.0, 0.02, 0.01], torch.tensor([0.02, 0.0, 0.02, 0.01]), Fraction(8, 255)):
        wanted = gls_es.certify(net, points, labels, radius, stages=("ibp",))
        for source in sources:
            found = gls_es.certify(net, source, radius, stages=("ibp",))
            assert (found.eps, [v.verdict for v in found.verdicts]) == (
                wanted.eps,
                [v.verdict for v in wanted.verdicts],
            )
    for images in (points, points.numpy(), list(points)):
        with pytest.raises(ConfigError, match="certify\\(\\) needs eps"):
            gls_es.certify(net, images, labels)
    with pytest.raises(DataError, match="images come without labels"):
        gls_es.certify(net, points, "8/255")


def test_channels_may_come_last(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    images = torch.randint(0, 256, (12, 4, 4, 3), dtype=torch.uint8).numpy()
    labels = torch.arange(12).numpy() % 3
    done = gls_es.train(net, (images, labels), eps=0.01, generations=2, out=tmp_path / "run", overrides=SMALL)
    assert load_checkpoint(done.checkpoint)["input_shape"] == [3, 4, 4]
    first = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    report = gls_es.certify(done.module, images, labels, 0.01)
    by_hand = gls_es.certify(done.module, first, labels.tolist(), 0.01)
    last = gls_es.certify(done.module, first.permute(0, 2, 3, 1), torch.from_numpy(labels), 0.01)
    for other in (by_hand, last):
        assert [v.verdict for v in report.verdicts] == [v.verdict for v in other.verdicts]


def _said(error: Exception) -> str:
    """The call between the backticks of a message."""
    return str(error).split("`")[1]


def test_a_stopped_run_goes_on_when_both_are_given_again(tmp_path: Path) -> None:
    """By the very call that the messages print, which the folder of such a run prints, too."""
    arguments: dict[str, Any] = {"eps": 0.05, "generations": 6, "overrides": SMALL}
    straight = gls_es.train(module(), DATA, out=tmp_path / "straight", **arguments)
    with pytest.raises(TrainingInterrupted) as stopped:
        gls_es.train(module(), DATA, out=tmp_path / "broken", progress=StopAfter(3), **arguments)
    assert len(stopped.traceback) == 2, "the user's line, and gls_es.train"
    with pytest.raises(CheckpointError, match=r"whose module is not in the file; give the module again.*owned\(module"):
        resume(tmp_path / "broken")
    again = eval(_said(stopped.value), {"gls_es": gls_es, "module": module(), "data": DATA})
    assert_same(timeless(load_checkpoint(straight.checkpoint)), timeless(load_checkpoint(again)))
    with pytest.raises(CheckpointError, match="the data are not those the run began with; give owned"):
        resume(tmp_path / "broken", problem=owned(module(), blobs(1)), generations=9)
    with pytest.raises(ConfigError, match=r"or choose another folder \(--out, or out=\)") as held:
        gls_es.train(module(), DATA, out=tmp_path / "broken", **arguments)
    assert _said(held.value) == _said(stopped.value)
    with pytest.raises(TrainingInterrupted) as stopped:
        gls_es.train(module(), DATA.train, held_out=DATA.test, out=tmp_path / "two", progress=StopAfter(1), **arguments)
    given = {"gls_es": gls_es, "module": module(), "data": DATA.train, "held_out": DATA.test}
    assert load_checkpoint(eval(_said(stopped.value), given))["generation"] == 6


def test_a_checkpoint_is_certified_with_the_module_given_again(tmp_path: Path) -> None:
    done = gls_es.train(module(), DATA, eps=0.05, generations=3, out=tmp_path / "run", overrides=SMALL)
    points, labels = DATA.test.batch()
    with pytest.raises(
        CheckpointError, match=r"again.*to certify gls_es\.certify\(gls_es\.load\(run, module\), loader"
    ):
        gls_es.certify(done.checkpoint, points, labels, 0.05)
    trained = load_trained(done.checkpoint, problem=owned(module(seed=7)))
    report = gls_es.certify(trained, points, labels, 0.05)
    assert report.natural_accuracy == gls_es.certify(done.module, points, labels, 0.05).natural_accuracy
    with pytest.raises(CheckpointError, match=r"holds 51 weights, but the network of .*ModuleProblem.*, has 27"):
        load_trained(done.checkpoint, problem=owned(perceptron(3)))


def test_with_a_validation_split_the_best_one_is_the_result(tmp_path: Path) -> None:
    done = gls_es.train(
        module(), DATA, eps=0.05, generations=12, validation=6, out=tmp_path / "run",
        overrides=SMALL | {"evaluate_every": 2, "center_learning_rate": 0.5},
    )  # fmt: skip
    best = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["best"]
    assert done.checkpoint.name == "best.pt"
    assert [done.certified_accuracy, done.natural_accuracy] == best


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the network has 3 logits, the data 5 classes"):
        gls_es.train(module(), (torch.rand(8, 4), torch.full((8,), 4)), eps=0.1, out=tmp_path / "run")
    with pytest.raises(DataError, match=r"takes no image of shape \(7,\)"):
        gls_es.train(module(), (torch.rand(8, 7), torch.zeros(8)), eps=0.1, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="certify\\(\\) needs eps"):
        gls_es.certify(module(), torch.rand(2, 4), [0, 1])
    with pytest.raises(DataError, match="images come without labels"):
        gls_es.certify(module(), torch.rand(2, 4), 0.1)
    with pytest.raises(ConfigError, match=r"module must be an nn\.Module, not str"):
        owned("net")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"gls_es.train\(module, data, eps=...\): .*'eps'"):
        gls_es.train(module(), DATA, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"'popsize'; hyper-parameters go into overrides=\{'popsize': ...\}"):
        gls_es.train(module(), DATA, eps=0.1, popsize=3, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_progress_true_writes_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gls_es.train(module(), DATA, eps=0.05, generations=3, out=tmp_path / "run", overrides=SMALL, progress=True)
    told = capsys.readouterr()
    assert told.out == ""
    assert "training: problem" in told.err
    assert "generation 3/3" in told.err
