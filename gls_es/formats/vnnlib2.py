"""VNN-LIB 2: typed tensors with shapes instead of numbered constants (VNN-LIB standard, chapters 2 to 4).

Read are queries about one network: linear inequalities of inputs, of outputs, and of both. What the language has
besides is refused by its name: hidden nodes, several networks, polynomials, other element types.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gls_es.basics.property import Property
from gls_es.formats.vnnlib_cases import Assertions, Rules
from gls_es.formats.vnnlib_formulas import Formulas, Variable
from gls_es.formats.vnnlib_text import Expression, Wrong

COMPARISONS = ("<=", ">=", "<", ">", "==", "!=")
TYPES = ("float32", "real")
"""Element types that are read. Both mean a network of float32; ``real`` permits to take it for one of real numbers."""
OUTPUT_TYPES = (*TYPES, "int64")
"""Those of outputs; whole numbers are those of constants, shapes say."""
THEORIES = {
    "hidden-node-theories": ("NH",),
    "multiple-input-output-theories": ("SIO", "MIO"),
    "multiple-network-theories": ("SNET",),
    "multiple-node-comparison-theories": ("SNC", "MNC"),
    "arithmetic-complexity-theories": ("BND", "OUTC", "LIN"),
}
"""Of the standard's theories those that queries may need."""
_KEYWORDS = frozenset({"and", "or", "assert", *TYPES})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_TYPED = re.compile(r"(\w+)\[([\d,]*)\]", re.ASCII)
_INDEXED = re.compile(r"([A-Za-z]\w*)(?:\[((?:\d{1,7}(?:,\d{1,7})*)?)\])?", re.ASCII)
"""A variable, and its place: whole numbers with commas between them and nowhere else."""
_MOST_VALUES = 10**6


