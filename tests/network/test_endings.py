"""A last Softmax layer is left out: the logits, the modules and certificates are those of the network without it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import gls_es
from gls_es.errors import UnsupportedNetworkError


class Named(nn.Module):
    """A module of its own that ends in a layer."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
        self.head = nn.ModuleDict({"last": last})

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head["last"](self.body(x))
        return found


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.Softmax(-1), nn.LogSoftmax(1)], ids=str)
def test_a_last_layer_is_left_out(last: nn.Module) -> None:
    module = Named(last)
    net = gls_es.Network(module, (1, 2, 2))
    assert net.left_out == type(last).__name__
    x = torch.rand(5, 1, 2, 2)
    torch.testing.assert_close(net.logits(x)[0], module.body(x))
    torch.testing.assert_close(net.module()(x), module.body(x))
    assert isinstance(module.head["last"], type(last)), "the user's own module stays as it is"
    assert net.module().state_dict().keys() == module.state_dict().keys()


def test_certificates_are_those_of_the_logits() -> None:
    torch.manual_seed(0)
    module = Named(nn.Softmax(1)).eval()
    plain = copy.deepcopy(module.body)
    x = torch.rand(30, 1, 2, 2)
    labels = plain(x).argmax(1)
    found = gls_es.certify(module, x, labels, eps=0.05)
    expected = gls_es.certify(plain, x, labels, eps=0.05)
    names = [one.verdict for one in found.verdicts]
    assert names == [one.verdict for one in expected.verdicts]
    assert len(set(names)) > 1, "images that differ"


class Functional(Named):
    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).softmax(1)


class Inner(Named):
    def forward(self, x: Tensor) -> Tensor:
        return self.head["last"](self.body(x)) + 1.0


class Twice(Named):
    def forward(self, x: Tensor) -> Tensor:
        return self.head["last"](self.head["last"](self.body(x)))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Functional(nn.Identity()), r"softmax.*nn\.Softmax\(1\)"),
        (Inner(nn.Softmax(1)), r"head\.last.*logits"),
        (Twice(nn.LogSoftmax(1)), r"head\.last.*logits"),
        (Named(nn.Softmax(0)), r"head\.last.*logits"),
    ],
)
def test_what_cannot_be_left_out_is_refused(module: nn.Module, said: str) -> None:
    with pytest.raises(UnsupportedNetworkError, match=said):
        gls_es.Network(module, (1, 2, 2))


class Energies(nn.LogSoftmax):
    """More than its base class does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(-x)


def test_a_class_derived_from_softmax_is_refused_for_it_may_compute_more() -> None:
    module = Named(Energies(1))
    with pytest.raises(UnsupportedNetworkError, match=r"or end with a layer nn\.LogSoftmax"):
        gls_es.Network(module, (1, 2, 2))
