"""The module that an ONNX graph becomes: small modules applied in order, traced by ``gls_es.Network`` as any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class OnnxModule(nn.Module):
    """Operations applied one after the other, each to values that were computed before.

    Args:
        operations: what computes the values 1, 2, ...; value 0 is the input.
        wiring: per operation, the indices of the values it reads.
        result: index of the value that is returned.
    """

    def __init__(self, operations: Sequence[nn.Module], wiring: Sequence[tuple[int, ...]], result: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)
        self.wiring = tuple(wiring)
        self.result = result

    def forward(self, x: Tensor) -> Tensor:
        """(B, *input_shape) -> (B, K)."""
        values = [x]
        for operation, sources in zip(self.operations, self.wiring, strict=True):
            values.append(operation(*(values[i] for i in sources)))
        return values[self.result]

    def extra_repr(self) -> str:
        """The wiring: modules of equal layers in another arrangement are other networks."""
        return f"wiring={self.wiring}, result={self.result}"


class Sum(nn.Module):
    """The sum of two activations."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return left + right


class Difference(nn.Module):
    """The difference of two activations."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return left - right


class Extreme(nn.Module):
    """The larger or the smaller of two activations.

    Args:
        least: which of both.
    """

    def __init__(self, *, least: bool) -> None:
        super().__init__()
        self.least = least

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return torch.minimum(left, right) if self.least else torch.maximum(left, right)

    def extra_repr(self) -> str:
        """Which of both."""
        return "least" if self.least else "greatest"


class Product(nn.Module):
    """The product of two activations."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return left * right


class Function(nn.Module):
    """A function of single numbers that PyTorch has no module for.

    Args:
        name: what it is, with its constants.
        function: elementwise.
    """

    def __init__(self, name: str, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.name = name
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """The activation's shape is kept."""
        return self.function(x)

    def extra_repr(self) -> str:
        """The function."""
        return self.name


class WithConstant(nn.Module):
    """An arithmetic operation with a constant.

    Args:
        op: "Add", "Sub", "Mul", "Div", "Max" or "Min".
        value: the constant; it broadcasts to the activation.
        first: whether the constant is the left operand.
    """

    value: Tensor

    def __init__(self, op: str, value: Tensor, *, first: bool) -> None:
        super().__init__()
        self.op = op
        self.first = first
        self.register_buffer("value", value)

    def forward(self, x: Tensor) -> Tensor:
        """The activation's shape is kept."""
        if self.op == "Add":
            return x + self.value
        if self.op == "Mul":
            return x * self.value
        if self.op in ("Max", "Min"):
            return (torch.maximum if self.op == "Max" else torch.minimum)(x, self.value)
        if self.op == "Sub":
            return self.value - x if self.first else x - self.value
        return x / self.value

    def extra_repr(self) -> str:
        """The operation."""
        return f"{self.op}, constant {'first' if self.first else 'second'}"


class Selected(nn.Module):
    """Copies of values in another order, or several times, and numbers where nothing is copied.

    Args:
        index: (n,), int64: the place of each output's value among all values, one after the other; -1 for none.
        shape: of the result, without the batch axis.
        fill: (n,), the numbers where nothing is copied; None for zeros.
    """

    index: Tensor
    taken: Tensor
    fill: Tensor

    def __init__(self, index: Tensor, shape: tuple[int, ...], fill: Tensor | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.complete = bool((index >= 0).all())
        self.register_buffer("index", index.clamp_min(0))
        self.register_buffer("taken", index >= 0)
        self.register_buffer("fill", torch.zeros(len(index)) if fill is None else fill)

    def forward(self, *values: Tensor) -> Tensor:
        """(B, ...) each -> (B, *shape)."""
        flat = values[0].flatten(1) if len(values) == 1 else torch.cat([value.flatten(1) for value in values], 1)
        found = flat.index_select(1, self.index)
        if not self.complete:
            found = torch.where(self.taken, found, self.fill)
        return found.reshape(-1, *self.shape)

    def extra_repr(self) -> str:
        """The shape."""
        return str(self.shape)


class Summed(nn.Module):
    """Sums over axes.

    Args:
        axes: counted with the batch axis.
        shape: of the result, without the batch axis.
    """

    def __init__(self, axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.axes, self.shape = axes, shape

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, *shape)."""
        return x.sum(self.axes).reshape(-1, *self.shape)

    def extra_repr(self) -> str:
        """Axes and shape."""
        return f"{self.axes}, {self.shape}"


class Shaped(nn.Module):
    """The same numbers in another shape, image by image.

    Args:
        shape: without the batch axis.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, *shape)."""
        return x.reshape(-1, *self.shape)

    def extra_repr(self) -> str:
        """The shape."""
        return str(self.shape)


def with_weights(make: type[nn.Module], *args: Any, weights: dict[str, Tensor | None], **options: Any) -> nn.Module:
    """A torch module that holds the given weights; none are drawn at random, so no random state changes.

    Args:
        make: the class.
        args: what it takes.
        weights: its parameters and buffers by name.
        options: what it takes, too.
    """
    module = make(*args, device="meta", **options)
    for name, value in weights.items():
        if value is None:
            continue
        if name in module._parameters:
            module.register_parameter(name, nn.Parameter(value))
        else:
            module.register_buffer(name, value)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        module.num_batches_tracked = torch.tensor(0)
    return module.eval()
