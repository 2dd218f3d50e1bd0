"""The quick way to margins without gradients against its plain twin, and the buffers that it writes again."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from gls_es import bounds
from gls_es.bounds import Box, Plan
from gls_es.bounds.workspace import Workspace
from gls_es.network import Network
from tests.oracles.api import FLOATS, assert_near, network
from tests.oracles.nets import BY_NAME, ZOO, Case
from tests.oracles.problems import problem

METHODS = [name for name, method in bounds.METHODS.items() if method.direct is not None]
PLAIN = Plan(6 << 20, direct=False)
PLANS = {"default": Plan(6 << 20), "few": Plan(3000, 2), "one": Plan(1, 1)}


def _margins(case: Case, method: str, plan: Plan, dtype: torch.dtype, images: int = 7) -> Tensor:
    task = problem(case, 5, images)
    net, box = network(task, dtype), (task.lower.to(dtype), task.upper.to(dtype))
    with torch.no_grad():
        return bounds.margins(net, *box, task.labels, method=method, params=task.params.to(dtype), plan=plan)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", ZOO, ids=lambda c: c.name)
def test_the_quick_way_gives_the_plain_margins(case: Case, method: str) -> None:
    plain = _margins(case, method, PLAIN, torch.float64)
    for plan in PLANS.values():
        assert_near(_margins(case, method, plan, torch.float64), plain, 1e-12)
    assert_near(_margins(case, method, PLANS["default"], FLOATS[1]), plain, 1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("images", [1, 2, 40])
def test_few_images_fold_their_own_margins(method: str, images: int) -> None:
    """With K = 10 one image has fewer margins than there are pairs of classes."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 30))
    net, x = Network(module, (6,)), torch.rand(images, 6)
    labels = torch.arange(images) % 30
    with torch.no_grad():
        quick, plain = (
            bounds.margins(net, x - 0.1, x + 0.1, labels, method=method, plan=plan) for plan in (None, PLAIN)
        )
    assert_near(quick, plain, 1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shared", [False, True])
def test_nothing_of_the_caller_is_written_over(method: str, shared: bool) -> None:
    """A ReLU that reads the box itself, and through a view of it."""
    module = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    net = Network(module, (3, 2, 2))
    params = net.parameter_vector().expand(3, -1).clone()
    centre, radius = torch.randn(1 if shared else 3, 4, 3, 2, 2), torch.rand(1 if shared else 3, 4, 3, 2, 2)
    box, labels = Box(centre.clone(), radius.clone()), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        first = bounds.box_margins(net, box, labels, params, method=method)
        kept = first.clone()
        other = bounds.box_margins(net, Box(centre + 1, radius * 2), labels, params, method=method)
        plain = bounds.box_margins(net, Box(centre, radius), labels, params, method=method, plan=PLAIN)
    assert torch.equal(box.centre, centre)
    assert torch.equal(box.radius, radius)
    assert torch.equal(first, kept)
    assert not torch.equal(first, other)
    assert_near(first, plain, 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_threads_and_modes_do_not_meet(method: str) -> None:
    """Each thread has its own buffers, and what inference mode made can be written outside it."""
    case = BY_NAME["conv_mixed"]
    with torch.inference_mode():
        expected = _margins(case, method, PLANS["default"], torch.float32)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: _margins(case, method, PLANS["default"], torch.float32), range(6)))
    assert all(torch.equal(f, expected) for f in found)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_go_the_plain_way(method: str) -> None:
    task = problem(BY_NAME["conv_mixed"], 3, 3)
    net, params = network(task, torch.float64), task.params.double().requires_grad_()
    box = task.lower.double(), task.upper.double()
    gradients = []
    for plan in (None, PLAIN):
        margins = bounds.margins(net, *box, task.labels, method=method, params=params, plan=plan)
        gradients.append(torch.autograd.grad(margins.sum(), params)[0])
    assert torch.equal(*gradients)


def test_a_workspace_lends_what_it_got_back_and_nothing_twice() -> None:
    work, like = Workspace(), torch.zeros(1)
    one, two = work.take((2, 3), like), work.take((2, 3), like)
    assert one.data_ptr() != two.data_ptr()
    work.give(one.transpose(0, 1))
    assert work.take((5,), like).data_ptr() == one.data_ptr()
    assert work.take((3,), like).data_ptr() not in (one.data_ptr(), two.data_ptr())
    assert work.take((3,), like.double()).dtype == torch.float64


def test_a_workspace_does_not_grow_with_the_sizes_it_has_seen() -> None:
    work, like = Workspace(), torch.zeros(1)
    for size in range(1, 50):
        work.give(work.take((size,), like))
    assert sum(buffer.numel() for buffer in work._free) <= 50
