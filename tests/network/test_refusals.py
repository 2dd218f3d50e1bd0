"""What is not supported is refused at construction, in one error that names everything at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gls_es
from gls_es.errors import UnsupportedNetworkError


def refusal(module: nn.Module, shape: tuple[int, ...]) -> str:
    with pytest.raises(UnsupportedNetworkError) as caught:
        gls_es.Network(module, shape)
    return str(caught.value)


class Wrong(nn.Module):
    """Several layers without bounds, nested."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"),
            nn.BatchNorm2d(2, track_running_stats=False),
            nn.Mish(),
            nn.AdaptiveMaxPool2d(3),
        )
        self.head = nn.ModuleDict({"fc": nn.Linear(18, 4), "squash": nn.Softmax(dim=1)})
        self.good = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.flatten(self.good(self.features(x)), 1)
        return self.head["squash"](self.head["fc"](h)) + 0.0


def test_one_error_lists_every_offending_module_by_path() -> None:
    message = refusal(Wrong(), (1, 6, 6))
    for path in ("features.0", "features.1", "features.2", "features.3", "head.squash"):
        assert path in message
    for name in ("circular", "track_running_stats", "Mish", "AdaptiveMaxPool2d", "Softmax"):
        assert name in message
    for innocent in ("head.fc", "good"):
        assert innocent not in message


class HeadAlone(nn.Sequential):
    """For an optimiser that trains the head alone."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return self[-1].parameters(recurse)


class NoReturn(nn.Sequential):
    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


class Wrapping(Tensor):
    """A tensor that keeps its numbers in another one, as quantised and sharded weights do."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapping:
        made: Wrapping = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)  # type: ignore[attr-defined]
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*(a.inner if isinstance(a, Wrapping) else a for a in args), **(kwargs or {}))
        return Wrapping(found) if func is torch.ops.aten.detach.default else found


def test_weights_that_are_told_otherwise_are_refused() -> None:
    layers = nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)
    assert "parameters() is overridden" in refusal(HeadAlone(*layers), (4,))
    assert "end it with 'return self'" in refusal(NoReturn(*layers), (4,))
    wrapped = nn.Sequential(nn.Linear(4, 2))
    wrapped[0].weight = nn.Parameter(Wrapping(torch.ones(2, 4)))
    assert "keeps its numbers elsewhere" in refusal(wrapped, (4,))


# name: layer, input shape, features after it, a word of the advice
SINGLE = {
    "Mish": (nn.Mish(), (3,), 3, "use nn.SiLU or nn.GELU"),
    "Hardshrink": (nn.Hardshrink(), (3,), 3, "activations with bounds"),
    "LogSigmoid": (nn.LogSigmoid(), (3,), 3, "activations with bounds"),
    "Softmax": (nn.Softmax(dim=1), (3,), 3, "logits"),
    "LogSoftmax": (nn.LogSoftmax(dim=1), (3,), 3, "logits"),
    "LayerNorm": (nn.LayerNorm(3), (3,), 3, "BatchNorm"),
    "GroupNorm": (nn.GroupNorm(1, 2), (2, 4, 4), 32, "BatchNorm"),
    "InstanceNorm2d": (nn.InstanceNorm2d(2), (2, 4, 4), 32, "BatchNorm"),
    "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool2d(1), (1, 4, 4), 1, "MaxPool2d"),
}


@pytest.mark.parametrize("name", SINGLE)
def test_each_unsupported_module_is_named_with_its_path_and_a_way_out(name: str) -> None:
    layer, shape, features, advice = SINGLE[name]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Identity(), layer)
            self.fc = nn.Linear(features, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.flatten(self.inner(x), 1))

    message = refusal(Net(), shape)
    assert "inner.1" in message
    assert name in message
    assert advice in message
    assert "fc" not in message.replace("inner.1", "")


