"""Formulas of linear inequalities, brought into alternatives of conjunctions, in exact numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

from gls_es.formats.vnnlib_text import Expression, Wrong, number_of

MOST_CASES = 10_000
"""Conjunctions that alternatives may multiply to, where they are not written out one by one."""

Variable = tuple[str, int]
"""("X", i) for input i and ("Y", k) for output k, in row-major order."""


@dataclass(frozen=True)
class Term:
    """A linear term: coefficients by variable, none of them zero, and a number."""

    coefficients: dict[Variable, Fraction]
    number: Fraction

    def times(self, factor: Fraction) -> Term:
        """The term multiplied with a number."""
        scaled = {name: factor * value for name, value in self.coefficients.items() if factor}
        return Term(scaled, factor * self.number)


@dataclass(frozen=True)
class Atom:
    """A term that must be <= 0, or < 0 if ``strict``."""

    term: Term
    strict: bool = False


Cases = list[list[Atom]]
"""Alternatives, each a conjunction."""


def total(first: Term, *others: tuple[int, Term]) -> Term:
    """A term plus others, each with its sign."""
    coefficients, number = dict(first.coefficients), first.number
    for sign, other in others:
        number += sign * other.number
        for name, value in other.coefficients.items():
            coefficients[name] = coefficients.get(name, Fraction(0)) + sign * value
    return Term({name: value for name, value in coefficients.items() if value}, number)


def conjoined(parts: Sequence[Cases]) -> Cases:
    """The alternatives of a conjunction of formulas.

    Raises:
        Wrong: there are more than ``MOST_CASES``, and more than are written out in one of the formulas.
    """
    count, written = 1, max(map(len, parts), default=0)
    for part in parts:
        count *= len(part)
        if count > max(MOST_CASES, written):
            raise Wrong(f"its alternatives multiply to more than {MOST_CASES:,} cases")
    return [[atom for case in choice for atom in case] for choice in product(*parts)]


@dataclass
class Formulas:
    """Reads formulas.

    Attributes:
        variable: the variable that a word stands for; None if it is none. It may raise :class:`Wrong`.
        comparisons: those of the language, of ``<= >= < > == !=``.
        unknown: what is said of a word that is neither a variable nor a number.
        letters: "X" and "Y", as soon as such a variable was read, also where it cancels or is multiplied by zero.
    """

    variable: Callable[[str], Variable | None]
    comparisons: Collection[str]
    unknown: str
    letters: set[str] = field(default_factory=set)
    _supported: str = field(init=False)

    def __post_init__(self) -> None:
        *most, last = ("and", "or", *self.comparisons)
        self._supported = f"{', '.join(most)} and {last}"

    def read(self, formula: Expression) -> Cases:
        """The alternatives of a formula.

        Raises:
            Wrong: it holds something else.
        """
        head = formula[0] if isinstance(formula, list) and formula else formula
        if head == "and":
            return conjoined([self.read(part) for part in formula[1:]])
        if head == "or":
            return [case for part in formula[1:] for case in self.read(part)]
        if head in self.comparisons and len(formula) == 3:
            return _compared(head, self.term(formula[1]), self.term(formula[2]))
        raise Wrong(f"{str(head)[:40]!r} is no formula that is supported: {self._supported} are")

    def term(self, term: Expression) -> Term:
        """A linear term.

        Raises:
            Wrong: it is none.
        """
        if isinstance(term, str):
            return self._word(term)
        head, parts = (term[0], [self.term(part) for part in term[1:]]) if term else ("", [])
        if head == "+" and parts:
            return total(parts[0], *((1, part) for part in parts[1:]))
        if head == "-" and len(parts) == 1:
            return parts[0].times(Fraction(-1))
        if head == "-" and parts:
            return total(parts[0], *((-1, part) for part in parts[1:]))
        if head == "*" and parts:
            return self._multiplied(parts)
        raise Wrong(f"{str(head)[:40]!r} makes no linear term: + and - do, and * with a number")

    def _word(self, word: str) -> Term:
        variable = self.variable(word)
        if variable is not None:
            self.letters.add(variable[0])
            return Term({variable: Fraction(1)}, Fraction(0))
        number = number_of(word)
        if number is None:
            raise Wrong(f"{word[:40]!r} is {self.unknown}")
        return Term({}, number)

    def _multiplied(self, parts: Sequence[Term]) -> Term:
        found = parts[0]
        for part in parts[1:]:
            if found.coefficients and part.coefficients:
                raise Wrong("a product of variables is no linear term; polynomials (theory POLY) are not decided")
            found = found.times(part.number) if found.coefficients else part.times(found.number)
        return found


def _compared(sign: str, left: Term, right: Term) -> Cases:
    less, more = total(left, (-1, right)), total(right, (-1, left))
    if sign == "==":
        return [[Atom(less), Atom(more)]]
    if sign == "!=":
        return [[Atom(less, strict=True)], [Atom(more, strict=True)]]
    return [[Atom(less if sign[0] == "<" else more, strict=len(sign) == 1)]]
