"""A table's columns: scaled by hand, radii in their own units, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gls_es.data import Columns, read_csv
from gls_es.errors import ConfigError, DataError

TABLE = "a, b,kind\n1,-5,x\n3,5,y\n2,0,x\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path / "t.csv"


def test_a_file_becomes_inputs_and_classes(path: Path) -> None:
    columns, values, kinds, names = read_csv(path, label="kind", ranges={"b": (-10, 10)})
    assert columns == Columns(("a", "b"), (1.0, -10.0), (3.0, 10.0))
    assert torch.equal(values, torch.tensor([[0.0, 0.25], [1.0, 0.75], [0.5, 0.5]]))
    assert (kinds.tolist(), names) == ([0, 1, 0], ("x", "y"))
    assert torch.equal(columns.radii({"b": 2.0}), torch.tensor([0.0, 0.1], dtype=torch.float64))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least one line"),
        ("a,kind\n", "at least one line"),
        ("a,kind\n1,x\none,y\n", "line 3: .*has to be a number"),
        ("a,kind\n1,x,2\n", "line 2: has 3 values"),
        ("a,kind\nnan,x\n1,y\n2,x\n", "range nan|has nan|needs low < high"),
    ],
)
def test_files_that_are_no_tables(path: Path, text: str, words: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises((DataError, ConfigError), match=words):
        read_csv(path, label="kind")


def test_columns_and_values_that_do_not_fit(path: Path) -> None:
    with pytest.raises(ConfigError, match="no column 'knid'; did you mean 'kind'"):
        read_csv(path, label="knid")
    with pytest.raises(DataError, match=r"row 1 has 5 in column 'b', whose range is -6 to 4"):
        read_csv(path, label="kind", ranges={"b": (-6, 4)})
    with pytest.raises(ConfigError, match="needs low < high"):
        read_csv(path, label="kind", ranges={"b": (4, 4)})
    with pytest.raises(ConfigError, match="no column 'c'; there are a"):
        Columns(("a",), (0.0,), (1.0,)).radii({"c": 1.0})
    with pytest.raises(DataError, match="cannot be read"):
        read_csv(path.with_name("none.csv"), label="kind")
