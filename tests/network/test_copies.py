"""A network works on a copy, which must share nothing with the module that was given and hold the same."""

from __future__ import annotations

import collections
import copy
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gls_es
from gls_es.errors import UnsupportedNetworkError
from gls_es.network.copies import true_copy
from tests.oracles.nets import ZOO, Case


class Body(nn.Module):
    """A small classifier."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return found


class Itself(Body):
    """The idiom of a frozen part that all copies share."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Itself:
        return self


class SharedWeights(Body):
    def __deepcopy__(self, memo: dict[int, Any]) -> SharedWeights:
        made = SharedWeights(self.width)
        for own, other in zip(made.parameters(), self.parameters(), strict=True):
            own.data = other.data
        return made


class Rebuilt(Body):
    """Made anew from its settings, with other weights."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Rebuilt:
        return Rebuilt(self.width)


class Forgetful(Body):
    """A setting gets lost when it is copied."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = 8.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.gain)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "gain"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.gain = 1.0


class Nested(Body):
    """The same within a table of settings."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = {"gains": [1.0, 8.0]}

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.settings["gains"][1])

    def __deepcopy__(self, memo: dict[int, Any]) -> Nested:
        made = Nested()
        made.load_state_dict(self.state_dict())
        made.settings = {"gains": [1.0, 2.0]}
        return made


class OtherFunction(Body):
    """A function that it calls is another one."""

    def __init__(self, function: Callable[[Tensor], Tensor] = torch.abs) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.function(x))

    def __deepcopy__(self, memo: dict[int, Any]) -> OtherFunction:
        made = OtherFunction(torch.relu)
        made.load_state_dict(self.state_dict())
        return made


class OtherLayer(Body):
    """A layer without weights is another one."""

    def __deepcopy__(self, memo: dict[int, Any]) -> OtherLayer:
        made = OtherLayer()
        made.layers[1] = nn.Tanh()
        made.load_state_dict(self.state_dict())
        return made


@pytest.mark.parametrize("kind", [Itself, SharedWeights, Rebuilt, Forgetful, Nested, OtherFunction, OtherLayer])
@pytest.mark.parametrize("inner", [False, True], ids=["alone", "as a part"])
def test_copies_that_are_none_are_refused_and_the_module_stays(kind: type[Body], inner: bool) -> None:
    module = kind()
    given = nn.Sequential(nn.Flatten(), module) if inner else module
    before = copy.deepcopy(module.state_dict())
    for use in (
        lambda: gls_es.Network(given, (4,)),
        lambda: gls_es.certify(given, torch.rand(2, 4), [0, 1], 0.1),
    ):
        with pytest.raises(UnsupportedNetworkError, match="cop"):
            use()
        after = module.state_dict()
        assert all(torch.equal(before[n], after[n]) and before[n].dtype == after[n].dtype for n in before)


class Keeps(Body):
    """Much that an ordinary copy keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = [1, 2.5, (3, "four"), {5, 6}, {(7, 8): None}]
        self.array = np.arange(3.0)
        self.tensors = collections.deque([torch.ones(2)])
        self.twice = [self.array, self.array]
        self.kinds = {nn.ReLU, object}
        self.by_object = {object(): 1, frozenset({2}): 2}
        self.device, self.dtype, self.size = torch.device("cpu"), torch.float32, torch.Size([4])
        self.make = nn.ReLU
        self.call = len
        self.other = [nn.Linear(2, 2)]


def test_what_is_copied_as_usual_passes() -> None:
    module = Keeps()
    copied = true_copy(module)
    assert copied is not module
    assert copied.training
    x = torch.rand(3, 4)
    assert torch.equal(copied(x), module(x))
    assert gls_es.Network(module, (4,)).num_parameters == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("case", ZOO, ids=lambda case: case.name)
def test_every_network_of_the_zoo_passes(case: Case) -> None:
    module = case.build()
    assert type(true_copy(module)) is type(module)


def test_traced_graphs_of_torch_fx_pass() -> None:
    module = torch.fx.symbolic_trace(Body())
    net = gls_es.Network(module, (4,))
    x = torch.rand(3, 4)
    torch.testing.assert_close(net.logits(x)[0], module(x))


class Marked(Body):
    """Goes by an attribute of a weight, which PyTorch's copy of a parameter leaves behind."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * getattr(self.layers[0].weight, "scale", 1.0))


def test_attributes_of_parameters_are_copied() -> None:
    module = Marked().eval()
    module.layers[0].weight.scale = 0.25
    x = torch.rand(5, 4)
    net = gls_es.Network(module, (4,))
    torch.testing.assert_close(net.logits(x)[0], module(x))
    torch.testing.assert_close(net.module()(x), module(x))


SCALES: weakref.WeakKeyDictionary[nn.Module, float] = weakref.WeakKeyDictionary()


class Registered(Body):
    """Goes by a table in which its copy does not stand."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * SCALES.get(self.layers, 1.0))


class Counting(Body):
    """A second eval() changes its weights, as merging them without a guard does."""

    merged = 0

    def train(self, mode: bool = True) -> Counting:
        super().train(mode)
        if not mode:
            self.merged += 1
            if self.merged == 2:
                with torch.no_grad():
                    self.layers[0].weight.zero_()
        return self


class Frozen(Body):
    """Overrides train() as many do, and changes nothing but flags."""

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.layers[0].train(False)
        return self


def test_what_a_copy_computes_is_compared_too() -> None:
    module = Registered().eval()
    gls_es.Network(module, (4,))
    SCALES[module.layers] = 0.25
    with pytest.raises(UnsupportedNetworkError, match="its copy computes something else"):
        gls_es.Network(module, (4,))


@pytest.mark.parametrize("mode", [True, False])
def test_eval_may_only_set_flags(mode: bool) -> None:
    with pytest.raises(UnsupportedNetworkError, match=r"eval\(\) changes 'merged'"):
        gls_es.Network(Counting().train(mode), (4,))
    gls_es.Network(Frozen().train(mode), (4,))


class Asking(Body):
    """Goes by whether its weights are to be trained."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * (0.25 if self.layers[0].weight.requires_grad else 1.0))


def test_what_goes_by_gradients_of_weights_is_refused() -> None:
    with pytest.raises(UnsupportedNetworkError, match="goes by whether weights require gradients"):
        gls_es.Network(Asking().eval(), (4,))
