"""VNN-LIB specifications (the first version, as in VNN-COMP): read as exact properties.

The subset of SMT-LIB that the competition uses: ``declare-const`` (or ``declare-fun``) of X_i and Y_j, and ``assert``
of ``<=`` and ``>=`` between linear terms, joined by ``and`` and ``or``. Inputs are bounded one by one; inequalities of
outputs may be any linear ones. An assertion describes what must not happen: "sat" means a counterexample.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

from gls_es.basics.property import Boundary, Case, Property, Row
from gls_es.errors import FormatError
from gls_es.formats.files import read_file

LARGEST = 2**26
"""Bytes of the largest specification that is read."""
MOST_CASES = 10_000
"""Conjunctions that its assertions may multiply to."""
_DEEPEST = 40
_MOST_VARIABLES = 10**6
_TOKEN = re.compile(r";[^\n]*|([()])|([^\s();]+)")
_NUMBER = re.compile(r"[+-]?(\d{1,60}\.?\d{0,200}|\.\d{1,200})([eE][+-]?\d{1,3})?", re.ASCII)
_NAME = re.compile(r"[XY]_\d{1,7}", re.ASCII)
_IGNORED = frozenset({"set-logic", "set-info", "set-option", "check-sat", "exit", "get-model"})

Expression = Any  # a token, or a list of expressions


class _Wrong(Exception):
    """What is wrong with a specification."""


@dataclass(frozen=True)
class _Term:
    """A linear term: coefficients by variable, and a number."""

    coefficients: dict[str, Fraction]
    number: Fraction

    def plus(self, other: _Term, sign: int = 1) -> _Term:
        total = dict(self.coefficients)
        for name, value in other.coefficients.items():
            total[name] = total.get(name, Fraction(0)) + sign * value
        return _Term(total, self.number + sign * other.number)

    def times(self, factor: Fraction) -> _Term:
        return _Term({name: factor * value for name, value in self.coefficients.items()}, factor * self.number)


Atom = _Term  # a term that must be <= 0
Cases = list[list[Atom]]  # alternatives, each a conjunction


def read_vnnlib(path: str | Path) -> Property:
    """Read a specification.

    Raises:
        FormatError: the file is missing or damaged, or says something that is not supported; the message says what.
    """
    path = Path(path)
    data = read_file(path, largest=LARGEST)
    try:
        return parse_vnnlib(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not a VNN-LIB file (it is no text).") from error
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error.__cause__


def parse_vnnlib(text: str) -> Property:
    """The property of a specification's text.

    Raises:
        FormatError: it is damaged, or says something that is not supported.
    """
    reading = _Reading()
    try:
        for command in _commands(text):
            reading.take(command)
        return reading.property()
    except _Wrong as reason:
        raise FormatError(f"not a specification that can be read ({reason}).") from reason


def _commands(text: str) -> Iterator[Expression]:
    """The top-level expressions, as nested lists of tokens."""
    stack: list[list[Expression]] = []
    for match in _TOKEN.finditer(text):
        bracket, word = match.groups()
        if bracket == "(":
            if len(stack) >= _DEEPEST:
                raise _Wrong("its brackets are nested too deeply")
            stack.append([])
        elif bracket == ")":
            if not stack:
                raise _Wrong("a bracket is closed that was not opened")
            done = stack.pop()
            if stack:
                stack[-1].append(done)
            else:
                yield done
        elif word:
            if not stack:
                raise _Wrong(f"{word[:40]!r} stands outside of brackets")
            stack[-1].append(word)
    if stack:
        raise _Wrong("it ends within brackets")


@dataclass
class _Reading:
    """What has been read: the variables, bounds that hold in every case, and alternatives."""

    declared: set[str] = field(default_factory=set)
    common: list[Atom] = field(default_factory=list)
    alternatives: list[Cases] = field(default_factory=list)

    def take(self, command: Expression) -> None:
        """Read one command."""
        head = command[0] if command and isinstance(command[0], str) else ""
        if head in ("declare-const", "declare-fun"):
            rest = [part for part in command[1:] if part != []]
            if len(rest) != 2 or rest[1] != "Real" or not isinstance(rest[0], str) or not _NAME.fullmatch(rest[0]):
                raise _Wrong("only real constants named X_0, X_1, ..., Y_0, Y_1, ... are declared in a specification")
            self.declared.add(rest[0])
        elif head == "assert":
            if len(command) != 2:
                raise _Wrong("an assert holds one formula")
            cases = self._formula(command[1])
            if len(cases) == 1:
                self.common += cases[0]
            else:
                self.alternatives.append(cases)
        elif head not in _IGNORED:
            hint = "; that of version 2 is not read" if head in ("vnnlib-version", "declare-network") else ""
            raise _Wrong(f"the command {str(head)[:40]!r} is not part of VNN-LIB 1{hint}")

    def _formula(self, formula: Expression) -> Cases:
        head = formula[0] if isinstance(formula, list) and formula else formula
        if head == "and":
            return self._all([self._formula(part) for part in formula[1:]])
        if head == "or":
            return [case for part in formula[1:] for case in self._formula(part)]
        if head in ("<=", ">=") and len(formula) == 3:
            left, right = self._term(formula[1]), self._term(formula[2])
            return [[left.plus(right, -1) if head == "<=" else right.plus(left, -1)]]
        raise _Wrong(f"{str(head)[:40]!r} is no formula that is supported: and, or, <= and >= are")

    def _all(self, parts: Sequence[Cases]) -> Cases:
        count = 1
        for part in parts:
            count *= len(part)
            if count > MOST_CASES:
                raise _Wrong(f"its alternatives multiply to more than {MOST_CASES:,} cases")
        return [[atom for case in choice for atom in case] for choice in product(*parts)]

    def _term(self, term: Expression) -> _Term:
        if isinstance(term, str):
            if term in self.declared:
                return _Term({term: Fraction(1)}, Fraction(0))
            if _NUMBER.fullmatch(term):
                return _Term({}, Fraction(term))
            raise _Wrong(f"{term[:40]!r} is neither a number nor a declared constant")
        head, parts = (term[0], [self._term(part) for part in term[1:]]) if term else ("", [])
        if head == "+" and parts:
            total = parts[0]
            for part in parts[1:]:
                total = total.plus(part)
            return total
        if head == "-" and len(parts) == 1:
            return parts[0].times(Fraction(-1))
        if head == "-" and len(parts) == 2:
            return parts[0].plus(parts[1], -1)
        if head == "*" and len(parts) == 2:
            number, other = parts if not parts[0].coefficients else parts[::-1]
            if not number.coefficients:
                return other.times(number.number)
        raise _Wrong(f"{str(head)[:40]!r} makes no linear term: + and - do, and * with a number")

    def property(self) -> Property:
        """What the commands say together."""
        sizes = [self._count(letter) for letter in "XY"]
        common = _Box.of(self.common, sizes[0])
        cases = [common.case(choice, sizes[1]) for choice in self._all(self.alternatives)]
        return Property(sizes[0], sizes[1], tuple(case for case in cases if not case.box.empty))

    def _count(self, letter: str) -> int:
        numbers = {int(name[2:]) for name in self.declared if name[0] == letter}
        if not numbers or numbers != set(range(len(numbers))) or len(numbers) > _MOST_VARIABLES:
            raise _Wrong(f"the constants {letter}_0, {letter}_1, ... are not declared without a gap")
        return len(numbers)


@dataclass(frozen=True)
class _Box:
    """Bounds of the inputs as far as they are known, and inequalities of the outputs, that hold in every case."""

    lower: dict[int, Fraction]
    upper: dict[int, Fraction]
    outputs: list[Atom]
    size: int
    shared: list[Boundary] = field(default_factory=list)

    @classmethod
    def of(cls, atoms: Sequence[Atom], size: int) -> _Box:
        box = cls({}, {}, [], size)
        box.tighten(atoms)
        return box

    def tighten(self, atoms: Sequence[Atom]) -> None:
        for atom in atoms:
            names = [name for name, value in atom.coefficients.items() if value]
            if not any(name[0] == "X" for name in names):
                self.outputs.append(atom)
                continue
            if len(names) != 1:
                raise _Wrong(f"inputs are bounded one by one, and an inequality holds {', '.join(sorted(names)[:4])}")
            index, factor = int(names[0][2:]), atom.coefficients[names[0]]
            bound = -atom.number / factor
            if factor > 0:
                self.upper[index] = min(bound, self.upper.get(index, bound))
            else:
                self.lower[index] = max(bound, self.lower.get(index, bound))

    def case(self, atoms: Sequence[Atom], outputs: int) -> Case:
        """The case of these further atoms."""
        inner = _Box(dict(self.lower), dict(self.upper), list(self.outputs), self.size, self.shared)
        inner.tighten(atoms)
        if not inner.outputs:
            raise _Wrong("it says nothing about the outputs")
        return Case(inner._boundary(self), tuple(_row(atom, outputs) for atom in inner.outputs))

    def _boundary(self, outer: _Box) -> Boundary:
        same = self.lower == outer.lower and self.upper == outer.upper
        if same and self.shared:
            return self.shared[0]
        for index in range(self.size):
            if index not in self.lower or index not in self.upper:
                raise _Wrong(f"X_{index} has no {'upper' if index in self.lower else 'lower'} bound")
        boundary = Boundary(*(tuple(ends[i] for i in range(self.size)) for ends in (self.lower, self.upper)))
        if same:
            self.shared.append(boundary)
        return boundary


def _row(atom: Atom, outputs: int) -> Row:
    given = {int(name[2:]): value for name, value in atom.coefficients.items()}
    return Row(tuple(given.get(index, Fraction(0)) for index in range(outputs)), -atom.number)
