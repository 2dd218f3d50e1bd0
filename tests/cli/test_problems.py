"""gls-es problems."""

import json
from collections.abc import Callable
from typing import Any

from click.testing import Result

Run = Callable[..., Result]


def test_the_table_names_them_all(run: Run, listed: Any) -> None:
    result = run("problems")
    assert result.exit_code == 0
    heading, *rows = result.stdout.splitlines()
    assert heading.split() == ["name", "parameters", "eps", "data", "what", "it", "is"]
    assert [row.split()[0] for row in rows] == ["bare", "digits-cnn3"]
    assert rows[1].split()[1:5] == ["1,258", "0.1", "built", "in"]
    assert "Handwritten digits [8x8]" in rows[1]


def test_a_broken_one_is_one_line_of_warning(run: Run, listed: Any) -> None:
    result = run("problems")
    (line,) = " ".join(result.stderr.split()).splitlines()
    assert line == "Warning: the problem 'broken' (other.package:Class) does not load: No module named 'other'"
    assert "broken" not in result.stdout


def test_json(run: Run, listed: Any) -> None:
    result = run("problems", "--json")
    bare, digits = json.loads(result.stdout)["problems"]
    assert digits == {
        "name": "digits-cnn3",
        "target": "gls_es.problems.digits:DigitsCNN3",
        "summary": "Handwritten digits [8x8]",
        "parameters": 1258,
        "eps": 0.1,
        "data": "built in",
    }
    assert bare["parameters"] is None