@dataclass(frozen=True)
class Tensor:
    """A declared input or output: its name, element type and shape."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.name} {self.kind} [{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Declarations:
    """The network that a query speaks of.

    Attributes:
        network: its name.
        inputs: in the order of the model's.
        outputs: likewise.
    """

    network: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def real(self) -> bool:
        """Whether the network may be taken for one of real numbers."""
        return self.inputs[0].kind == "real"


def query_of(commands: Iterable[Expression]) -> tuple[Declarations, Property]:
    """What a query declares and asserts.

    Raises:
        Wrong: it is damaged, or says something that is not supported.
    """
    given = iter(commands)
    _check_version(next(given))
    declared = _network(next(given, None))
    rest = _Assertions(declared)
    for command in given:
        rest.take(command)
    return declared, rest.property()


def _check_version(command: Expression) -> None:
    found = re.fullmatch(r"<(\d+)\.\d+>", command[1]) if len(command) == 2 and isinstance(command[1], str) else None
    if found is None or found[1] != "2":
        raise Wrong("its version is not 2; queries of version 2 begin with (vnnlib-version <2.0>)")


def _network(command: Expression) -> Declarations:
    if not isinstance(command, list) or len(command) < 2 or command[0] != "declare-network":
        raise Wrong("its second command does not declare a network")
    name, parts = command[1], command[2:]
    kinds: dict[str, list[Tensor]] = {"declare-input": [], "declare-output": []}
    for part in parts:
        head = part[0] if isinstance(part, list) and part else part
        if head in ("equal-to", "isomorphic-to"):
            raise Wrong(f"it declares a network that is {head} another; several networks are not decided")
        if head == "declare-hidden":
            raise Wrong("it declares hidden nodes (theory H), which are not decided")
        if head not in kinds:
            raise Wrong(f"{str(head)[:40]!r} is no part of a network's declaration")
        if head == "declare-input" and kinds["declare-output"]:
            raise Wrong("an input is declared behind an output")
        kinds[head].append(_tensor(part))
    inputs, outputs = kinds["declare-input"], kinds["declare-output"]
    if not inputs or not outputs:
        raise Wrong("a network has an input and an output at least")
    _check_names([name, *(tensor.name for tensor in (*inputs, *outputs))])
    if len({tensor.kind == "real" for tensor in (*inputs, *outputs)}) > 1:
        raise Wrong("real is the element type of all that is declared, or of nothing")
    return Declarations(name, tuple(inputs), tuple(outputs))


def _tensor(part: Sequence[Expression]) -> Tensor:
    words = [word for word in part if isinstance(word, str)]
    typed = _TYPED.fullmatch(words[2]) if len(words) == len(part) == 3 else None
    if typed is None:
        raise Wrong(f"{' '.join(words)[:60]!r} does not declare a name, an element type and a shape")
    kind = typed[1].lower() if typed[1] == "Real" else typed[1]
    known = OUTPUT_TYPES if words[0] == "declare-output" else TYPES
    if kind not in known:
        raise Wrong(f"{words[1][:40]!r} holds {kind[:40]}, and the element types that are read are {', '.join(known)}")
    sizes = typed[2].split(",") if typed[2] else []
    if any(not size or len(size) > 7 or int(size) < 1 for size in sizes):
        raise Wrong(f"{words[1][:40]!r} has no sizes of at least 1 in its shape")
    tensor = Tensor(words[1], kind, tuple(map(int, sizes)))
    if tensor.size > _MOST_VALUES:
        raise Wrong(f"{words[1][:40]!r} holds more than {_MOST_VALUES:,} numbers")
    return tensor


def _check_names(names: Sequence[Expression]) -> None:
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _KEYWORDS:
            raise Wrong(f"{str(name)[:40]!r} is no name: a letter, then letters, digits and _")
        if names.count(name) > 1:
            raise Wrong(f"{name[:40]!r} is declared twice")


@dataclass
class _Assertions:
    """Reads what follows the declarations."""

    declared: Declarations
    found: Assertions = field(default_factory=Assertions)

    def __post_init__(self) -> None:
        self.places = {
            tensor.name: (letter, tensor, start)
            for letter, tensors in (("X", self.declared.inputs), ("Y", self.declared.outputs))
            for tensor, start in _placed(tensors)
        }
        self.formulas = Formulas(self._variable, COMPARISONS, "neither a number nor a declared variable")

    def take(self, command: Expression) -> None:
        """Read one command."""
        head = command[0] if command and isinstance(command[0], str) else ""
        if head == "declare-network":
            raise Wrong("it declares several networks, and queries about one are decided")
        if head != "assert":
            raise Wrong(f"the command {str(head)[:40]!r} is not part of VNN-LIB 2")
        if len(command) != 2:
            raise Wrong("an assert holds one formula")
        self.found.add(self.formulas.read(command[1]))

    def property(self) -> Property:
        """What was asserted, of all inputs and outputs one after the other."""
        if not self.found.common and not self.found.alternatives:
            raise Wrong("it asserts nothing")
        sizes = [sum(tensor.size for tensor in tensors) for tensors in (self.declared.inputs, self.declared.outputs)]
        rules = Rules(self._name, single=not self.declared.real, of_inputs=True, open_inputs=True)
        return self.found.property(sizes[0], sizes[1], rules)

    def _variable(self, word: str) -> Variable | None:
        match = _INDEXED.fullmatch(word)
        if match is None or match[1] not in self.places:
            return None
        letter, tensor, start = self.places[match[1]]
        index = list(map(int, match[2].split(","))) if match[2] else []
        if len(index) != len(tensor.shape) or any(i >= n for i, n in zip(index, tensor.shape, strict=True)):
            raise Wrong(f"{word[:60]!r} is no element of {tensor}")
        flat = 0
        for position, size in zip(index, tensor.shape, strict=True):
            flat = flat * size + position
        return letter, start + flat

    def _name(self, variable: Variable) -> str:
        """How an element is written."""
        letter, index = variable
        for kind, tensor, start in self.places.values():
            if kind == letter and start <= index < start + tensor.size:
                rest, places = index - start, []
                for size in reversed(tensor.shape):
                    places.append(str(rest % size))
                    rest //= size
                return f"{tensor.name}[{','.join(reversed(places))}]" if places else tensor.name
        raise ValueError(f"there is no variable {variable}")


def _placed(tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, int]]:
    """Each tensor with the number of values before it."""
    start = 0
    for tensor in tensors:
        yield tensor, start
        start += tensor.size
