"""The built-in problems: their networks are those of the literature, and every one of them trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gls_es.data import Dataset, Split
from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.registry import BUILT_IN, resolve
from gls_es.searchers.table import SEARCHERS, build

NAMES = sorted(BUILT_IN)
PUBLISHED = {
    # eth-sri/CTBench, networks.py; the constants of the normalisation, which it counts too, left out
    "mnist-cnn3": 5_170,
    "cifar-cnn3": 6_770,
    "mnist-cnn3-wide": 24_330,
    "cifar-cnn3-wide": 29_930,
    "mnist-cnn5": 820_954,
    "cifar-cnn5": 1_067_002,
    "mnist-cnn7": 13_259_338,
    "cifar-cnn7": 17_192_650,
    "tinyimagenet-cnn5": 4_310_200,
    "tinyimagenet-cnn7": 17_290_120,
}
SMALL = {"cnn3": {"width": 2}, "wide": {"width": 2}, "cnn5": {"width": 2, "hidden": 4}, "cnn7": {"width": 2}}


def cls(name: str) -> type[Any]:
    return resolve(name)


def size(name: str, **options: Any) -> int:
    problem = cls(name).__new__(cls(name))
    for key, value in options.items():
        setattr(problem, key, value)
    with torch.device("meta"):
        return sum(p.numel() for p in problem.make_network().parameters())


def noise(problem_class: type[Any], count: int = 12) -> Dataset:
    """Random images in the format of a problem's data."""
    image = problem_class.image
    generator = torch.Generator().manual_seed(0)

    def split(rows: int) -> Split:
        pixels = torch.randint(0, 256, (rows, *image.shape), dtype=torch.uint8, generator=generator)
        return Split(pixels, torch.arange(rows) % image.classes, 255.0)

    return Dataset("noise", split(count), split(6), image.classes)


@pytest.fixture
def without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random images in place of every data set."""
    for name in NAMES:
        monkeypatch.setattr(cls(name), "make_data", lambda self: noise(type(self)))


def small(name: str, **options: Any) -> Any:
    return cls(name)(**SMALL[name.rpartition("-")[2]], batch_size=4, **options)


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_as_many_parameters_as_published(name: str) -> None:
    assert size(name) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("options", "parameters"), [({"width": 32}, 2_152_938), ({"width": 64}, 4_398_538), ({"width": 16}, 1_067_002)]
)
def test_wider_cnn5(options: dict[str, int], parameters: int) -> None:
    assert size("cifar-cnn5", **options) == parameters


def test_cnn7_without_batch_norm_and_narrow() -> None:
    assert size("cifar-cnn7", batch_norm=False) == 17_190_602
    assert size("cifar-cnn7", width=8, hidden=64) == 269_730


@pytest.mark.parametrize("name", NAMES)
def test_the_first_layer_normalises_and_eps_is_one_of_the_usual_radii(name: str) -> None:
    first = cls(name).make_network(small_shell(name))[0]
    assert type(first).__name__ == "Normalize" or name == "digits-cnn3"
    assert cls(name).eps in cls(name).radii
    assert cls(name).data_source


def small_shell(name: str) -> Any:
    """A problem that was not constructed, with a small network."""
    problem = cls(name).__new__(cls(name))
    for key, value in SMALL[name.rpartition("-")[2]].items():
        setattr(problem, key, value)
    return problem


@pytest.mark.usefixtures("without_files")
@pytest.mark.parametrize("name", NAMES)
def test_every_searcher_has_a_recipe_that_takes_a_step(name: str) -> None:
    assert {"pgpe", "rgs", "grad"} <= set(cls(name).recipes) <= set(SEARCHERS)
    for searcher, recipe in cls(name).recipes.items():
        assert recipe.ramp_until < recipe.generations
        problem = small(name, method="ibp")
        search = build(searcher, problem, recipe.replaced(popsize=min(4, recipe.popsize)))
        search.step()
        assert bool(torch.isfinite(search._population.access_evals(0)).all())


@pytest.mark.usefixtures("without_files")
def test_sizes_travel_with_the_arguments() -> None:
    problem = cls("cifar-cnn7")(width=3, batch_norm=False)
    again = cls("cifar-cnn7").rebuilt(problem.arguments, (3, 32, 32))
    assert again.network.num_parameters == problem.network.num_parameters
    assert again.network.relu_shapes[-1] == (24,)  # 8 hidden units for each channel of width, as 512 for 64
    assert not [m for m in again.network.module().modules() if isinstance(m, nn.BatchNorm2d)]
    assert cls("cifar-cnn7").rebuilt({"hidden": 5, "width": 3}, (3, 32, 32)).network.relu_shapes[-1] == (5,)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist-cnn3", {"width": 0}, "width must be a whole number between 1 and 4096, not 0"),
        ("mnist-cnn3", {"width": 2.5}, "width must be a whole number between 1 and 4096, not 2.5"),
        ("mnist-cnn3", {"width": True}, "width must be a whole number"),
        ("mnist-cnn5", {"hidden": 10**9}, "hidden must be a whole number between 1 and 4096"),
        ("mnist-cnn7", {"width": "wide"}, "width must be a whole number between 1 and 4096, not 'wide'"),
        ("mnist-cnn7", {"batch_norm": 1}, "batch_norm must be true or false, not 1"),
        ("mnist-cnn3", {"hidden": 8}, "cannot be rebuilt from"),
    ],
)
def test_wrong_sizes(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cls(name).rebuilt(options, (1, 28, 28))


@pytest.mark.usefixtures("without_files")
def test_augmentation_is_a_function_of_seed_and_generation() -> None:
    def images(seed: int, generation: int) -> torch.Tensor:
        problem: CertifiedTrainingProblem = small("cifar-cnn3", seed=seed)
        problem.begin(generation)
        return problem.minibatch.images

    plain = small("mnist-cnn3", seed=1)
    plain.begin(3)
    rows = {tuple(image.flatten().tolist()) for image in plain.data.train.batch()[0]}
    assert {tuple(image.flatten().tolist()) for image in plain.minibatch.images} <= rows  # MNIST stays as it is

    assert torch.equal(images(1, 3), images(1, 3))
    assert not torch.equal(images(1, 3), images(2, 3))
    raw = small("cifar-cnn3").data.train.batch()[0]
    pixels = set(raw.unique().tolist())
    moved = images(1, 3)
    assert not any(torch.equal(moved[0], image) for image in raw) or not torch.equal(moved[1], raw[1])
    assert set(moved.unique().tolist()) <= pixels  # moved, not mixed


@pytest.mark.usefixtures("without_files")
def test_an_epoch_later_the_same_image_is_augmented_anew() -> None:
    problem = small("cifar-cnn3")
    problem.data  # noqa: B018 - 12 images, 4 a generation: every third generation is a new epoch
    seen = []
    for generation in range(12):
        problem.begin(generation)
        seen += [tuple(image.flatten().tolist()) for image in problem.minibatch.images]
    assert len(set(seen)) > 12
