"""A model card: what is in the exported files, where it comes from, and what was shown about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gls_es.basics.intervals import wilson_interval
from gls_es.basics.version import versions
from gls_es.errors import DataError
from gls_es.formats.files import read_file, sha256, write_text
from gls_es.network import Network
from gls_es.network.graph import (
    Activation,
    Add,
    BatchNorm,
    Constant,
    Conv,
    Factor,
    Learned,
    Linear,
    Node,
    Pool,
    ReLU,
    Reshape,
    Scale,
    Select,
)

_NODES: dict[type[Node], str] = {
    ReLU: "ReLU",
    Add: "addition",
    Reshape: "reshape",
    Select: "values copied to other places",
}
_SCALES: dict[type[object], str] = {
    BatchNorm: "BatchNorm",
    Constant: "scaling and shift by constants",
    Learned: "scaling and shift by parameters",
    Factor: "scaling by a parameter",
}


@dataclass(frozen=True)
class ModelCard:
    """The card of a network.

    Attributes:
        network: what was exported.
        problem: the problem whose images it classifies.
        data: where they come from.
        eps: the radius it was trained for.
        digest: of the file that the network was read from.
        files: the exported files, named relative to the card with their SHA-256.
        records: of a file of certification records, if there is one: its header, and images per verdict by name.
        about: further lines, by name.
    """

    network: Network
    problem: str
    data: str
    eps: float
    digest: str
    files: Sequence[Path]
    records: tuple[Mapping[str, Any], Mapping[str, int]] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the card.

        Raises:
            DataError: the records are about another checkpoint.
            FormatError: it cannot be written.
        """
        write_text(path, self.text())

    def check(self) -> None:
        """Look at what would keep the card from being written, before the files that it is about are.

        Raises:
            DataError: the records are about another checkpoint.
        """
        self._certification()

    def text(self) -> str:
        """The card in Markdown.

        Raises:
            DataError: the records are about another checkpoint.
            FormatError: one of the files cannot be read.
        """
        network = self.network
        lines = [f"# {self.problem}: a network with certified robustness", ""]
        rows = {
            "problem": self.problem,
            "data": self.data or "see the problem",
            "trained for ε": f"{self.eps:.6g} (L∞, pixels in [0, 1], before normalisation)",
            "input": f"{tuple(network.input_shape)}, pixels in [0, 1]; normalisation is part of the network",
            "classes": network.num_classes,
            "parameters": f"{network.num_parameters:,}",
            **self.about,
            "read from a file with digest": f"`{self.digest}`",
            "written by": ", ".join(f"{name} {version}" for name, version in versions().items()),
        }
        lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items()), ""]
        lines += ["## Layers", "", *(f"{i}. {layer}" for i, layer in enumerate(_layers(network), 1)), ""]
        lines += ["## Files", "", "| file | SHA-256 |", "|---|---|"]
        lines += [f"| {file.name} | `{sha256(read_file(file))}` |" for file in self.files]
        return "\n".join([*lines, "", *self._certification()])

    def _certification(self) -> list[str]:
        if self.records is None:
            return ["## Certification", "", "No records were given to the export (`--records`).", ""]
        header, counts = self.records
        if header.get("checkpoint") != self.digest:
            raise DataError(
                f"the records are about the checkpoint {str(header.get('checkpoint'))[:16]}..., and the network comes "
                f"from {self.digest[:16]}...; certify it first"
            )
        seen = sum(counts.values())
        lines = [
            "## Certification",
            "",
            f"{seen} of {header['n']} images at ε = {header['eps']:.6g}, execution `{header['execution']}`.",
            "",
            "| | images | fraction | Wilson 95 % |",
            "|---|---|---|---|",
        ]
        for name, number in counts.items():
            low, high = wilson_interval(number, max(seen, 1))
            fraction = number / max(seen, 1)
            lines.append(f"| {name} | {number} | {100 * fraction:.1f} % | {100 * low:.1f} to {100 * high:.1f} % |")
        return [*lines, ""]


def _layers(network: Network) -> list[str]:
    """One line for each node of the graph behind the input."""
    return [_layer(node) for node in network.graph.nodes[1:]]


def _layer(node: Node) -> str:
    shape = " x ".join(map(str, node.shape))
    if isinstance(node, Conv):
        window = node.window
        kernel, stride, padding = ("x".join(map(str, pair)) for pair in (window.kernel, window.stride, window.padding))
        kind = f"convolution {kernel}, stride {stride}, padding {padding}"
        kind += f", {window.groups} groups" if window.groups > 1 else ""
    elif isinstance(node, Linear):
        kind = "linear"
    elif isinstance(node, Pool):
        kind = f"average pooling {'x'.join(map(str, node.window.kernel))}"
    elif isinstance(node, Activation):
        kind = " ".join([node.kind, *(f"{number:.6g}" for number in node.constants)])
    elif isinstance(node, Scale):
        kind = _SCALES[type(node.source)]
    else:
        kind = _NODES.get(type(node), type(node).__name__.lower())
    if isinstance(node, (Conv, Linear)) and node.norm is not None:
        kind += ", BatchNorm"
    return f"{kind} → {shape}"


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
