"""From an ``nn.Module`` to a :class:`~gls_es.network.graph.Graph`, or one error that lists all that is in the way.

torch.fx records what ``forward`` does; each recorded step is then executed once on a small batch, which gives the
shapes, and translated. Steps that do not depend on the image (buffers, sizes) are constants. A step that has no
translation is noted with its module path and the search goes on, so that the user sees all of them at once.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from gls_es.errors import UnsupportedNetworkError
from gls_es.network.graph import Constant, Graph, Input, Node, ReLU, Scale, Shape, Slice, fused
from gls_es.network.translations import (
    BATCH,
    FUNCTIONS,
    METHODS,
    MODULES,
    Refused,
    in_place,
    name_of,
    no_bounds,
    per_image,
    shape_of,
    where,
)


@dataclass
class Traced:
    """A graph and the constants it refers to, float64, by name."""

    graph: Graph
    constants: dict[str, Tensor]


@dataclass(frozen=True)
class _Value:
    """What a step produced: its concrete value and its node (None: a constant)."""

    concrete: Any
    node: int | None = None


def trace(module: nn.Module, input_shape: Shape) -> Traced:
    """Translate ``module`` (in eval mode) for inputs of ``input_shape`` (without the batch axis).

    Raises:
        UnsupportedNetworkError: listing every offending module by its path, why, and what to use instead.
    """
    _check_modules(module)
    try:
        recorded = fx.Tracer().trace(module)
    except Exception as error:
        raise UnsupportedNetworkError(
            f"{type(module).__name__}.forward cannot be traced ({_first_line(error)}); "
            "write it without branches or loops that depend on the values of tensors."
        ) from error
    translation = Translation(module, input_shape)
    with torch.no_grad():
        for step in recorded.nodes:
            translation.take(step)
            if translation.finished:
                break
    return translation.result()


def _check_modules(module: nn.Module) -> None:
    """Refuse what changes a module's function where tracing does not look, and numbers that no bound is about."""
    problems = []
    for path, part in module.named_modules():
        place = f"'{path}'" if path else type(module).__name__
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            problems.append(f"{place}: it has hooks or a replaced forward (pruning, for example); make them permanent")
    parameters = list(module.named_parameters())
    lazy = [name for name, p in parameters if isinstance(p, nn.parameter.UninitializedParameter)]
    problems += [f"'{name}': it is not initialised yet; run the module once on a batch" for name in lazy]
    kinds = {str(p.dtype) for _, p in parameters}
    if not lazy and (len(kinds) > 1 or not kinds <= {"torch.float32", "torch.float64"}):
        problems.append(f"the parameters are {', '.join(sorted(kinds))}; all must be float32, or all float64")
    if problems:
        listed = "; ".join(f"({i}) {p}" for i, p in enumerate(problems, 1))
        raise UnsupportedNetworkError(f"{type(module).__name__} cannot be bounded: {listed}.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@dataclass
class Translation:
    """The graph as far as it has been built, and what stood in the way."""

    module: nn.Module
    input_shape: Shape
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    values: dict[fx.Node, _Value] = field(default_factory=dict)
    finished: bool = False
    output: int | None = None

    def __post_init__(self) -> None:
        self.slices: dict[int, Slice] = {}
        start = 0
        for parameter in self.module.parameters():
            stop = start + parameter.numel()
            self.slices[id(parameter)] = Slice(start, stop, tuple(parameter.shape))
            start = stop
        self.num_parameters = start
        self.like = next(self.module.parameters(), torch.zeros(()))

    # -- one recorded step ------------------------------------------------------------------------------------------

    def take(self, step: fx.Node) -> None:
        """Execute ``step`` on the small batch and translate it."""
        if step.op == "output":
            self._finish(step)
            return
        try:
            concrete = self._execute(step)
        except Exception as error:
            self.problems.append(
                f"{where(step)} fails on an input of shape {self.input_shape} ({_first_line(error)}): "
                "check input_shape, given without the batch axis"
            )
            self.finished = True
            return
        self.values[step] = _Value(concrete, self._translate(step, concrete))

    def _execute(self, step: fx.Node) -> Any:
        if step.op == "placeholder":
            if self.nodes:
                if step.args:
                    return step.args[0]
                raise TypeError("forward takes more than one input")
            grid = torch.linspace(0, 1, BATCH * math.prod(self.input_shape), device=self.like.device)
            return grid.to(self.like.dtype).reshape(BATCH, *self.input_shape)
        args, kwargs = self._concrete(step)
        if step.op == "get_attr":
            return operator.attrgetter(str(step.target))(self.module)
        if step.op == "call_module":
            return self.module.get_submodule(str(step.target))(*args, **kwargs)
        if step.op == "call_method":
            return getattr(args[0], str(step.target))(*args[1:], **kwargs)
        assert callable(step.target)
        return step.target(*args, **kwargs)

    def _concrete(self, step: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The step's arguments on the small batch; tensors are copied, so that in-place steps change nothing else."""

        def lookup(node: fx.Node) -> Any:
            value = self.values[node].concrete
            return value.clone() if isinstance(value, Tensor) and self.values[node].node is not None else value

        return fx.map_arg(step.args, lookup), fx.map_arg(step.kwargs, lookup)

    def _translate(self, step: fx.Node, concrete: Any) -> int | None:
        """Index of the node for ``step``, None for a constant."""
        if step.op == "placeholder":
            if self.nodes:
                return None
            return self.add(Input("input", (), self.input_shape))
        sources = [self.values[n].node for n in step.all_input_nodes]
        if all(node is None for node in sources):
            return self._constant_step(step, concrete)
        if not isinstance(concrete, Tensor):
            if step.op == "call_module":
                self.problems.append(
                    f"{where(step)}: {no_bounds(type(self.module.get_submodule(str(step.target))).__name__)}"
                )
            return None  # a size or another number read off an activation's shape
        try:
            node = self._translation(step)(step, concrete)
        except Refused as reason:
            self.problems.append(f"{where(step)}: {reason}")
            node = self._opaque(step, concrete)
        if in_place(step, self.module):
            source = step.all_input_nodes[0]
            self.values[source] = _Value(concrete, node)
        return node

    def _opaque(self, step: fx.Node, concrete: Tensor) -> int:
        """Go on behind a refused step as if its value were another input, to find what else is in the way."""
        return self.add(Input(where(step), (), tuple(concrete.shape[1:])))

    def _constant_step(self, step: fx.Node, concrete: Any) -> int | None:
        if step.op == "get_attr" and isinstance(concrete, nn.Parameter):
            self.problems.append(
                f"{where(step)}: parameters used outside nn.Linear, nn.Conv2d and nn.BatchNorm have no bounds; "
                "use one of these modules, or register a constant as a buffer"
            )
            return self._opaque(step, concrete)
        return None

    def _translation(self, step: fx.Node) -> Callable[[fx.Node, Tensor], int]:
        if step.op == "call_module":
            module = self.module.get_submodule(str(step.target))
            for kind, translate in MODULES.items():
                if type(module) is kind:
                    return lambda step, out: translate(self, step, out, module)
            raise Refused(no_bounds(type(module).__name__))
        known: dict[Any, Callable[..., int]] = METHODS if step.op == "call_method" else FUNCTIONS
        function = known.get(step.target)
        if function is None:
            raise Refused(no_bounds(name_of(step.target)))
        return lambda step, out: function(self, step, out)

    # -- what the translations below use ----------------------------------------------------------------------------

    def add(self, node: Node) -> int:
        """Append a node; its index."""
        self.nodes.append(node)
        return len(self.nodes) - 1

    def operand(self, step: fx.Node, position: int = 0) -> int:
        """Index of the node that is the step's argument at ``position``."""
        argument = step.args[position] if position < len(step.args) else step.kwargs.get("input")
        if not isinstance(argument, fx.Node) or self.values[argument].node is None:
            raise Refused("its first argument must be an activation")
        node = self.values[argument].node
        assert node is not None
        return node

    def slice_of(self, parameter: Tensor | None) -> Slice | None:
        """Where a parameter lies in the flat vector."""
        return None if parameter is None else self.slices[id(parameter)]

    def append(self, kind: Callable[..., Node], step: fx.Node, out: Tensor, *rest: Any) -> int:
        """Add a node of ``kind`` that reads the step's first argument."""
        return self.add(kind(where(step), (self.operand(step),), shape_of(out), *rest))

    def scale(self, step: fx.Node, source: int, out: Tensor, scale: Tensor, shift: Tensor) -> int:
        """Add ``scale * z + shift``: a node for every step that is executed, since each rounds and may overflow."""
        before = self.nodes[source]
        if shape_of(out) != before.shape:
            raise Refused(f"it broadcasts an activation of shape {before.shape} to {shape_of(out)}")
        rank = len(before.shape)
        scale, shift = (per_image(v.double(), rank) for v in (scale, shift))
        key = f"constant{len(self.nodes)}"
        self.constants[f"{key}.scale"], self.constants[f"{key}.shift"] = scale, shift
        return self.add(Scale(where(step), (source,), shape_of(out), Constant(key)))

    # -- the end ----------------------------------------------------------------------------------------------------

    def _finish(self, step: fx.Node) -> None:
        self.finished = True
        result = step.args[0]
        if not isinstance(result, fx.Node) or self.values[result].node is None:
            self.problems.append("forward must return one tensor of logits that depends on its input")
            return
        shape = tuple(self.values[result].concrete.shape[1:])
        if len(shape) != 1 or shape[0] < 2:
            self.problems.append(
                f"forward returns shape (batch, {', '.join(map(str, shape))}): logits must be (batch, K) with K >= 2; "
                "end with nn.Flatten() or nn.Linear"
            )
        self.output = self.values[result].node

    def result(self) -> Traced:
        """The graph, or the error that lists all problems."""
        if self.problems or self.output is None:
            listed = "; ".join(f"({i}) {p}" for i, p in enumerate(self.problems, 1))
            raise UnsupportedNetworkError(f"{type(self.module).__name__} cannot be bounded: {listed}.")
        nodes = tuple(self.nodes[: self.output + 1])
        if isinstance(nodes[-1], (Input, ReLU)):  # logits need a last affine layer to fold the margins into
            key = f"constant{len(nodes)}"
            self.constants[f"{key}.scale"] = torch.ones((1,), dtype=torch.float64, device=self.like.device)
            self.constants[f"{key}.shift"] = torch.zeros((1,), dtype=torch.float64, device=self.like.device)
            nodes = (*nodes, Scale("output", (self.output,), nodes[-1].shape, Constant(key)))
        return Traced(fused(nodes, self.num_parameters), self.constants)
