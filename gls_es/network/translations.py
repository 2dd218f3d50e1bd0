"""What each torch module, function and method becomes in the graph: one small function each, and three tables.

A translation takes the running :class:`~gls_es.network.tracing.Translation`, the recorded step and the value it
produced on a small batch, adds nodes, and returns the index of the one that stands for the step. It raises
:class:`Refused` with the reason where the step has no bounds. To support another layer, write its translation and add
it to a table.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gls_es.network.graph import Add, BatchNorm, Conv, Linear, Pool, ReLU, Reshape, Scale, Shape, Window

if TYPE_CHECKING:
    from gls_es.network.tracing import Translation


BATCH = 3  # a size that no layer has by habit, so that a reshape that touches the batch axis is noticed

HINTS = {
    "MaxPool1d": "use a strided convolution or nn.AvgPool2d",
    "MaxPool2d": "use a strided convolution or nn.AvgPool2d",
    "AdaptiveMaxPool2d": "use nn.AdaptiveAvgPool2d(1)",
    "Softmax": "leave it out: the robust loss and the certificate work on logits",
    "LogSoftmax": "leave it out: the robust loss and the certificate work on logits",
    "Conv1d": "use nn.Conv2d with a kernel of height 1",
    "Conv3d": "only nn.Conv2d is bounded",
    "ConvTranspose2d": "only nn.Conv2d is bounded",
    "LayerNorm": "use nn.BatchNorm2d, whose statistics are frozen",
    "GroupNorm": "use nn.BatchNorm2d, whose statistics are frozen",
    "InstanceNorm2d": "use nn.BatchNorm2d, whose statistics are frozen",
    "mul": "activations may be scaled by constants, not multiplied with each other",
}
_ACTIVATION_HINT = "nn.ReLU is the activation with bounds here"


class Refused(Exception):
    """Why one step has no translation."""


def shape_of(value: Tensor) -> Shape:
    """The shape of one image's value."""
    if value.dim() == 0 or value.shape[0] != BATCH:
        raise Refused(f"it mixes the images of a batch (a batch of {BATCH} becomes {tuple(value.shape)})")
    return tuple(value.shape[1:])


def per_image(value: Tensor, rank: int) -> Tensor:
    """A constant without its batch axis, with exactly ``rank`` axes."""
    if value.dim() > rank:
        if value.shape[0] != 1 or value.dim() > rank + 1:
            raise Refused(f"its constant of shape {tuple(value.shape)} differs between the images of a batch")
        value = value[0]
    return value.reshape(*[1] * (rank - value.dim()), *value.shape)


def where(step: fx.Node) -> str:
    """A step's module path, for messages."""
    if step.op in ("call_module", "get_attr"):
        return f"'{step.target}'"
    stack = step.meta.get("nn_module_stack")
    path = list(stack.values())[-1][0] if stack else ""
    place = f" in '{path}'" if path else ""
    return f"{name_of(step.target)}(){place}"


def name_of(target: Any) -> str:
    """A function's or method's name, for messages."""
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def no_bounds(name: str) -> str:
    """Why ``name`` is refused and what to use instead."""
    hint = HINTS.get(name)
    if hint is None:
        activation = hasattr(nn.modules.activation, name) or name in ("sigmoid", "tanh", "gelu", "leaky_relu", "elu")
        hint = _ACTIVATION_HINT if activation else "docs/custom_problem.md lists the supported layers"
    return f"{name} has no bounds here; {hint}"


def in_place(step: fx.Node, module: nn.Module) -> bool:
    """Whether the step overwrites its first argument."""
    if step.op == "call_module":
        return bool(getattr(module.get_submodule(str(step.target)), "inplace", False))
    if step.op == "call_method":
        return str(step.target).endswith("_")
    return bool(step.kwargs.get("inplace", False)) or step.target in IN_PLACE


# -- modules ----------------------------------------------------------------------------------------------------------


def _linear(t: Translation, step: fx.Node, out: Tensor, module: nn.Linear) -> int:
    source = t.nodes[t.operand(step)]
    if len(source.shape) != 1:
        raise Refused(f"nn.Linear on shape {source.shape}: flatten the activation first")
    return t.append(Linear, step, out, t.slice_of(module.weight), t.slice_of(module.bias))


