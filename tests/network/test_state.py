"""A forward that counts its calls, wherever the count is kept, is refused: a later call may compute something else.

Every counter below is run on its own first: it must tell 1, 2, 3 on three calls, or the test would show nothing.
"""

import array
import collections
import copy
import ctypes
import io
import itertools
import random
import types

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gls_es
from gls_es.errors import UnsupportedNetworkError

CALLS = [0]
NUMBERED = {"calls": 0}


class Slotted:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Kept:
    n = 0


class Counting(nn.Module):
    """A layer whose result is negated from the 1000th call on."""

    calls = itertools.count(1)
    table = np.zeros(1)

    def __init__(self, kept: object, count: object) -> None:
        super().__init__()
        self.layer, self.count = nn.Linear(2, 2), count
        if isinstance(kept, Tensor):
            self.register_buffer("kept", kept)
        else:
            self.kept = kept
        self._call_hooks = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if self.count(self) < 1000 else -self.layer(x)


def _first(kept: object) -> int:
    kept[0] += 1
    return kept[0]


def _named(owner: object, name: str = "n") -> int:
    setattr(owner, name, getattr(owner, name) + 1)
    return getattr(owner, name)


def _default(net: Counting, memory: list = [0]) -> int:  # noqa: B006
    return _first(memory)


def _own(net: Counting) -> int:
    return _named(_own)


_own.n = 0


def _closed() -> object:
    n = 0

    def count(net: Counting) -> int:
        nonlocal n
        n += 1
        return n

    return count


def _global(net: Counting) -> int:
    return _first(CALLS)


def _in_table(net: Counting) -> int:
    NUMBERED["calls"] += 1
    return NUMBERED["calls"]


ELSEWHERE = types.ModuleType("elsewhere")
ELSEWHERE.calls = 0


def _in_module(net: Counting) -> int:
    ELSEWHERE.calls += 1
    return ELSEWHERE.calls


def _by_list(net: Counting) -> float:
    torch._foreach_add_([net.kept], 1.0)
    return net.kept.item()


def _by_moving(net: Counting) -> int:
    """The same numbers, at other places, where PyTorch does not see it."""
    kept = net.kept.numpy()
    kept[:] = np.roll(kept, 2)
    return int(kept.argmax()) // 2


def _by_batch_norm(net: Counting) -> float:
    """Its schema does not say that it writes."""
    nn.functional.batch_norm(torch.ones(2, 1) + net.kept, net.kept, torch.ones(1), training=True, momentum=1.0)
    return net.kept.item()


def _nested() -> list:
    kept = [0]
    for _ in range(8):
        kept = [kept]
    return kept


def _innermost(kept: list) -> list:
    return kept if isinstance(kept[0], int) else _innermost(kept[0])


class Hidden(nn.Module):
    n = 0


COUNTERS = {
    "foreach on a buffer": (torch.zeros(1), _by_list),
    "places in a large buffer": (torch.eye(1, 2000)[0], _by_moving),
    "statistics of a buffer": (torch.zeros(1), _by_batch_norm),
    "NumPy array": (np.zeros(1), lambda n: _first(n.kept)),
    "deque": (collections.deque([0]), lambda n: _first(n.kept)),
    "array": (array.array("i", [0]), lambda n: _first(n.kept)),
    "bytearray": (bytearray(1), lambda n: _first(n.kept) % 255),
    "counts": (collections.Counter({0: 0}), lambda n: _first(n.kept)),
    "BytesIO": (io.BytesIO(), lambda n: n.kept.write(b".") and n.kept.tell()),
    "ctypes": (ctypes.c_long(), lambda n: _named(n.kept, "value")),
    "itertools.count": (itertools.count(1), lambda n: next(n.kept)),
    "iterator of a list": (iter(range(1, 2000)), lambda n: next(n.kept)),
    "named hooks": (None, lambda n: _named(n, "_call_hooks")),
    "slots": (Slotted(), lambda n: _named(n.kept)),
    "object": (types.SimpleNamespace(n=0), lambda n: _named(n.kept)),
    "deep in lists": (_nested(), lambda n: _first(_innermost(n.kept))),
    "module in a list": ([Hidden()], lambda n: _named(n.kept[0])),
    "iterator of the class": (None, lambda n: next(type(n).calls)),
    "array of the class": (None, lambda n: _first(type(n).table)),
    "another class": (None, lambda n: _named(Kept)),
    "default": (None, _default),
    "function": (None, _own),
    "closure": (None, _closed()),
    "global list": (None, _global),
    "global table": (None, _in_table),
    "another Python module": (None, _in_module),
}


@pytest.mark.parametrize("name", COUNTERS)
def test_forward_that_counts_its_calls_is_refused(name: str) -> None:
    net = Counting(*COUNTERS[name])
    other = copy.deepcopy(net)
    told = [float(other.count(other)) for _ in range(3)]
    assert told[1] - told[0] == told[2] - told[1] == 1
    with pytest.raises(UnsupportedNetworkError, match=r"forward changes|outlives the forward pass"):
        gls_es.Network(net, (2,))


def test_random_numbers_of_python_are_state() -> None:
    net = Counting(random.Random(0), lambda n: n.kept.random())
    with pytest.raises(UnsupportedNetworkError, match="forward changes 'kept'"):
        gls_es.Network(net, (2,))


def test_what_is_read_and_left_alone_does_no_harm() -> None:
    kept = [np.ones(2), collections.deque([1]), iter([1]), Slotted(), object(), {object(): 1}, random.Random(0), Kept]
    net = Counting(kept, lambda n: len(n.kept) + CALLS[0] + NUMBERED["calls"])
    net.register_buffer("part", torch.arange(3000.0)[1:])  # a large one that begins at an odd place
    x = torch.rand(3, 2)
    torch.testing.assert_close(gls_es.Network(net, (2,)).logits(x)[0], net(x))
