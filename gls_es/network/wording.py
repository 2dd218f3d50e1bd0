"""The words in which a network is refused: which step, why, and what to use instead."""

from __future__ import annotations

import torch
from torch import nn

HINTS = {
    "AdaptiveMaxPool2d": "use nn.MaxPool2d with the size of the window",
    "Softmax": "leave it out: the robust loss and the certificate work on logits",
    "LogSoftmax": "leave it out: the robust loss and the certificate work on logits",
    "Conv3d": "convolutions over one axis and two axes are bounded",
    "ConvTranspose3d": "convolutions over one axis and two axes are bounded",
    "LayerNorm": "use nn.BatchNorm1d or nn.BatchNorm2d, whose statistics are frozen",
    "GroupNorm": "use nn.BatchNorm2d, whose statistics are frozen",
    "Mish": "use nn.SiLU or nn.GELU, which are close to it",
    "InstanceNorm1d": "use nn.BatchNorm1d, whose statistics are frozen",
    "InstanceNorm2d": "use nn.BatchNorm2d, whose statistics are frozen",
}
_ACTIVATION_HINT = "use ReLU, LeakyReLU, GELU, SiLU or another of the activations with bounds in docs/custom_problem.md"
_KNOWN = (
    *(nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.MaxPool1d, nn.MaxPool2d),
    *(nn.Flatten, nn.Unflatten, nn.ReLU, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Sequential),
    *(
        nn.ModuleList,
        nn.ModuleDict,
        nn.Conv1d,
        nn.ConvTranspose1d,
        nn.ConvTranspose2d,
        nn.AvgPool1d,
        nn.AdaptiveAvgPool1d,
    ),
    *(nn.Upsample, nn.UpsamplingNearest2d, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Unfold),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d),
    *(nn.LeakyReLU, nn.PReLU, nn.Hardtanh, nn.ReLU6, nn.Threshold, nn.Hardsigmoid, nn.Hardswish),
    *(nn.Sigmoid, nn.Tanh, nn.Softplus, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.GELU),
)

PRODUCT = "activations may be scaled by constants, not multiplied with each other"
PARAMETERS = (
    "parameters used outside nn.Linear, convolutions and nn.BatchNorm have bounds only as they are, added to "
    "activations or multiplied with them; use one of these modules, or register a constant as a buffer"
)
DRAWS = (
    "it draws random numbers, so the network has no fixed function; "
    "dropout stays off in eval mode with nn.Dropout or training=self.training"
)
UNWRITTEN = "it reads memory that nothing was written to; begin with torch.zeros"
STATE = (
    "it changes a tensor that outlives the forward pass, so that the next pass computes something else; "
    "write to a copy of it"
)
DOOR = "it takes numbers out of PyTorch, and what becomes of them is not seen; use operations of torch"
UNSEEN = (
    "it reads a tensor that the forward pass makes where it is not seen, in another thread, by NumPy or DLPack say; "
    "make it in __init__ if it is a constant, or by operations of torch in forward"
)
PART = "it writes to a part of a tensor; put the parts together with operations that make a new one"
OVERLAP = "it reads memory that it writes, in another order; write to a new tensor"
BRANCH = "a number is read off values; write forward without branches or loops that depend on the values of tensors"


def builtin(module: nn.Module) -> bool:
    """Whether a module is one of PyTorch's own, whose inside is no business of the user's."""
    return type(module).__module__.startswith("torch.nn.modules")


def step_name(operator: str, path: str, module: nn.Module) -> str:
    """A step for messages: the path of a PyTorch module, or the operator and the module that calls it."""
    if path and builtin(module):
        return f"'{path}'"
    return f"{operator}() in '{path}'" if path else f"{operator}()"


def no_bounds(name: str) -> str:
    """Why a module or an operator is refused and what to use instead."""
    hint = HINTS.get(name)
    if hint is None:
        activation = hasattr(nn.modules.activation, name) or name.rstrip("_") in _ACTIVATIONS
        hint = _ACTIVATION_HINT if activation else "docs/custom_problem.md lists the supported layers"
    return f"{name} has no bounds here; {hint}"


_ACTIVATIONS = ("sigmoid", "tanh", "gelu", "leaky_relu", "elu", "silu", "hardtanh", "softplus", "_prelu_kernel")


def module_reason(module: nn.Module) -> str | None:
    """Why a PyTorch module is refused, where the module says it better than the operator inside."""
    if not builtin(module):
        return None
    if type(module) not in _KNOWN:
        return no_bounds(type(module).__name__)
    if isinstance(module, nn.Conv1d | nn.Conv2d) and module.padding_mode == "circular":
        return "padding_mode='circular' has no bounds here; use zeros"
    return None


def first_line(error: Exception) -> str:
    """What an exception says, on one line without a full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def another_type(own: torch.dtype, made: torch.dtype) -> str:
    """Why a step that leaves the network's number format is refused."""
    names = [str(dtype).removeprefix("torch.") for dtype in (own, made)]
    return (
        f"it turns {names[0]} into {names[1]}; a network is run in float32 and in float64, "
        "so leave casts out, or cast to the type of a parameter"
    )