def _conv(t: Translation, step: fx.Node, out: Tensor, module: nn.Conv2d) -> int:
    if module.padding_mode != "zeros":
        raise Refused(f"padding_mode={module.padding_mode!r} has no bounds here; use zeros")
    kernel, stride, dilation = (_pair(v) for v in (module.kernel_size, module.stride, module.dilation))
    if isinstance(module.padding, str):
        whole = [d * (k - 1) if module.padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        if any(w % 2 for w in whole):
            raise Refused("padding='same' with an even kernel pads unevenly; give the padding as a number")
        padding = _pair([w // 2 for w in whole])
    else:
        padding = _pair(module.padding)
    window = Window(kernel, stride, padding, dilation, module.groups)
    return t.append(Conv, step, out, t.slice_of(module.weight), t.slice_of(module.bias), window)


def _batch_norm(t: Translation, step: fx.Node, out: Tensor, module: nn.BatchNorm2d) -> int:
    if module.running_mean is None or module.running_var is None:
        raise Refused("BatchNorm without running statistics has no fixed function; use track_running_stats=True")
    norm = BatchNorm(str(step.target), module.eps, t.slice_of(module.weight), t.slice_of(module.bias))
    return t.append(Scale, step, out, norm)


def _avg_pool(t: Translation, step: fx.Node, out: Tensor, module: nn.AvgPool2d) -> int:
    return _pool(
        t,
        step,
        out,
        module.kernel_size,
        module.stride,
        module.padding,
        module.ceil_mode,
        module.count_include_pad,
        module.divisor_override,
    )


def _adaptive_pool(t: Translation, step: fx.Node, out: Tensor, _module: nn.AdaptiveAvgPool2d) -> int:
    return _adaptive(t, step, out)


def _flatten_module(t: Translation, step: fx.Node, out: Tensor, _module: nn.Module) -> int:
    return t.append(Reshape, step, out)


def _identity(t: Translation, step: fx.Node, _out: Tensor, _module: nn.Module) -> int:
    return t.operand(step)


def _relu_module(t: Translation, step: fx.Node, out: Tensor, _module: nn.Module) -> int:
    return t.append(ReLU, step, out)


MODULES: dict[type[nn.Module], Callable[..., int]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.Flatten: _flatten_module,
    nn.Unflatten: _flatten_module,
    nn.ReLU: _relu_module,
    nn.Identity: _identity,
    nn.Dropout: _identity,
    nn.Dropout1d: _identity,
    nn.Dropout2d: _identity,
}

# -- functions and methods ---------------------------------------------------------------------------------------------


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _pool(
    t: Translation,
    step: fx.Node,
    out: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> int:
    kernel, padding = _pair(kernel_size), _pair(padding)
    if ceil_mode:
        raise Refused("ceil_mode=True has no bounds here; use ceil_mode=False")
    if padding != (0, 0) and not count_include_pad and divisor_override is None:
        raise Refused("padding with count_include_pad=False has no bounds here; use count_include_pad=True")
    channels = out.shape[1]
    window = Window(kernel, kernel if stride in (None, [], ()) else _pair(stride), padding, (1, 1), channels)
    return t.append(Pool, step, out, window, divisor_override or math.prod(kernel))


def _adaptive(t: Translation, step: fx.Node, out: Tensor, _size: Any = None) -> int:
    before = t.nodes[t.operand(step)].shape
    if len(before) != 3 or before[1] % out.shape[2] or before[2] % out.shape[3]:
        raise Refused(f"adaptive pooling of {before} to {shape_of(out)} has uneven windows; use nn.AvgPool2d")
    kernel = (before[1] // out.shape[2], before[2] // out.shape[3])
    return t.append(Pool, step, out, Window(kernel, kernel, (0, 0), (1, 1), before[0]), math.prod(kernel))


def _pool_function(t: Translation, step: fx.Node, out: Tensor) -> int:
    options: dict[str, Any] = {k: v for k, v in step.kwargs.items() if k != "input"}
    given: tuple[Any, ...] = step.args[1:]
    return _pool(t, step, out, *given, **options)


def _add(t: Translation, step: fx.Node, out: Tensor) -> int:
    if step.kwargs.get("alpha", 1) != 1:
        raise Refused("add with alpha has no bounds here; scale the activation by a constant first")
    left, right = _operands(t, step)
    if isinstance(left, int) and isinstance(right, int):
        if t.nodes[left].shape != t.nodes[right].shape:
            raise Refused(f"it adds activations of shapes {t.nodes[left].shape} and {t.nodes[right].shape}")
        return t.add(Add(where(step), (left, right), shape_of(out)))
    source, constant = (left, right) if isinstance(left, int) else (right, left)
    assert isinstance(source, int)
    assert isinstance(constant, Tensor)
    return t.scale(step, source, out, torch.ones_like(constant), constant)


def _sub(t: Translation, step: fx.Node, out: Tensor) -> int:
    left, right = _operands(t, step)
    if isinstance(left, int) and isinstance(right, Tensor):
        return t.scale(step, left, out, torch.ones_like(right), -right)
    if isinstance(left, Tensor) and isinstance(right, int):
        return t.scale(step, right, out, -torch.ones_like(left), left)
    assert isinstance(left, int)
    assert isinstance(right, int)
    one = torch.ones((), dtype=torch.float64, device=out.device)
    negative = t.scale(step, right, out, -one, torch.zeros_like(one))
    return t.add(Add(where(step), (left, negative), shape_of(out)))


def _mul(t: Translation, step: fx.Node, out: Tensor) -> int:
    left, right = _operands(t, step)
    if isinstance(left, int) and isinstance(right, int):
        raise Refused(HINTS["mul"])
    source, constant = (left, right) if isinstance(left, int) else (right, left)
    assert isinstance(source, int)
    assert isinstance(constant, Tensor)
    return t.scale(step, source, out, constant, torch.zeros_like(constant))


def _div(t: Translation, step: fx.Node, out: Tensor) -> int:
    left, right = _operands(t, step)
    if not isinstance(left, int) or not isinstance(right, Tensor) or step.kwargs.get("rounding_mode") is not None:
        raise Refused("an activation may be divided by a constant only")
    return t.scale(step, left, out, 1 / right, torch.zeros_like(right))


def _neg(t: Translation, step: fx.Node, out: Tensor) -> int:
    one = torch.ones((), dtype=torch.float64, device=out.device)
    return t.scale(step, t.operand(step), out, -one, torch.zeros_like(one))


def _operands(t: Translation, step: fx.Node) -> tuple[int | Tensor, int | Tensor]:
    """Both operands: node indices for activations, float64 tensors for constants."""
    found: list[int | Tensor] = []
    for argument in (*step.args, step.kwargs.get("other"))[:2]:
        node = t.values[argument].node if isinstance(argument, fx.Node) else None
        if node is not None:
            found.append(node)
            continue
        constant = t.values[argument].concrete if isinstance(argument, fx.Node) else argument
        kind = constant.dtype if isinstance(constant, Tensor) else torch.float64  # a number is not rounded to float32
        found.append(torch.as_tensor(constant, dtype=kind, device=t.like.device).double())
    return found[0], found[1]


def _reshape(t: Translation, step: fx.Node, out: Tensor) -> int:
    return t.append(Reshape, step, out)


def _relu(t: Translation, step: fx.Node, out: Tensor) -> int:
    return t.append(ReLU, step, out)


def _same(t: Translation, step: fx.Node, _out: Tensor) -> int:
    return t.operand(step)


def _dropout(t: Translation, step: fx.Node, _out: Tensor) -> int:
    if step.args[2:3] != (False,) and step.kwargs.get("training", True) is not False:
        raise Refused("dropout that stays on in eval mode has no fixed function; pass training=self.training")
    return t.operand(step)


def _mean(t: Translation, step: fx.Node, out: Tensor) -> int:
    before = t.nodes[t.operand(step)].shape
    axes = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim")
    rank = len(before) + 1
    if not isinstance(axes, (tuple, list)) or len(before) != 3 or {a % rank for a in axes} != {2, 3}:
        raise Refused("mean has bounds over the two spatial axes only")
    window = Window(before[1:], before[1:], (0, 0), (1, 1), before[0])
    pooled = t.add(Pool(where(step), (t.operand(step),), (before[0], 1, 1), window, math.prod(before[1:])))
    return t.add(Reshape(where(step), (pooled,), shape_of(out)))


IN_PLACE = {operator.iadd, operator.isub, operator.imul, operator.itruediv, F.relu_, torch.relu_}

FUNCTIONS: dict[Any, Callable[..., int]] = {
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    operator.sub: _sub,
    operator.isub: _sub,
    torch.sub: _sub,
    operator.mul: _mul,
    operator.imul: _mul,
    torch.mul: _mul,
    operator.truediv: _div,
    operator.itruediv: _div,
    torch.div: _div,
    operator.neg: _neg,
    torch.neg: _neg,
    F.relu: _relu,
    F.relu_: _relu,
    torch.relu: _relu,
    torch.relu_: _relu,
    torch.flatten: _reshape,
    torch.reshape: _reshape,
    torch.mean: _mean,
    torch.squeeze: _reshape,
    F.avg_pool2d: _pool_function,
    F.adaptive_avg_pool2d: _adaptive,
    F.dropout: _dropout,
}

METHODS: dict[Any, Callable[..., int]] = {
    "add": _add,
    "add_": _add,
    "sub": _sub,
    "sub_": _sub,
    "mul": _mul,
    "mul_": _mul,
    "div": _div,
    "div_": _div,
    "relu": _relu,
    "relu_": _relu,
    "flatten": _reshape,
    "view": _reshape,
    "reshape": _reshape,
    "contiguous": _same,
    "mean": _mean,
    "neg": _neg,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
}
