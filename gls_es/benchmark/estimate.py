"""About how long a generation takes, before anything is run: from counted operations and a matrix product.

Only products and convolutions are counted, for a sequence of layers; a bound of another relaxation than those named
here is counted as its nearest relative. The machine is taken to reach :data:`EFFICIENCY` of its speed in a matrix
product. Measured runs were between a third and three times the estimate; ``gls-es bench`` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gls_es.basics.threads import workers
from gls_es.benchmark.measure import matmul_rate
from gls_es.fitness import Stage
from gls_es.problem.recipe import Recipe
from gls_es.problem.registry import resolve, shapes
from gls_es.training.schedules import Schedule
from gls_es.training.timing import phases

EFFICIENCY = 0.2
"""Part of a matrix product's speed that bounds reach: 10 % on small networks, 50 % on large ones (performance.md)."""

GRADIENT = 3
"""A loss with its gradient, over the loss alone."""

GRADIENTS = ("rgs", "grad")
"""The searchers that take gradients."""

_FORWARD = ("ibp", "hbox")
_FINAL_PASS = ("crown-ibp",)


@dataclass(frozen=True)
class Work:
    """One affine layer.

    Attributes:
        flops: of applying it to one image, two per multiply-add.
        outputs: how many numbers it gives.
        side: height of its output map; 1 if that is flat.
        kernel: side of its window; 0 if every output sees all inputs.
        stride: of the window.
    """

    flops: int
    outputs: int
    side: int
    kernel: int
    stride: int


def layers(module: nn.Module, input_shape: Sequence[int]) -> list[Work]:
    """The convolutions and linear layers of a module in the order in which they run.

    Args:
        module: on any device; on the meta device nothing is computed.
        input_shape: of one image.
    """
    found: list[Work] = []

    def take(layer: nn.Module, _inputs: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        flops = 2 * out[0].numel() * layer.weight[0].numel()
        conv = isinstance(layer, nn.Conv2d)
        kernel, stride = (layer.kernel_size[0], layer.stride[0]) if isinstance(layer, nn.Conv2d) else (0, 1)
        found.append(Work(flops, out[0].numel(), out.shape[-1] if conv else 1, kernel, stride))

    handles = [m.register_forward_hook(take) for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    device = next(module.parameters()).device
    with torch.no_grad():
        module.eval()(torch.empty(1, *input_shape, device=device))
    for handle in handles:
        handle.remove()
    return found


def image_flops(works: Sequence[Work], method: str) -> float:
    """Operations of one member's robust loss on one image.

    Args:
        works: the layers, at least one.
        method: a relaxation; ``ibp`` takes two forward passes, for centres and radii, ``crown-ibp`` a backward pass of
            a row per other class besides, the others one for every ReLU layer but the first, of two rows a neuron.
    """
    intervals = 2.0 * sum(work.flops for work in works)
    if method in _FORWARD:
        return intervals
    final = backward_flops(works, len(works) - 1, works[-1].outputs - 1)
    if method in _FINAL_PASS:
        return intervals + final
    return final + sum(backward_flops(works, start, 2 * works[start].outputs) for start in range(1, len(works) - 1))


def backward_flops(works: Sequence[Work], start: int, rows: int) -> float:
    """Operations of one backward pass of ``rows`` rows from layer ``start`` to the input.

    A row that begins at a position of a map touches only its receptive field in the layers before.
    """
    total = 0.0
    window = 1 if works[start].kernel else 0  # side of the field on the current layer's output; 0: everything
    for work in reversed(works[: start + 1]):
        part = min(1.0, (window / work.side) ** 2) if window else 1.0
        total += rows * work.flops * part
        window = (window - 1) * work.stride + work.kernel if window and work.kernel else 0
    return total


def generation_seconds(
    works: Sequence[Work], *, method: str, members: int, images: int, gradient: bool, speed: float
) -> float:
    """About how long a generation takes.

    Args:
        works: the network's layers.
        method: the relaxation.
        members: of the population.
        images: of the minibatch.
        gradient: whether gradients are needed.
        speed: of matrix products on the machine, floating-point operations per second.
    """
    flops = members * images * image_flops(works, method) * (GRADIENT if gradient else 1)
    return flops / (EFFICIENCY * speed)


def mean_seconds(
    works: Sequence[Work], recipe: Recipe, *, searcher: str, method: str, images: int, speed: float
) -> float:
    """About how long a generation takes in the mean over a recipe: natural ones, warm-up, stand-in and candidates.

    Args:
        works: the network's layers.
        recipe: the hyper-parameters.
        searcher: a key of ``searchers.table.SEARCHERS``.
        method: the problem's relaxation, which the recipe may replace.
        images: of the minibatch.
        speed: see :func:`generation_seconds`.
    """
    schedule = Schedule(recipe, 1.0, method)
    members = 1 if searcher == "grad" else recipe.popsize
    passes = members * (GRADIENT if searcher in GRADIENTS else 1)
    flops = 0.0
    for first, end in phases(recipe):
        stage = schedule.stage((first + end) // 2)
        cheap = _stage_flops(works, stage, stage.stand_in or stage.method)
        usual = cheap
        if stage.stand_in:
            usual += min(1.0, stage.exact_images / images) * _stage_flops(works, stage, stage.method)
        choice = stage.candidates * cheap if stage.candidates > 1 else 0.0
        flops += (end - first) * images * (passes * usual + choice)
    return flops / recipe.generations / (EFFICIENCY * speed)


def _stage_flops(works: Sequence[Work], stage: Stage, method: str) -> float:
    return image_flops(works, method) if stage.eps > 0.0 else float(sum(work.flops for work in works))


def cpu_speed() -> float:
    """Of matrix products on this machine's CPU with all of torch's threads, operations per second, as busy as it is.

    Their mean over about 0.3 s, not their best: what other programs take is missing in a run, too.
    """
    return matmul_rate(torch.device("cpu"), workers(), seconds=0.3)


def recipe_seconds(name: str, *, speed: float) -> dict[str, float] | None:
    """About how long a generation of each of a problem's recipes takes, by searcher.

    Args:
        name: what ``--problem`` takes.
        speed: see :func:`generation_seconds`.

    Returns:
        None for a problem whose network or whose images are known only when it is built.
    """
    cls = resolve(name)
    module = shapes(cls)
    image = getattr(cls, "image", None)
    if module is None or image is None:
        return None
    works = layers(module, image.shape)
    return {
        searcher: mean_seconds(
            works, recipe, searcher=searcher, method=cls.method, images=recipe.batch_size, speed=speed
        )
        for searcher, recipe in cls.recipes.items()
    }
