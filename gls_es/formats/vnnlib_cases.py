"""Alternatives of linear inequalities as cases of a property: boxes of inputs, and rows about all else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from gls_es.basics.property import Boundary, Case, Property, Row
from gls_es.basics.rounding import LARGEST
from gls_es.formats.vnnlib_formulas import Atom, Cases, Variable, conjoined
from gls_es.formats.vnnlib_text import Wrong

End = tuple[Fraction, bool]
"""Where a box ends, and whether that end is not part of it."""
_ONE: End = (Fraction(1), False)


@dataclass(frozen=True)
class Rules:
    """What the versions of the language have of their own.

    Attributes:
        name: how a variable is written, for messages.
        single: whether inputs are float32 numbers themselves, see :class:`~gls_es.basics.property.Boundary`.
        of_inputs: whether an inequality may hold several inputs, or inputs and outputs.
        open_inputs: whether inputs may lack bounds; then violations are looked for near those that they have, or zero.
    """

    name: Callable[[Variable], str]
    single: bool
    of_inputs: bool
    open_inputs: bool


@dataclass
class Assertions:
    """What has been asserted: inequalities that hold in every case, and alternatives.

    Attributes:
        rules: of the language.
        inputs: how many there are.
        outputs: how many there are.
    """

    common: list[Atom] = field(default_factory=list)
    alternatives: list[Cases] = field(default_factory=list)

    def add(self, cases: Cases) -> None:
        """One more assertion."""
        if len(cases) == 1:
            self.common += cases[0]
        else:
            self.alternatives.append(cases)

    def property(self, inputs: int, outputs: int, rules: Rules) -> Property:
        """What they say together.

        Raises:
            Wrong: a case is not one of those that can be decided.
        """
        common = _Box(inputs, outputs, rules)
        common.tighten(self.common)
        found = [common.case(choice) for choice in conjoined(self.alternatives)]
        return Property(inputs, outputs, tuple(case for case in found if case is not None), common.narrowed[0])

    def never(self) -> bool:
        """Whether one of them is false whatever the values are, since it has no alternative: ``(or)``."""
        return not all(self.alternatives)


@dataclass
class _Box:
    """Ends of the inputs as far as they are known, and rows, that hold in every case."""

    inputs: int
    outputs: int
    rules: Rules
    lower: dict[int, End] = field(default_factory=dict)
    upper: dict[int, End] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    impossible: bool = False
    shared: list[Boundary] = field(default_factory=list)
    narrowed: list[bool] = field(default_factory=lambda: [False])

    def tighten(self, atoms: Sequence[Atom]) -> None:
        """Take further inequalities into account."""
        for atom in atoms:
            coefficients, number = atom.term.coefficients, atom.term.number
            if not coefficients:
                self.impossible |= number > 0 or (number == 0 and atom.strict)
                self.rows.append(self._always())
                continue
            letters = {letter for letter, _ in coefficients}
            if letters == {"X"} and len(coefficients) == 1:
                ((_, index), factor), *_ = coefficients.items()
                self._end(index, factor, (-number / factor, atom.strict))
            elif letters == {"Y"} or self.rules.of_inputs:
                self.rows.append(self._row(atom))
            else:
                names = ", ".join(sorted(map(self.rules.name, coefficients))[:4])
                raise Wrong(f"inputs are bounded one by one, and an inequality holds {names}")

    def _end(self, index: int, factor: Fraction, end: End) -> None:
        if factor > 0:
            self.upper[index] = min(end, self.upper.get(index, end), key=lambda e: (e[0], not e[1]))
        else:
            self.lower[index] = max(end, self.lower.get(index, end))

    def _always(self) -> Row:
        return Row((Fraction(0),) * self.outputs, Fraction(1))

    def _row(self, atom: Atom) -> Row:
        given = atom.term.coefficients
        outputs = [given.get(("Y", index), Fraction(0)) for index in range(self.outputs)]
        inputs = [given.get(("X", index), Fraction(0)) for index in range(self.inputs)]
        return Row(tuple(outputs), -atom.term.number, tuple(inputs) if any(inputs) else (), atom.strict)

    def case(self, atoms: Sequence[Atom]) -> Case | None:
        """The case of these further inequalities; None if nothing can fulfil it."""
        rows, lower, upper = list(self.rows), dict(self.lower), dict(self.upper)
        inner = _Box(self.inputs, self.outputs, self.rules, lower, upper, rows, self.impossible, self.shared)
        inner.narrowed = self.narrowed
        inner.tighten(atoms)
        if inner.impossible:
            return None
        if not inner.rows:
            inner.rows.append(self._always())
        boundary = inner._boundary(self)
        return None if boundary.empty else Case(boundary, tuple(inner.rows))

    def _boundary(self, outer: _Box) -> Boundary:
        same = self.lower == outer.lower and self.upper == outer.upper
        if same and self.shared:
            return self.shared[0]
        self._complete()
        boundary = Boundary(
            tuple(self.lower[i][0] for i in range(self.inputs)),
            tuple(self.upper[i][0] for i in range(self.inputs)),
            frozenset(i for i, (_, strict) in self.lower.items() if strict),
            frozenset(i for i, (_, strict) in self.upper.items() if strict),
            single=self.rules.single,
        )
        if same:
            self.shared.append(boundary)
        return boundary

    def _complete(self) -> None:
        """Refuse inputs without ends, or with ends beyond float32; give them some where that is permitted."""
        matter = any(any(row.coefficients) or row.inputs for row in self.rows)
        for index in range(self.inputs):
            name = self.rules.name(("X", index))
            if index not in self.lower or index not in self.upper:
                if matter and not self.rules.open_inputs:
                    raise Wrong(f"{name} has no {'upper' if index in self.lower else 'lower'} bound")
                self.narrowed[0] |= matter
                low = self.lower.setdefault(index, (self.upper.get(index, _ONE)[0] - 2, False))
                self.upper.setdefault(index, (low[0] + 2, False))
            if max(abs(self.lower[index][0]), abs(self.upper[index][0])) > LARGEST:
                raise Wrong(f"{name} has a bound beyond the numbers of float32; give it a smaller one")
