"""VNN-LIB 2: what a query says, what is refused by name, and the trees of the public parser where it is installed."""

import gzip
import importlib
import random
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gls_es.basics.property import Row
from gls_es.certification import decide
from gls_es.errors import FormatError
from gls_es.formats import read_query, read_vnnlib, robustness_vnnlib
from gls_es.formats.vnnlib import parse_query, parse_vnnlib
from gls_es.formats.vnnlib_text import commands
from gls_es.formats.vnnlib_writing import result_text

F = Fraction
VERSION = "(vnnlib-version <2.0>)"
NET = f"{VERSION}(declare-network N (declare-input X float32 [1,2]) (declare-output Y float32 [1,2]))"
BOX = "(assert (and (>= X[0,0] 0.0) (<= X[0,0] 1.0) (>= X[0,1] -1.0) (<= X [0, 1] 1.0)))"


def _identity() -> nn.Module:
    layer = nn.Linear(2, 2, bias=False)
    layer.weight = nn.Parameter(torch.eye(2))
    return layer


def test_declarations_shapes_and_rows() -> None:
    """Row-major order, several tensors one after the other, scalars without an index."""
    text = f"""; a comment
    {VERSION}
    (declare-network net_1
        (declare-input a real [2,3]) (declare-input b real [])
        (declare-output c real [2,1,2]))
    (assert (<= (+ a[1,0] (* -2 b) c[1,0,1]) 7))"""
    query = parse_query(text.replace("(assert", _bounds("a", 2, 3) + "(assert (and (<= b 1) (>= b 0)))(assert"))
    assert query.declared is not None
    assert (query.declared.network, query.declared.real) == ("net_1", True)
    assert [str(tensor) for tensor in query.declared.inputs] == ["a real [2,3]", "b real []"]
    (case,) = query.property.cases
    assert (query.property.inputs, query.property.outputs) == (7, 4)
    inputs = tuple(map(F, (0, 0, 0, 1, 0, 0, -2)))
    assert case.rows == (Row(tuple(map(F, (0, 0, 0, 1))), F(7), inputs),)
    assert not case.box.single


def _bounds(name: str, rows: int, columns: int) -> str:
    elements = [f"{name}[{i},{j}]" for i in range(rows) for j in range(columns)]
    return "".join(f"(assert (and (>= {e} 0.0) (<= {e} 1.0)))" for e in elements)


@pytest.mark.parametrize(
    ("formula", "wanted"),
    [
        ("(> Y[0,0] 1.0)", "unknown"),  # the largest value is 1, and whether rounding passes it is left open
        ("(>= Y[0,0] 1.0)", "sat"),
        ("(> Y[0,0] 1.00001)", "unsat"),
        ("(< Y[0,0] 0.0)", "unknown"),
        ("(< Y[0,0] -0.00001)", "unsat"),
        ("(== Y[0,0] Y[0,1])", "sat"),
        ("(!= Y[0,0] Y[0,0])", "unsat"),
        ("(and (!= Y[0,0] 0.5) (== X[0,0] 0.5))", "unknown"),
        ("(and (== Y[0,0] 0.5) (!= X[0,0] 0.25) (== X[0,1] 0.0))", "sat"),
        ("(and (> X[0,0] 0.25) (< X[0,0] 0.2500001) (!= Y[0,1] 0.0))", "sat"),
        ("(and (> X[0,0] 0.25) (< X[0,0] 0.25000000001))", "unknown"),  # real numbers, but no float32 number between
        ("(>= (+ X[0,0] X[0,1]) 2.001)", "unsat"),
        ("(>= (+ X[0,0] X[0,1]) 1.99)", "sat"),
        ("(> Y[0,0] X[0,0])", "unknown"),  # equal in every point: strictness is lost in the slack for rounding
        ("(>= Y[0,0] (+ X[0,0] 0.001))", "unsat"),
        ("(<= (* 0.123456789 Y[0,0]) -0.001)", "unsat"),
        ("(<= X[0,0] 0.5)", "sat"),
        ("(== X[0,0] 0.1)", "unknown"),  # no float32 number is a tenth; whether one was meant is not said
        ("(or (<= X[0,0] -0.5) (> X[0,0] 1.0))", "unsat"),
        ("(< 0.0 1.0)", "sat"),
    ],
)
def test_small_queries(formula: str, wanted: str) -> None:
    """Y is X, which lies in [0, 1] x [-1, 1]."""
    prop = parse_vnnlib(f"{NET}{BOX}(assert {formula})")
    decision = decide(_identity(), (2,), prop, timeout=10.0)
    assert decision.result == wanted
    if wanted == "sat":
        assert decision.inputs is not None
        assert all(F(float(torch.tensor(float(x)))) == x for x in decision.inputs)  # float32 numbers themselves


