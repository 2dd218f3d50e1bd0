"""What is looked at before a module is copied and run: hooks, replaced parts, number formats, what forward takes."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from gls_es.errors import UnsupportedNetworkError
from gls_es.network.copies import true_copy
from gls_es.network.state import changed, contents_of
from gls_es.network.vectors import last_channels

_GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks")


def private_copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode that nobody else holds, after a look at what tracing cannot see or no bound is about.

    Raises:
        UnsupportedNetworkError: listing everything that is in the way.
    """
    problems = [*_parts(module), *_weights(module), *_numbers(module), *_arguments(module)]
    if any(getattr(torch_module, name, None) for name in _GLOBAL_HOOKS):
        problems.append("a forward hook is registered for all modules of this process; remove it")
    refuse(module, problems)
    copied = true_copy(module)
    _evaluating(module, copied)
    for parameter in copied.parameters():
        if not (parameter.is_contiguous() or last_channels(parameter)):  # a transposed or an expanded tensor
            parameter.data = parameter.data.contiguous()
    return copied


def _evaluating(module: nn.Module, copied: nn.Module) -> None:
    """Put a copy in eval mode, which must change nothing else where it is in that mode already.

    Raises:
        UnsupportedNetworkError: it does; or it is not to be chained.
    """
    plain = all(type(part).train is nn.Module.train and type(part).eval is nn.Module.eval for part in copied.modules())
    already = not any(part.training for part in copied.modules())
    before = contents_of(copied) if already and not plain else None
    if copied.eval() is not copied:
        refuse(module, ["its train() or eval() does not return the module; end it with 'return self'"])
    if plain:
        return
    before, after = before or contents_of(copied), contents_of(copied.eval())
    if (name := changed(before, after)) is not None:
        refuse(module, [f"eval() changes '{name}' of a module in eval mode; it is called again, and must not"])


def refuse(module: nn.Module, problems: list[str]) -> None:
    """Raise one error that lists all problems, if there are any."""
    if problems:
        listed = "; ".join(f"({i}) {p}" for i, p in enumerate(problems, 1))
        raise UnsupportedNetworkError(f"{type(module).__name__} cannot be bounded: {listed}.")


def _parts(module: nn.Module) -> list[str]:
    """What changes a module's function from outside, so that it may be another one tomorrow."""
    problems = []
    for path, part in module.named_modules():
        place = f"'{path}'" if path else type(module).__name__
        if isinstance(part, torch.jit.ScriptModule):
            problems.append(f"{place}: compiled modules cannot be looked into; give the module it was made from")
        elif part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            problems.append(f"{place}: it has hooks or a replaced forward (pruning, for example); make them permanent")
        elif isinstance(vars(part).get("_modules", {}).get("parametrizations"), nn.ModuleDict):
            problems.append(
                f"{place}: its weights are parametrized (weight norm, for example); "
                "make them permanent with torch.nn.utils.parametrize.remove_parametrizations"
            )
    return problems


def _weights(module: nn.Module) -> list[str]:
    """Whether it tells its weights as every module does; their order is that of the weight vector."""
    if [*map(id, module.parameters())] == [*map(id, nn.Module.parameters(module))]:
        return []
    return [
        "parameters() is overridden, and leaves out or orders its weights in a way of its own; rename that function"
    ]


def _numbers(module: nn.Module) -> list[str]:
    """Number formats that no bound is about."""
    parameters = list(module.named_parameters())
    lazy = [name for name, p in parameters if isinstance(p, nn.parameter.UninitializedParameter)]
    problems = [f"'{name}': it is not initialised yet; run the module once on a batch" for name in lazy]
    kinds = {str(p.dtype) for _, p in parameters}
    if not lazy and (len(kinds) > 1 or not kinds <= {"torch.float32", "torch.float64"}):
        problems.append(f"the parameters are {', '.join(sorted(kinds))}; all must be float32, or all float64")
    buffers = [(name, b) for name, b in module.named_buffers() if b.is_floating_point()]
    problems += [
        f"'{name}': it is {b.dtype} beside weights of {min(kinds)}, to which it would be rounded; cast it in __init__"
        for name, b in buffers
        if len(kinds) == 1 and str(b.dtype) not in kinds
    ]
    tensors = [*parameters, *module.named_buffers()]
    problems += [
        f"'{name}': it is on the meta device and has no values" for name, t in tensors if t.device.type == "meta"
    ]
    return problems


def _arguments(module: nn.Module) -> list[str]:
    """Forward has to take one input."""
    try:
        taken = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds: Any = inspect.Parameter
    needed = [p.name for p in taken if p.default is p.empty and p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)]
    if len(needed) < 2:
        return []
    return [f"forward takes more than one input ({', '.join(needed)}); give all but the image a default"]
