"""No sampled value escapes its bound.

The guard below covers only the rounding of this comparison (the library's plain bounds are not rounded outward;
certification is, and has its own tests with tolerance 0).
"""

import pytest
import torch

from gls_es import bounds
from tests.oracles import dense
from tests.oracles.api import FLOATS, METHODS, margins, network, preactivations
from tests.oracles.digits import TRAINED
from tests.oracles.nets import BY_NAME, ZOO, Case
from tests.oracles.problems import margins_of, problem, sampled

GUARD = {torch.float64: 1e-12, torch.float32: 5e-6}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [*ZOO, *TRAINED], ids=lambda c: c.name)
def test_bounds_contain_every_sampled_value(case: Case, method: str, dtype: torch.dtype) -> None:
    task = problem(case)
    lower_margins, layers = margins(task, method, dtype), preactivations(task, method, dtype)
    for p in range(len(task.params)):
        for i in range(len(task.labels)):
            smallest, layer_ranges = sampled(task, p, i)
            guard = GUARD[dtype] * (1 + float(smallest.abs().max()))
            assert (lower_margins[p, i].double() <= smallest + guard).all()
            for (lo, hi), (z_min, z_max) in zip(layers, layer_ranges, strict=True):
                guard = GUARD[dtype] * (1 + float(z_min.abs().max() + z_max.abs().max()))
                assert (lo[p, i].flatten().double() <= z_min + guard).all()
                assert (hi[p, i].flatten().double() >= z_max - guard).all()


@pytest.mark.parametrize("method", METHODS)
def test_wide_boxes_and_boxes_outside_the_unit_cube(method: str) -> None:
    """The box may be any box: not centred on an image, not square, not within [0, 1]."""
    for name in ("mlp", "conv_mixed", "resnet"):
        task = problem(BY_NAME[name])
        generator = torch.Generator().manual_seed(5)
        lower = torch.randn(task.lower.shape, generator=generator, dtype=torch.float64)
        width = torch.rand(task.lower.shape, generator=generator, dtype=torch.float64)
        width[0].view(-1)[::2] = 0  # degenerate in every other pixel
        upper = lower + width
        result = bounds.margins(network(task, torch.float64), lower, upper, task.labels, method=method)
        x = lower + width * torch.rand((300, *lower.shape), generator=generator, dtype=torch.float64)
        module = dense.member(task.module, None)
        with torch.no_grad():
            for i, label in enumerate(task.labels.tolist()):
                values = margins_of(module(x[:, i]), label)
                guard = 1e-12 * (1 + float(values.abs().max()))
                assert (result[0, i] <= values.amin(0) + guard).all()
