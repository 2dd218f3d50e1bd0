"""Steps in place are seen through every alias: the graph computes what the module computes, or it is refused."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gls_es
from gls_es.errors import UnsupportedNetworkError


class Net(nn.Module):
    """Two layers and an expression between them; a logit of 1e4 that hides the others from a common tolerance."""

    def __init__(self, between: object) -> None:
        super().__init__()
        self.first, self.last, self.between = nn.Linear(3, 4), nn.Linear(4, 3), between
        self.drop, self.same = nn.Dropout(0.3), nn.Identity()
        self.register_buffer("memory", torch.zeros(4), persistent=False)
        self.count = 0
        with torch.no_grad():
            self.last.bias[2] = 1e4

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        h = self.first(x)
        return self.last(h * gate if gate is not None else self.between(self, h, x))


def _then(alias: object, step: object) -> object:
    def between(net: Net, h: Tensor, x: Tensor) -> Tensor:
        step(alias(net, h))
        return h

    return between


def _copy(net: Net, h: Tensor, x: Tensor) -> Tensor:
    other = net.drop(h)
    other.copy_(h * 2)
    return h - 0.7


def _out(net: Net, h: Tensor, x: Tensor) -> Tensor:
    torch.add(h, h, alpha=-0.5, out=h)
    return h


ALIASES = {
    "dropout": lambda n, h: n.drop(h),
    "identity": lambda n, h: n.same(h),
    "view": lambda n, h: h.view(-1, 2, 2),
    "chunk": lambda n, h: h.chunk(1, 1)[0],
    "data": lambda n, h: h.data,
    "squeeze": lambda n, h: h.unsqueeze(1).squeeze(1),
}
STEPS = {"relu_": torch.relu_, "mul_": lambda h: h.mul_(-0.7), "F.relu": lambda h: F.relu(h, inplace=True)}
READ = {f"{a}, {s}": _then(alias, step) for a, alias in ALIASES.items() for s, step in STEPS.items()}
READ |= {
    "slice of what is changed later": lambda n, h, x: torch.cat([(k := h[:, 1:]), h.mul_(-2.0)[:, :1]], 1) - k[:, :1],
    "turned view of what is changed later": lambda n, h, x: (k := h.view(-1, 2, 2).mT, h.relu_(), k.flatten(1))[2],
    "expanded view of what is changed later": lambda n, h, x: (k := h[:, :1].expand(-1, 4), h.add_(0.5), k - h)[2],
    "all of it, step by step": lambda n, h, x: h.view(-1, 2, 2).transpose(1, 2).contiguous().mul_(3.0).flatten(1) + h,
    "rows of images": lambda n, h, x: (k := h.view(-1, 2), torch.relu(k).mul_(2.0).view(-1, 4) - h)[1],
    "rows in place": lambda n, h, x: (h.view(-1, 2).relu_(), h)[1],
}
READ |= {"copy_ to an alias": _copy, "out= over an operand": _out, "input": lambda n, h, x: n.first(x.mul_(2.0)) + h}
REFUSED = {
    "tolist": lambda n, h, x: h if h.tolist()[0][0] > 1e9 else -h,
    "counter": lambda n, h, x: h + float(setattr(n, "count", n.count + 1) is None),
    "buffer": lambda n, h, x: h + n.memory.add_(0.0),
    "part": lambda n, h, x: (h[:, :1].relu_(), h)[1],
    "transposed": lambda n, h, x: n.last.weight.new_zeros(()) + h.t().reshape(-1, 4),
    "sum over its own memory": lambda n, h, x: h.add_(h[:, :1].expand(-1, 4)),
    "turned part": lambda n, h, x: (h.view(-1, 2, 2).mT.mul_(2.0), h)[1],
    "rows of other images": lambda n, h, x: h.view(2, -1, 2).transpose(0, 1).reshape(-1, 4),
    "images shifted": lambda n, h, x: h + h.roll(1, 0),
    "images in a chain": lambda n, h, x: torch.cat([h.flatten()[1:], h.flatten()[:1]]).view(-1, 4),
    "places that depend on values": lambda n, h, x: h.gather(1, h.argsort(1)),
    "negated memory": lambda n, h, x: torch._neg_view(h) + 0.0,
    "cast": lambda n, h, x: h.half().float(),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_written_through_one_name_is_read_through_all(name: str) -> None:
    torch.manual_seed(0)
    module = Net(READ[name]).double().eval()
    net, x = gls_es.Network(module, (3,)), torch.rand(5, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net.logits(x)[0], module(x.clone()), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_operator_tells_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedNetworkError):
        gls_es.Network(Net(REFUSED[name]).eval(), (3,))


def test_certifying_leaves_the_images_alone() -> None:
    x = torch.rand(2, 3)
    before = x.clone()
    gls_es.certify(Net(READ["input"]).eval(), x, [2, 2], 0.01)
    assert torch.equal(x, before)
