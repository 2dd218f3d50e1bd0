"""Tables of numbers: columns with a range each, brought into [0, 1], and radii in the columns' own units.

A column with the range [low, high] becomes (value - low) / (high - low). So 0 and 1 are the least and the largest
value that an input may have, and a radius of r units is r / (high - low).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gls_es.basics.suggestions import ending
from gls_es.errors import ConfigError, DataError


@dataclass(frozen=True)
class Columns:
    """The columns of a table, with the range of each.

    Attributes:
        names: of the columns, in order.
        lower: the least value that an input may have, one number a column.
        upper: the largest, above it.

    Raises:
        ConfigError: on construction, if the numbers do not fit the names, or a range is empty or not finite.
    """

    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.lower) == len(self.upper) > 0:
            raise ConfigError(
                f"each column needs a name and two ends, not {len(self.names)}, {len(self.lower)}, {len(self.upper)}."
            )
        for name, low, high in zip(self.names, self.lower, self.upper, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError(f"column {name!r} has the range {low:g} to {high:g}; it needs low < high.")

    @property
    def widths(self) -> Tensor:
        """Upper - lower, (F,) float64."""
        return torch.tensor(self.upper, dtype=torch.float64) - torch.tensor(self.lower, dtype=torch.float64)

    def scaled(self, values: Tensor) -> Tensor:
        """Rows (N, F) in the columns' units as inputs in [0, 1], float32.

        Raises:
            DataError: a value is outside its column's range, or not a number.
        """
        low = torch.tensor(self.lower, dtype=torch.float64)
        found = (values.double() - low) / self.widths
        bad = (~((found >= 0) & (found <= 1))).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            raise DataError(
                f"row {row} has {float(values[row, column]):g} in column {self.names[column]!r}, whose range is "
                f"{self.lower[column]:g} to {self.upper[column]:g}; widen the range, or leave the row out."
            )
        return found.float()

    def radii(self, units: Mapping[str, float]) -> Tensor:
        """What ``eps=`` takes, (F,) float64, for radii in the columns' own units.

        Args:
            units: radius by column; columns that are not named may not change.

        Raises:
            ConfigError: there is no such column.
        """
        for name in units:
            if name not in self.names:
                raise ConfigError(f"there is no column {name!r}{ending(name, self.names, _there_are(self.names))}")
        return torch.tensor([float(units.get(name, 0.0)) for name in self.names], dtype=torch.float64) / self.widths


def _there_are(names: Sequence[str]) -> str:
    """The end of a sentence: the columns, of many the first."""
    return f"; there are {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}."


def read_csv(
    path: str | Path, *, label: str, ranges: Mapping[str, Sequence[float]] | None = None
) -> tuple[Columns, Tensor, Tensor, tuple[str, ...]]:
    """A CSV file with a line of names, then lines of numbers and a class.

    Args:
        path: the file, UTF-8.
        label: name of the column that holds the class, any text.
        ranges: (low, high) by column; without one it is from the least to the largest value in the file.

    Returns:
        The columns; inputs (N, F) float32 in [0, 1]; classes (N,) int64; and the classes' names, sorted.

    Raises:
        DataError: the file cannot be read, or a line has no number where one is needed.
        ConfigError: a column that is not there, or a range that is none.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}).") from error
    if len(lines) < 2:
        raise DataError(f"{path}: a line of names and at least one line of values are needed.")
    names = [name.strip() for name in lines[0]]
    given = dict(ranges or {})
    for name in (label, *given):
        if name not in names:
            raise ConfigError(f"{path}: there is no column {name!r}{ending(name, names, _there_are(names))}")
    place = names.index(label)
    kept = tuple(name for name in names if name != label)
    rows = [_numbers(path, row, line, len(names), place) for row, line in enumerate(lines[1:], 2)]
    values = torch.tensor(rows, dtype=torch.float64)
    texts = [line[place].strip() for line in lines[1:]]
    classes = tuple(sorted(set(texts)))
    ends = [given.get(name, (float(v.min()), float(v.max()))) for name, v in zip(kept, values.T, strict=True)]
    columns = Columns(kept, tuple(float(low) for low, _ in ends), tuple(float(high) for _, high in ends))
    return columns, columns.scaled(values), torch.tensor([classes.index(text) for text in texts]), classes


def _numbers(path: str | Path, row: int, line: list[str], width: int, place: int) -> list[float]:
    if len(line) != width:
        raise DataError(f"{path}, line {row}: has {len(line)} values, and the line of names has {width}.")
    try:
        return [float(text) for index, text in enumerate(line) if index != place]
    except ValueError as error:
        raise DataError(
            f"{path}, line {row}: {error}; every column but the class has to be a number: "
            "leave it out, or write it as columns of 0 and 1."
        ) from error
