"""Training on radii of pixels and on L2 balls: the regions are those asked for, and a run goes on with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import gls_es
from gls_es.bounds import Box, box_margins, entry_box
from gls_es.cli.app import app
from gls_es.errors import ConfigError
from gls_es.fitness.attack import adversarial_points
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.fitness.sabr import small_boxes
from gls_es.training import load_trained, owned, resume
from tests.problem.toys import Blobs

RADII = [0.0, 0.1, 0.2, 0.05]


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def data() -> tuple[Tensor, Tensor]:
    """The class is said by the first pixel alone; the last one copies it, but only as long as nobody touches it."""
    x = torch.rand(400, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0.5).long()
    x[:, 3] = y.float()
    return x, y


class Columns(Blobs):
    """A problem with a radius for each column."""

    eps: Any = torch.tensor([0.1, 0.0, 0.2, 0.0])


def test_the_fitness_is_that_of_the_boxes_with_these_radii() -> None:
    problem = Columns(method="ibp", seed=1)
    assert problem.eps == pytest.approx(0.2)
    problem.begin(0)
    images, labels = problem.minibatch.images, problem.minibatch.labels
    reach = Columns.eps
    box = Box.between((images - reach).clamp(min=0), (images + reach).clamp(max=1))
    params = problem.network.parameter_vector()[None]
    wanted = robust_cross_entropy(box_margins(problem.network, entry_box(problem.network, box), labels, params, method="ibp"))  # fmt: skip # noqa: E501
    assert torch.allclose(problem.losses(params), wanted.mean(1), rtol=1e-5)


def test_attacks_stay_within_the_radii_of_pixels() -> None:
    problem = Columns(loss="sabr", seed=1)
    problem.begin(0)
    batch = problem.minibatch
    params = problem.network.parameter_vector()[None]
    points = adversarial_points(problem.network, batch, params)
    moved = (points - batch.images).abs().amax((0, 1))
    assert (moved <= Columns.eps + 1e-6).all()
    assert (moved[Columns.eps > 0] > 0.01).all()
    lower, upper = small_boxes(batch, points)
    assert (((batch.images - lower).amax((0, 1)) <= Columns.eps + 1e-6) & ((upper - batch.images).amax((0, 1)) <= Columns.eps + 1e-6)).all()  # fmt: skip # noqa: E501


@pytest.mark.parametrize("region", [{"eps": RADII}, {"eps": 0.25, "norm": "l2"}], ids=["pixels", "l2"])
def test_a_module_is_trained_certified_and_trained_further(tmp_path: Path, region: dict[str, Any]) -> None:
    own = module()
    trained = gls_es.train(own, data(), **region, searcher="grad", generations=300, out=tmp_path / "run")
    assert trained.certified_accuracy > 0.3
    images, labels = data()
    before = gls_es.certify(own, images[:60], labels[:60], **region, stages=("attack", "ibp", "crown"))
    after = gls_es.certify(trained.module, images[:60], labels[:60], **region, stages=("attack", "ibp", "crown"))
    assert after.counts["certified"] > before.counts["certified"]
    loaded = load_trained(trained.checkpoint, problem=owned(own))
    shape = loaded.problem.perturbation
    assert shape.norm == region.get("norm", "linf")
    assert loaded.region()["norm"] == shape.norm
    assert torch.allclose(torch.as_tensor(loaded.region()["eps"]).double(), torch.as_tensor(region["eps"]).double())
    resume(tmp_path / "run", problem=owned(own, data()), generations=302)
    again = load_trained(tmp_path / "run", problem=owned(own))
    assert torch.equal(torch.as_tensor(again.region()["eps"]), torch.as_tensor(loaded.region()["eps"]))
    assert again.content["generation"] == 302


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "l2", "loss": "sabr"}, "'sabr' attacks in L∞ boxes"),
        ({"norm": "l2", "method": "hbox"}, "no bounds on L2 balls"),
        ({"norm": "l3"}, "unknown norm 'l3'"),
        ({"eps": [0.1] * 5}, "does not fit"),
        ({"eps": [0.1, 0.1, 0.1, 2.0]}, "between 0 and 1"),
    ],
)
def test_regions_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Blobs(**options)


@pytest.mark.parametrize("given", [None, [0.05, 0.1, 0.0, 0.3]], ids=["the class's", "given"])
def test_the_settings_of_a_run_with_radii_repeat_it(tmp_path: Path, given: Any) -> None:
    name = "tests.training.test_perturbations:Columns"
    overrides = {"batch_size": 8, "evaluate_images": 4}
    first = gls_es.train(name, "grad", out=tmp_path / "a", eps=given, method="ibp", generations=8, overrides=overrides)
    arguments = ["train", "--config", str(tmp_path / "a" / "config.toml"), "--out", str(tmp_path / "b")]
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0, again.stderr
    one, two = (load_trained(path) for path in (first, tmp_path / "b"))
    assert torch.equal(one.content["center"], two.content["center"])
    wanted = Columns.eps if given is None else torch.tensor(given)
    assert torch.allclose(torch.as_tensor(two.region()["eps"]), wanted.double())


def test_radii_on_the_command_line(tmp_path: Path) -> None:
    def planned(eps: str) -> Any:
        arguments = ["train", "--problem", "tests.problem.toys:Blobs", "--eps", eps, "--dry-run", "--json"]
        return CliRunner().invoke(app, arguments)

    assert '"eps": 0.3' in planned("[0.05, 0.1, 0.0, 0.3]").stdout
    for wrong, words in (
        ("[0.1,", "no list of radii"),
        ("[0.1, 0.2]", "does not fit"),
        ("[0.1, 0, 0, 2]", "between 0"),
    ):
        result = planned(wrong)
        assert result.exit_code == 2
        assert words in result.stderr
