"""A table of numbers from a CSV file: every column has its own range and its own radius.

    python examples/tabular_csv.py

Two kinds of seeds are told apart by length and width in millimetres and weight in milligrams. The caliper may be off by
0.1 mm, the scales by 1 mg, and the year is exact: so many rows keep their class whatever the instruments do. Takes
about ten seconds.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import torch
from torch import nn

import gls_es
from gls_es.data import read_csv

ERRORS = {"length": 0.1, "width": 0.1, "weight": 1.0}  # in the columns' own units
RANGES = {"length": (4, 11), "width": (1, 5), "weight": (10, 60)}  # what the instruments can show


def main(generations: int = 400) -> gls_es.CertificationReport:
    """Write a table, train on it, and certify its last rows."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        write_seeds(Path(folder) / "seeds.csv")
        columns, values, kinds, names = read_csv(Path(folder) / "seeds.csv", label="kind", ranges=RANGES)
        eps = columns.radii(ERRORS)  # the year is not among them: it stays as it is
        network = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, len(names)))
        train, test = (values[:500], kinds[:500]), (values[500:], kinds[500:])
        trained = gls_es.train(network, train, eps=eps, searcher="rgs", generations=generations, out=f"{folder}/run")
        report = gls_es.certify(trained.module, *test, eps)
    print(report)
    return report


def write_seeds(path: Path) -> None:
    """600 seeds of two kinds, in random order."""
    torch.manual_seed(0)
    rows: list[list[object]] = []
    for kind, (length, width) in {"rye": (8.0, 2.6), "wheat": (6.4, 3.4)}.items():
        for first, second in torch.randn(300, 2).tolist():
            one, two = length + 0.4 * first, width + 0.25 * second
            rows.append([f"{one:.1f}", f"{two:.1f}", f"{1.6 * one * two:.1f}", 2021 + len(rows) % 2, kind])
    rows = [rows[place] for place in torch.randperm(len(rows)).tolist()]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["length", "width", "weight", "year", "kind"], *rows])


if __name__ == "__main__":
    main()
