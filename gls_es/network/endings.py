"""A classifier's last Softmax, which is left out: it keeps the order of the logits, so that the class is theirs.

Bounds are of logits, and losses take logits. The softmax of two close logits may be one number twice in floating point;
what is certified is the network without it, and that is what the network's modules compute from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gls_es.network.admission import refuse
from gls_es.network.graph import Node
from gls_es.network.operators import Refused
from gls_es.network.translation import Translation
from gls_es.network.wording import no_bounds


@dataclass(frozen=True)
class Ending(Node):
    """Softmax or LogSoftmax of logits; in no finished graph."""

    kind: str


def without_ending(module: nn.Module, nodes: Sequence[Node]) -> str | None:
    """Replace the layer behind the logits by nothing, and say what it was; None if there is none.

    Args:
        module: a private copy.
        nodes: what a pass of it has made, the node that it returns last.

    Raises:
        UnsupportedNetworkError: it is no layer of its own, so that the module cannot do without it.
    """
    last = nodes[-1]
    if not isinstance(last, Ending):
        return None
    parent, _, name = last.path.strip("'").rpartition(".")
    layers = dict(module.named_modules())
    layer = getattr(layers.get(parent), name, None)
    if type(layer) not in (nn.Softmax, nn.LogSoftmax):  # a class derived from them may compute more
        hint = f"or end with a layer nn.{last.kind}(1), which is left out"
        refuse(module, [f"{last.path}: {no_bounds(last.kind)}, {hint}"])
    setattr(layers[parent], name, nn.Identity())
    return last.kind


def inner_endings(nodes: Sequence[Node]) -> list[str]:
    """What is to be said of a Softmax within the network, by step."""
    return [f"{node.path}: {no_bounds(node.kind)}" for node in nodes if isinstance(node, Ending)]


def _translated(kind: str) -> Callable[..., int]:
    def translate(t: Translation, where: str, out: Tensor, *, x: Any, dim: int, half_to_float: bool = False) -> int:
        source = t.activation(x)
        if out.dim() != 2 or dim not in (1, -1) or half_to_float:
            raise Refused(no_bounds(kind))
        return t.append(Ending, where, source, out, kind)

    return translate


OPERATORS: dict[str, Callable[..., int]] = {
    "aten::_softmax": _translated("Softmax"),
    "aten::_log_softmax": _translated("LogSoftmax"),
}
