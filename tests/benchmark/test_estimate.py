"""What a generation is estimated to cost: counted by hand, and against the operations that are really executed."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import gls_es
from gls_es import kernels
from gls_es.benchmark.estimate import (
    Work,
    backward_flops,
    generation_seconds,
    image_flops,
    layers,
    mean_seconds,
    recipe_seconds,
)
from gls_es.benchmark.measure import cost
from gls_es.bounds import Plan
from gls_es.network import Network
from gls_es.problem.recipe import Recipe


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(392, 10)
    )


def test_a_perceptron_by_hand() -> None:
    works = layers(perceptron(), (1, 4, 4))
    assert [work.flops for work in works] == [2 * 16 * 8, 2 * 8 * 6, 2 * 6 * 3]
    assert image_flops(works, "ibp") == 2 * (256 + 96 + 36)
    final = 2 * (256 + 96 + 36)  # two rows, one per other class, through every layer
    assert image_flops(works, "crown-ibp") == 2 * (256 + 96 + 36) + final
    hidden = 12 * (256 + 96)  # lower and upper bounds of six neurons
    assert image_flops(works, "crown") == hidden + final


def test_rows_of_a_convolution_see_their_window_only() -> None:
    """One row of C(1,3) on C(1,3): its own kernel, then a 3x3 window of the first layer's 8x8 map."""
    works = layers(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)), (1, 8, 8))
    assert works[0] == Work(flops=2 * 9 * 64, outputs=64, side=8, kernel=3, stride=1)
    assert backward_flops(works, 1, 1) == pytest.approx(2 * 9 * 1 + 2 * 9 * 9)


def test_shapes_are_enough() -> None:
    with torch.device("meta"):
        module = cnn()
    assert layers(module, (1, 28, 28)) == layers(cnn(), (1, 28, 28))


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_the_count_is_near_what_is_executed(method: str) -> None:
    torch.manual_seed(0)
    net = Network(cnn(), (1, 28, 28))
    images, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    lower, upper = images - 0.1, images + 0.1
    plan = Plan(1 << 20, direct=False)
    with kernels.plain():  # PyTorch's operators are counted, compiled code's are not
        call = partial(gls_es.bounds.margins, net, lower, upper, labels, method, plan=plan)
        executed = cost(call, device=torch.device("cpu")).flops
    counted = 4 * image_flops(layers(cnn(), (1, 28, 28)), method)
    assert executed / 5 < counted < 2 * executed  # the tool multiplies many zeros, in exchange for speed


def test_a_generation() -> None:
    works = layers(perceptron(), (1, 4, 4))
    options = {"method": "ibp", "members": 5, "images": 7, "speed": 1000.0}
    seconds = generation_seconds(works, gradient=False, **options)
    assert seconds == pytest.approx(5 * 7 * image_flops(works, "ibp") / 200)
    assert generation_seconds(works, gradient=True, **options) == pytest.approx(3 * seconds)


@pytest.mark.parametrize(("searcher", "passes"), [("pgpe", 6), ("rgs", 3 * 6), ("grad", 3)])
def test_a_generation_of_a_recipe_is_the_mean_over_its_phases(searcher: str, passes: int) -> None:
    """Two natural generations, two under intervals, six under crown on one of four images; choosing takes one pass."""
    works = layers(perceptron(), (1, 4, 4))
    recipe = Recipe(
        generations=10,
        popsize=6,
        natural_until=2,
        warmup_method="ibp",
        warmup_until=4,
        ramp_until=7,
        main_method="crown",
        stand_in="crown-ibp",
        exact_images=1,
        candidates=2,
    )
    natural = 256 + 96 + 36
    intervals, last, dear = (image_flops(works, method) for method in ("ibp", "crown-ibp", "crown"))
    images = 4 * (2 * (passes + 2) * (natural + intervals) + 6 * ((passes + 2) * last + passes / 4 * dear))
    found = mean_seconds(works, recipe, searcher=searcher, method="ibp", images=4, speed=1000.0)
    assert found == pytest.approx(images / 10 / 200)
    assert mean_seconds(
        works, recipe.replaced(main_method=""), searcher=searcher, method="ibp", images=4, speed=1000.0
    ) == pytest.approx(4 * (passes + 2) * (2 * natural + 8 * intervals) / 10 / 200)  # nothing is cheaper than ibp


def test_problems_without_a_known_format_of_images() -> None:
    assert recipe_seconds("tests.problem.toys:Blobs", speed=1e9) is None
    known = recipe_seconds("mnist-cnn3", speed=1e9)
    assert known is not None
    assert set(known) == {"pgpe", "rgs", "grad"}
