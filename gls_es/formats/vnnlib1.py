"""VNN-LIB 1, as in VNN-COMP until 2025.

The subset of SMT-LIB that the competition uses: ``declare-const`` (or ``declare-fun``) of X_i and Y_j, and ``assert``
of ``<=`` and ``>=`` between linear terms, joined by ``and`` and ``or``. Inputs are bounded one by one; inequalities of
outputs may be any linear ones. An assertion describes what must not happen: "sat" means a counterexample.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from gls_es.basics.property import Property
from gls_es.formats.vnnlib_cases import Assertions, Rules
from gls_es.formats.vnnlib_formulas import Formulas, Variable
from gls_es.formats.vnnlib_text import Expression, Wrong

COMPARISONS = ("<=", ">=")
_MOST_VARIABLES = 10**6
_NAME = re.compile(r"[XY]_(0|[1-9]\d{0,6})", re.ASCII)
_RULES = Rules(lambda name: f"{name[0]}_{name[1]}", single=False, of_inputs=False, open_inputs=False)
_IGNORED = frozenset({"set-logic", "set-info", "set-option", "check-sat", "exit", "get-model"})


def property_of(commands: Iterable[Expression]) -> Property:
    """The property that the commands of a specification assert.

    Raises:
        Wrong: they are damaged, or say something that is not supported.
    """
    reading = _Reading()
    for command in commands:
        reading.take(command)
    sizes = [reading.count(letter) for letter in "XY"]
    found = reading.assertions.property(sizes[0], sizes[1], _RULES)
    if "Y" not in reading.formulas.letters and not reading.assertions.never():
        raise Wrong("it says nothing about the outputs")
    return found


@dataclass
class _Reading:
    """What has been read: the constants, and the assertions."""

    declared: dict[str, Variable] = field(default_factory=dict)
    assertions: Assertions = field(default_factory=Assertions)

    def __post_init__(self) -> None:
        self.formulas = Formulas(self.declared.get, COMPARISONS, "neither a number nor a declared constant")

    def take(self, command: Expression) -> None:
        """Read one command."""
        head = command[0] if command and isinstance(command[0], str) else ""
        if head in ("declare-const", "declare-fun"):
            rest = [part for part in command[1:] if part != []]
            if len(rest) != 2 or rest[1] != "Real" or not isinstance(rest[0], str) or not _NAME.fullmatch(rest[0]):
                raise Wrong("only real constants named X_0, X_1, ..., Y_0, Y_1, ... are declared in a specification")
            self.declared[rest[0]] = (rest[0][0], int(rest[0][2:]))
        elif head == "assert":
            if len(command) != 2:
                raise Wrong("an assert holds one formula")
            self.assertions.add(self.formulas.read(command[1]))
        elif head not in _IGNORED:
            hint = ""
            if head in ("vnnlib-version", "declare-network"):
                hint = "; a file of version 2 begins with (vnnlib-version <2.0>)"
            raise Wrong(f"the command {str(head)[:40]!r} is not part of VNN-LIB 1{hint}")

    def count(self, letter: str) -> int:
        """How many constants of a kind there are."""
        numbers = {index for kind, index in self.declared.values() if kind == letter}
        if not numbers or numbers != set(range(len(numbers))) or len(numbers) > _MOST_VARIABLES:
            raise Wrong(f"the constants {letter}_0, {letter}_1, ... are not declared without a gap")
        return len(numbers)
