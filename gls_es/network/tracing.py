"""From an ``nn.Module`` to a :class:`~gls_es.network.graph.Graph`, or one error that lists all that is in the way.

The module is executed and watched (``recording``) several times: in its own number format and in float64, with other
weights, other images, other batch sizes and other modes of autograd (``conditions``). All passes must build the same
graph with the same constants, which leaves no room for randomness, for state, and for numbers that come from weights or
images on ways that no operator takes. Every value of a pass is then compared with what its node makes of the values
before it (``faithful``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gls_es.errors import UnsupportedNetworkError
from gls_es.network.admission import refuse
from gls_es.network.conditions import Condition, conditions_of
from gls_es.network.copies import deep_copy
from gls_es.network.endings import inner_endings, without_ending
from gls_es.network.faithful import Pass, alike, unfaithful
from gls_es.network.graph import Constant, Graph, Input, Nonlinear, Scale, Shape
from gls_es.network.merging import fused
from gls_es.network.operators import Refused
from gls_es.network.recording import Recorder
from gls_es.network.state import changed, state_of
from gls_es.network.unseen import unseen_step
from gls_es.network.vectors import vector_of
from gls_es.network.wording import first_line


@dataclass
class Traced:
    """A module as a graph.

    Attributes:
        graph: what is computed with.
        steps: the same before anything was merged, a node for every executed operator.
        constants: what ``Constant`` nodes refer to when the module runs in its own format, by name; float64 numbers.
        wide: the same when it runs in float64: a 0.1 in the code is another number there.
        left_out: "Softmax" or "LogSoftmax", if that layer came after the logits.
    """

    graph: Graph
    steps: Graph
    constants: dict[str, Tensor]
    wide: dict[str, Tensor]
    left_out: str | None


@torch.no_grad()
def trace(module: nn.Module, input_shape: Shape) -> Traced:
    """Translate ``module`` (a private copy in eval mode) for inputs of ``input_shape`` (without the batch axis).

    A last Softmax is taken out of the module.

    Raises:
        UnsupportedNetworkError: listing every offending step by its module's path, why, and what to use instead.
    """
    like = next(module.parameters(), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, *input_shape, generator=generator, dtype=torch.float64)
    plain = [torch.full((1, *input_shape), value, dtype=torch.float64) for value in (0.0, 1.0, 0.5)]
    images = torch.cat([noise[:1], *plain, noise[1:]]).to(like.device)
    with _undisturbed(like.device):
        own = _watched(module, images[:3].to(like.dtype), "")
        left_out = without_ending(module, own.nodes)
        if left_out is not None:
            own = _watched(module, images[:3].to(like.dtype), "")
            refuse(module, inner_endings(own.nodes))
        _check_alike(module, images.to(like.dtype), own)
        wide = deep_copy(module).double()
        again = _watched(wide, images, f" in float64 on a batch of {len(images)}")
        for parameter in wide.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.mul_(1.5).add_(noise.to(parameter.device), alpha=0.05)
        other = _watched(wide, images[1:].flip(0), " with other weights")
    _check(module, (own, again, other), exact=like.dtype == torch.float64)
    return _finished(own, again.constants, like.device, left_out)


def _finished(own: Pass, wide: dict[str, Tensor], device: torch.device, left_out: str | None) -> Traced:
    nodes, constants = own.nodes, own.constants
    last = nodes[-1]
    if isinstance(last, Input | Nonlinear):  # logits need a last affine layer to fold the margins into
        key = f"constant{len(nodes)}"
        for found in (constants, wide):
            found[f"{key}.scale"] = torch.ones((1,), dtype=torch.float64, device=device)
            found[f"{key}.shift"] = torch.zeros((1,), dtype=torch.float64, device=device)
        nodes = (*nodes, Scale("output", (len(nodes) - 1,), last.shape, Constant(key)))
    return Traced(fused(nodes, len(own.params)), Graph(nodes, len(own.params)), constants, wide, left_out)


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Neither the caller's autocast nor its random numbers take part."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        for kind in {"cpu", device.type}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


_DRAWN = 12
"""Images more that are compared where graphs differ."""


class _FailedAsItMay(Exception):
    """The module raised where that is no fault."""


def _watched(
    module: nn.Module, images: Tensor, condition: str, *, before: Pass | None = None, may_fail: bool = False
) -> Pass:
    """A forward pass on private images, or the error that lists all that was in the way.

    ``before`` is an earlier pass of the same module.
    """
    recorder = Recorder(module, images.clone(), None if before is None else before.kept)
    problems = recorder.translation.problems
    state = state_of(module, outside=bool(condition))
    try:
        output = recorder.node_of_result(recorder.run())
    except Refused as reason:
        output = None
        problems.append(f"forward returns no logits: {reason}")
    except Exception as error:
        if may_fail:
            raise _FailedAsItMay from error
        problems.append(
            f"{recorder.where('forward')} fails on an input of shape {tuple(images.shape[1:])}{condition} "
            f"({first_line(error)}): {_advice(condition)}"
        )
        refuse(module, problems)
        raise
    name = changed(state, state_of(module, outside=bool(condition)))
    if name is not None:
        problems.append(f"forward changes '{name}', so that the next pass may compute something else; leave it alone")
    if output is None and not problems:
        problems.append("forward must return one tensor of logits that depends on its input")
    nodes = recorder.translation.nodes
    if output is not None:
        problems += inner_endings(nodes[:output])
    if output is not None and (len(nodes[output].shape) != 1 or nodes[output].shape[0] < 2):
        problems.append(
            f"forward returns shape (batch, {', '.join(map(str, nodes[output].shape))}): logits must be (batch, K) "
            "with K >= 2; end with nn.Flatten() or nn.Linear"
        )
    refuse(module, problems)
    assert output is not None
    kept, made = recorder.storages.constants(), recorder.translation
    params = vector_of(module.parameters()).to(images)
    return Pass(tuple(nodes[: output + 1]), made.constants, recorder.values, params, module.get_buffer, kept)


def _advice(condition: str) -> str:
    if condition:
        return "a network is run on batches of any size, in float32 and in float64"
    return "check input_shape, given without the batch axis"


def _check_alike(module: nn.Module, images: Tensor, own: Pass) -> None:
    """The same graph comes out in all circumstances of a call, one image among them."""
    for condition in conditions_of(own.nodes):
        with condition.holds():
            run = _repeated(module, condition, images, own)
            _check_unseen(module, condition, images)
        if run is None:
            continue
        same = all(_equal(constant, run.constants.get(key)) for key, constant in own.constants.items())
        if (run.nodes != own.nodes or not same) and not _same_function(module, condition, images):
            raise UnsupportedNetworkError(
                f"{type(module).__name__}: forward computes something else{condition.told}; it must not depend on the "
                "size of the batch nor on the modes of autograd, and keep the batch axis, by flatten(1) or "
                "squeeze(dim) say."
            )


def _same_function(module: nn.Module, condition: Condition, images: Tensor) -> bool:
    """Whether graphs that differ are of one function: PyTorch itself may multiply rows by other steps then.

    Then they have the same nonlinear steps. What goes into these, and comes out in the end, is compared in float64 on
    more images than tracing has: between nonlinear steps all is affine, and shows where it differs.
    """
    wide = deep_copy(module).double()
    drawn = torch.rand(_DRAWN, *images.shape[1:], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for image in torch.cat([images.double(), drawn.to(images.device)]).split(1):
        plain = _watched(wide, image.expand(3, *image.shape[1:]), condition.told)
        with condition.holds():
            other = _repeated(wide, condition, image, plain)
        if other is None or not alike(plain, other):
            return False
    return True


def _repeated(module: nn.Module, condition: Condition, images: Tensor, own: Pass) -> Pass | None:
    """A watched pass in these circumstances; None if it may fail there and does."""
    try:
        images = condition.images(images)
        return _watched(module, images, condition.told, before=own, may_fail=condition.may_fail)
    except _FailedAsItMay:
        return None


def _check_unseen(module: nn.Module, condition: Condition, images: Tensor) -> None:
    """No step passes by what watches."""
    try:
        step = unseen_step(module, condition.images(images))
    except Exception as error:
        if condition.may_fail or torch.is_inference_mode_enabled():
            return
        raise UnsupportedNetworkError(
            f"{type(module).__name__}: forward fails{condition.told} of a subclass of torch.Tensor "
            f"({first_line(error)}); this is how steps in other threads are looked for."
        ) from error
    if step is not None:
        raise UnsupportedNetworkError(
            f"{type(module).__name__}: forward executes {step}{condition.told} in another thread or behind modes that "
            "it switches off, where nobody sees it; call it in forward itself."
        )


def _check(module: nn.Module, passes: tuple[Pass, ...], *, exact: bool) -> None:
    """All passes are the same graph, and each is what its module computed."""
    name = type(module).__name__
    own, again, other = passes
    if not own.nodes == again.nodes == other.nodes:
        raise UnsupportedNetworkError(
            f"{name}: forward computes something else from one pass to the next; it must not depend on the weights, "
            "the number format or the size of the batch, nor on anything that changes."
        )
    for key, constant in own.constants.items():
        double, third = again.constants.get(key), other.constants.get(key)
        near = double is not None and constant.shape == double.shape and _near(constant, double, exact)
        if not near or not _equal(third, double):
            raise UnsupportedNetworkError(
                f"{name}: forward computes with numbers that differ from one pass to the next (numbers computed from "
                "parameters or activations outside of PyTorch, state, randomness)."
            )
    for run in (again, other):
        step = unfaithful(run)
        if step is not None:
            raise UnsupportedNetworkError(
                f"{name}: the traced graph does not reproduce the module's values at {step}; forward does something "
                "that tracing does not see."
            )


def _near(single: Tensor, double: Tensor, exact: bool) -> bool:
    return torch.equal(single, double) if exact else torch.allclose(single, double, 1e-3, equal_nan=True)


def _equal(left: Tensor | None, right: Tensor | None) -> bool:
    if left is None or right is None or left.shape != right.shape:
        return False
    return bool(((left == right) | (left.isnan() & right.isnan())).all())