class Recurrent(nn.Module):
    """A layer that returns a tuple, and an activation behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True)
        self.act = nn.Mish()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.rnn(x)
        return self.fc(self.act(h[:, -1]))


def test_a_layer_that_returns_a_tuple_is_named_too() -> None:
    message = refusal(Recurrent(), (5, 3))
    assert "rnn" in message
    assert "LSTM" in message


def test_batch_norm_without_running_statistics_is_refused() -> None:
    """In eval mode it still uses the statistics of the batch: no function of one image."""
    batch_norm = nn.BatchNorm2d(2, track_running_stats=False)
    message = refusal(nn.Sequential(nn.Conv2d(1, 2, 3), batch_norm, nn.Flatten(), nn.Linear(32, 3)), (1, 6, 6))
    assert "'1'" in message
    assert "track_running_stats" in message


class Functional(nn.Module):
    """One expression between two Linear layers."""

    def __init__(self, expression: object) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)
        self.expression = expression

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.expression(self.first(x)))


EXPRESSIONS = {
    "mish": F.mish,
    "max_pool1d": lambda h: F.max_pool1d(h, 1),
    "product of two activations": lambda h: h * h.relu(),
    "square": lambda h: h**2,
    "matrix product of activations": lambda h: h @ h.T @ h,
    "quotient of activations": lambda h: h / (h + 1.0),
    "maximum with an input of its own": lambda h: torch.maximum(h, h[:, :1]),
    "sign": torch.sign,
    "clamp between activations": lambda h: torch.clamp(h, -h, h),
    "softmax": lambda h: h.softmax(1),
    "layer_norm": lambda h: F.layer_norm(h, (4,)),
    "batch mean": lambda h: h - h.mean(0),
    "data-dependent branch": lambda h: h if h.sum() > 0 else -h,
    "data-dependent loop": lambda h: sum(h for _ in range(int(h.sum()))),
    "item": lambda h: h * h.sum().item(),
    "indexing": lambda h: h[:, torch.argsort(h.sum(0))],
    "noise": lambda h: h + torch.rand_like(h),
    "active dropout": lambda h: F.dropout(h, 0.5, training=True),
    "sort": lambda h: h.sort(dim=1).values,
    "numpy": lambda h: torch.from_numpy(h.detach().numpy()),
}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_unsupported_expressions_are_refused(expression: object) -> None:
    message = refusal(Functional(expression), (4,))
    assert len(message) > 40
    assert "Traceback" not in message


EMPTY = {
    "a layer without outputs": None,
    "a sum of nothing": lambda x: x.index_select(1, torch.zeros(0, dtype=torch.long)).sum(1, keepdim=True),
    "a mean of nothing": lambda x: x.index_select(1, torch.zeros(0, dtype=torch.long)).mean(1, keepdim=True),
    "relu of nothing": lambda x: x.index_select(1, torch.zeros(0, dtype=torch.long)).relu(),
}


@pytest.mark.parametrize("name", EMPTY)
def test_steps_on_no_values_are_refused_by_name(name: str) -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.none = nn.Linear(2, 2), nn.Parameter(torch.zeros(0, 2))

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x)
            return torch.cat([F.linear(h, self.none) if "layer" in name else EMPTY[name](h), h], 1)

    assert "no inputs or no outputs" in refusal(Partly(), (2,))


def test_functional_and_modules_are_listed_together() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.act = nn.Linear(4, 4), nn.Linear(4, 3), nn.Softsign()

        def forward(self, x: Tensor) -> Tensor:
            return F.mish(self.b(self.act(self.a(x))))

    message = refusal(Net(), (4,))
    assert "act" in message
    assert "Softsign" in message
    assert "mish" in message


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.fc(x + y)


class TwoOutputs(TwoInputs):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.fc(x), x


class Constant(TwoInputs):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.ones(1, 4))


@pytest.mark.parametrize("module", [TwoInputs(), TwoOutputs(), Constant()], ids=lambda m: type(m).__name__)
def test_networks_of_another_signature_are_refused(module: nn.Module) -> None:
    refusal(module, (4,))


@pytest.mark.parametrize(
    "layer",
    [nn.LazyLinear(3), nn.Linear(4, 3, dtype=torch.complex64), nn.Linear(4, 3).half(), nn.Linear(4, 3).bfloat16()],
    ids=["lazy", "complex", "half", "bfloat16"],
)
def test_networks_of_other_number_types_are_refused(layer: nn.Module) -> None:
    with pytest.raises(gls_es.GlsEsError):
        gls_es.Network(nn.Sequential(layer), (4,))


def test_networks_of_mixed_precision_are_refused() -> None:
    with pytest.raises(gls_es.GlsEsError):
        gls_es.Network(nn.Sequential(nn.Linear(4, 4).double(), nn.Linear(4, 3)), (4,))