def test_inputs_without_bounds() -> None:
    """A violation near those that there are is one; that none is found says nothing."""
    half = f"{NET}(assert (>= X[0,0] 5.0))"
    for formula, wanted in (("(>= Y[0,0] 5.5)", "sat"), ("(<= Y[0,0] 4.0)", "unknown"), ("(<= X[0,1] 9.0)", "sat")):
        assert decide(_identity(), (2,), parse_vnnlib(f"{half}(assert {formula})"), timeout=10.0).result == wanted


WRONG = {
    VERSION: "does not declare a network",
    "(vnnlib-version <1.0>)": "version is not 2",
    "(vnnlib-version 2.0)": "version is not 2",
    f"{VERSION}(assert (<= 0.0 1.0))": "does not declare a network",
    f"{VERSION}(declare-network N (declare-input X float32 [1]))": "an input and an output",
    f"{VERSION}(declare-network N (declare-output Y float32 [1]) (declare-input X float32 [1]))": "behind an output",
    f"{VERSION}(declare-network N (declare-input X float16 [1]) (declare-output Y float32 [1]))": "float16",
    f"{VERSION}(declare-network N (declare-input X real [1]) (declare-output Y float32 [1]))": "real is the element",
    f"{VERSION}(declare-network N (declare-input X float32 [0]) (declare-output Y float32 [1]))": "sizes of at least 1",
    f"{VERSION}(declare-network N (declare-input X float32) (declare-output Y float32 [1]))": "a shape",
    f"{VERSION}(declare-network N (declare-input X float32 [1]) (declare-output X float32 [1]))": "declared twice",
    f"{VERSION}(declare-network N (declare-input or float32 [1]) (declare-output Y float32 [1]))": "is no name",
    f"{VERSION}(declare-network N (declare-input X float32 [1]) (declare-hidden H float32 [1] \"h\"))": "hidden nodes",
    f"{VERSION}(declare-network N (equal-to M))": "several networks",
    NET + "(declare-network M)": "several networks",
    NET: "asserts nothing",
    NET + "(check-sat)": "not part of VNN-LIB 2",
    NET + BOX + "(assert (<= (* Y[0,0] X[0,0]) 1.0))": "polynomials",
    NET + BOX + "(assert (<= Y[0,2] 1.0))": "no element of Y float32 [1,2]",
    NET + BOX + "(assert (<= Y[0] 1.0))": "no element",
    NET + BOX + "(assert (<= Y[0,,1] 1.0))": "neither a number nor a declared variable",
    NET + BOX + "(assert (<= Y[,0,1] 1.0))": "neither a number nor a declared variable",
    NET + BOX + "(assert (<= Y[0,1,] 1.0))": "neither a number nor a declared variable",
    NET + BOX + "(assert (<= Y[0, 0 1] 1.0))": "neither a number nor a declared variable",
    NET + BOX + f"(assert (<= Y[0,{'0' * 5000}1] 1.0))": "neither a number nor a declared variable",
    f"{VERSION}(declare-network N (declare-input X float32 [1 2]) (declare-output Y float32 [1]))": "does not declare",
    NET + BOX + "(assert (<= Z[0,0] 1.0))": "neither",
    NET + BOX + "(assert (= Y[0,0] 1.0))": "'=' is no formula",
    NET + BOX + "(assert (not (<= Y[0,0] 1.0)))": "'not' is no formula",
    NET + BOX + "(assert ([0,0]))": "follows no name",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_query(text)
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_compressed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gls_es.formats.vnnlib.physical_memory", lambda: None)
    text = f"{NET}{BOX}(assert (<= Y[0,0] 0.5))"
    (tmp_path / "q.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    assert read_query(tmp_path / "q.vnnlib.gz") == parse_query(text)
    (tmp_path / "cut.vnnlib.gz").write_bytes(gzip.compress(text.encode())[:-9])
    (tmp_path / "bomb.vnnlib.gz").write_bytes(gzip.compress(b" " * (2**26 + 1)))
    for name, said in (("cut", "damaged gzip"), ("bomb", "more than 67,108,864 bytes")):
        with pytest.raises(FormatError, match=said):
            read_vnnlib(tmp_path / f"{name}.vnnlib.gz")


def test_the_assignment_names_everything_that_is_declared() -> None:
    query = parse_query(f"{NET}{BOX}(assert (== X[0,0] 0.25))(assert (== X[0,1] -0.5))")
    text = result_text(decide(_identity(), (2,), query.property), query.declared)
    assert text == "sat\nX float32 [1,2]\n0.25\n-0.5\nY float32 [1,2]\n0.25\n-0.5\n"


def test_both_versions_of_a_written_ball_say_the_same() -> None:
    image = torch.rand(1, 2, 3, generator=torch.Generator().manual_seed(2))
    one, two = (parse_vnnlib(robustness_vnnlib(image, 1, 0.1, 3, version=version)) for version in (1, 2))
    assert [case.rows for case in one.cases] == [case.rows for case in two.cases]
    assert (one.cases[0].box.lower, one.cases[0].box.upper) == (two.cases[0].box.lower, two.cases[0].box.upper)
    declared = parse_query(robustness_vnnlib(image, 1, 0.1, 3, version=2)).declared
    assert declared is not None
    assert [str(tensor) for tensor in (*declared.inputs, *declared.outputs)] == [
        "X float32 [1,1,2,3]",
        "Y float32 [1,3]",
    ]


# Against the public parser ------------------------------------------------------------------------------------------


def _theirs(node: Any) -> Any:
    """A tree of ``vnnlib`` as nested lists, as ours are."""
    kind = type(node).__name__
    signs = {
        "LessEqual": "<=",
        "GreaterEqual": ">=",
        "LessThan": "<",
        "GreaterThan": ">",
        "Equal": "==",
        "NotEqual": "!=",
    }
    if kind in ("And", "Or"):
        return [kind.lower(), *map(_theirs, node.args)]
    if kind in signs:
        return [signs[kind], _theirs(node.lhs), _theirs(node.rhs)]
    if kind == "Var":
        return f"{node.name}[{','.join(map(str, node.indices))}]"
    if kind in ("Float", "Int"):
        return node.lexeme
    if kind == "Plus":
        return ["+", *map(_theirs, node.args)]
    if kind == "Multiply":
        return ["*", *map(_theirs, node.args)]
    if kind == "Minus":
        return ["-", _theirs(node.head), *map(_theirs, node.rest)]
    assert kind == "Negate", kind
    return ["-", _theirs(node.expr)]


def test_trees_are_those_of_the_public_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    vnnlib = pytest.importorskip("vnnlib")
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    if not folder.is_dir():
        pytest.skip("the scripts are part of a checkout")
    monkeypatch.syspath_prepend(str(folder))
    fuzz = importlib.import_module("fuzz_vnnlib")
    monkeypatch.setattr(fuzz, "HUGE", ("123456789.123456789",))  # the grammar has no exponents
    for number in range(2000):
        rng = random.Random(number)
        writer = fuzz.Writer(rng, rng.randint(1, 3), rng.randint(1, 3), 2)
        text = writer.specification(writer.assertions()).replace("real", "float32")
        _, _, *asserts = commands(text)
        found = vnnlib.parse_query_string(text)
        assert [["assert", _theirs(item.expr)] for item in found.assertions] == asserts, text
    assert "vnnlib" in sys.modules
