"""``affine``: what its coefficients say, and both ways to its error terms."""

import pytest
import torch
from torch import nn

import gls_es
from gls_es import bounds
from gls_es.bounds import affine
from gls_es.bounds.box import Box
from gls_es.bounds.query import Query
from tests.oracles.nets import BY_NAME
from tests.oracles.problems import problem


@pytest.mark.parametrize("name", ["mlp", "conv_mixed", "resnet"])
def test_terms_pushed_forward_and_backward_passes_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = problem(BY_NAME[name], 2, 2)
    net = gls_es.Network(task.module.double(), task.case.input_shape)
    box = task.lower.double(), task.upper.double()
    found = []
    for few in (0, 10_000):
        monkeypatch.setattr(affine, "FEW_INPUTS", few)
        with torch.no_grad():
            found.append(bounds.margins(net, *box, task.labels, method="affine", params=task.params.double()))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_reach_is_what_each_input_moves() -> None:
    """Where all neurons are stable the margins are affine: their slopes are those of autograd."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    net = gls_es.Network(module, (3,))
    centre, radius = torch.rand(5, 3).double(), torch.tensor([1e-6, 2e-6, 0.0]).double().expand(5, 3)
    query = Query.ask(net, net.parameter_vector()[None], Box(centre[None], radius[None]))
    labels = torch.tensor([0, 1, 2, 3, 0])
    with torch.no_grad():
        margins, reach = affine.margins_and_reach(query, labels)
    for image, label in enumerate(labels.tolist()):
        jacobian = torch.autograd.functional.jacobian(module, centre[image])
        others = [j for j in range(4) if j != label]
        slopes = (jacobian[label] - jacobian[others]).abs().T * radius[image][:, None]
        torch.testing.assert_close(reach[0, image], slopes)
        value = module(centre[image]).detach()
        torch.testing.assert_close(margins[0, image], value[label] - value[others] - slopes.sum(0))


def test_small_boxes_are_bounded_almost_exactly() -> None:
    """A box that is cut in two loses about three quarters of what is lacking, as enclosures by lines do."""
    torch.manual_seed(3)
    net = gls_es.Network(
        nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 2)), (2,)
    )
    steps = torch.linspace(0, 1, 65, dtype=torch.float64)
    low = torch.cartesian_prod(steps[:-1], steps[:-1])
    labels = torch.zeros(len(low), dtype=torch.int64)
    params = net.parameter_vector().double()[None]
    with torch.no_grad():
        fine = bounds.margins(net, low, low + 1 / 64, labels, method="affine", params=params).min()
        whole = bounds.margins(net, *torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]]).double(), labels[:1], method="affine")
        logits = net.logits(torch.cartesian_prod(steps, steps), params)[0]
        least = (logits[:, 0] - logits[:, 1]).min()
    assert fine <= least
    assert least - fine < 0.02 * (least - whole.min())
