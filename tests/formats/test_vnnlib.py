"""VNN-LIB: what a text says, what is refused, decimals that round outward, and the competition's files."""

import math
import random
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import nn

from gls_es.basics.property import Boundary, Row
from gls_es.certification import Decision, decide
from gls_es.errors import FormatError
from gls_es.formats import read_vnnlib, robustness_vnnlib, write_instances, write_result
from gls_es.formats.vnnlib import parse_vnnlib
from gls_es.formats.vnnlib_writing import decimal, exact_decimal, result_text

F = Fraction
DECLARED = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
BOX = "(assert (>= X_0 0.25)) (assert (<= X_0 0.5)) (assert (<= -1e-1 X_1)) (assert (>= 2 X_1))"


def test_a_box_and_a_conjunction() -> None:
    """The form of ACAS Xu: assertions are conjoined."""
    prop = parse_vnnlib(f"; a comment (with brackets\n{DECLARED}{BOX}\n(assert (<= Y_0 Y_1))(assert (>= Y_0 3.991125))")
    (case,) = prop.cases
    assert (prop.inputs, prop.outputs) == (2, 2)
    assert case.box == Boundary((F(1, 4), F(-1, 10)), (F(1, 2), F(2)))
    assert case.rows == (Row((F(1), F(-1)), F(0)), Row((F(-1), F(0)), F(-3991125, 10**6)))


def test_alternatives_share_the_box() -> None:
    """The form of robustness: one alternative for each other class."""
    prop = parse_vnnlib(f"{DECLARED}{BOX}(assert (or (and (>= Y_1 Y_0)) (and (<= Y_0 1) (<= Y_1 1))))")
    assert [len(case.rows) for case in prop.cases] == [1, 2]
    assert prop.cases[0].box is prop.cases[1].box
    assert prop.cases[0].rows == (Row((F(1), F(-1)), F(0)),)


def test_boxes_within_alternatives() -> None:
    """The form of several disjoint boxes; bounds outside of the alternatives hold in all of them."""
    text = "(assert (or (and (<= X_0 0.3) (<= Y_0 0)) (and (>= X_0 0.4) (<= Y_0 1)) (and (>= X_0 0.6) (<= Y_0 2))))"
    prop = parse_vnnlib(f"{DECLARED}{BOX}{text}")
    assert [(c.box.lower[0], c.box.upper[0], c.rows[0].offset) for c in prop.cases] == [
        (F(1, 4), F(3, 10), 0),
        (F(2, 5), F(1, 2), 1),
    ]  # the third box is empty
    both = parse_vnnlib(f"{DECLARED}{BOX}(assert (or (<= Y_0 0) (<= Y_0 1)))(assert (or (<= Y_1 0) (<= Y_1 1)))")
    assert len(both.cases) == 4


def test_linear_terms() -> None:
    text = "(assert (<= (+ (* 2.0 Y_0) (* Y_1 (- 3)) 1) (- (- Y_0 Y_1) 0.5)))(assert (<= (* 2 X_0) 0.8))"
    (case,) = parse_vnnlib(f"{DECLARED}{BOX}{text}").cases
    assert case.rows == (Row((F(1), F(-2)), F(-3, 2)),)
    assert case.box.upper[0] == F(2, 5)


@pytest.mark.parametrize(
    ("formula", "wanted"),
    [
        ("(<= (* 0 Y_0) -1)", "unsat"),
        ("(<= (* 0 Y_0) 0)", "sat"),
        ("(>= (* 0.0 Y_0 Y_1) (- Y_1 Y_1))", "sat"),
        ("(>= Y_0 Y_0)", "sat"),
        ("(>= Y_0 (+ Y_0 1))", "unsat"),
        ("(or)", "unsat"),
        ("(and (or) (>= Y_0 0))", "unsat"),
        ("(or (and (>= Y_0 (+ Y_0 1))) (and (or) (<= Y_1 9)))", "unsat"),
        ("(or (or) (<= Y_1 (+ Y_1 1)))", "sat"),
    ],
)
def test_outputs_that_cancel_and_alternatives_that_are_none_are_decided(formula: str, wanted: str) -> None:
    """What is true or false of every output; the right answers are plain logic."""
    layer = nn.Linear(2, 2)
    assert decide(layer, (2,), parse_vnnlib(f"{DECLARED}{BOX}(assert {formula})"), timeout=5).result == wanted


def test_old_declarations_and_ignored_commands() -> None:
    text = "(set-logic QF_LRA)(declare-fun X_0 () Real)(declare-fun Y_0 () Real)"
    prop = parse_vnnlib(f"{text}(assert (and (<= X_0 1) (>= X_0 0) (<= Y_0 0)))(check-sat)(exit)")
    assert (prop.inputs, prop.outputs, len(prop.cases)) == (1, 1, 1)


WRONG = {
    "((((": "ends within brackets",
    ")": "closed that was not opened",
    "x": "outside of brackets",
    "(" * 100: "nested too deeply",
    "(assert)": "one formula",
    "(declare-const X_0 Int)": "only real constants",
    "(declare-const Z_0 Real)": "only real constants",
    "(declare-network f)": "version 2",
    "(define-fun f () Real 1)": "not part of VNN-LIB",
    "()": "not part of VNN-LIB",
    "": "without a gap",
    "(declare-const X_1 Real)(declare-const Y_0 Real)": "X_0, X_1, ... are not declared without a gap",
    "(declare-const X_9999999 Real)(declare-const Y_0 Real)": "without a gap",
    f"{DECLARED}{BOX}": "nothing about the outputs",
    f"{DECLARED}{BOX}(assert (<= (* 0 X_0) -1))": "nothing about the outputs",
    "(declare-const X_0 Real)(declare-const X_00 Real)": "only real constants named",
    f"{DECLARED}(assert (>= X_0 0.25))(assert (<= Y_0 0))": "X_0 has no upper bound",
    f"{DECLARED}{BOX}(assert (<= Y_2 0))": "'Y_2' is neither",
    f"{DECLARED}{BOX}(assert (<= X_0 X_1))": "one by one",
    f"{DECLARED}{BOX}(assert (<= X_0 Y_0))": "one by one",
    f"{DECLARED}{BOX}(assert (not (<= Y_0 0)))": "'not' is no formula",
    f"{DECLARED}{BOX}(assert (< Y_0 0))": "'<' is no formula",
    f"{DECLARED}{BOX}(assert (<= Y_0 0 1))": "no formula",
    f"{DECLARED}{BOX}(assert (<= (* Y_0 Y_1) 0))": "no linear term",
    f"{DECLARED}{BOX}(assert (<= (/ Y_0 2) 0))": "no linear term",
    f"{DECLARED}{BOX}(assert (<= () 0))": "no linear term",
    f"{DECLARED}{BOX}(assert (<= Y_0 nan))": "'nan' is neither",
    f"{DECLARED}{BOX}(assert (<= Y_0 1e9999999))": "neither",
    f"{DECLARED}{BOX}(assert (<= Y_0 {'9' * 500}))": "neither",
    f"{DECLARED}{BOX}" + "(assert (or (<= Y_0 0) (<= Y_1 0)))" * 20: "more than 10,000 cases",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_vnnlib(text)
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_alternatives_that_are_written_out_may_be_many() -> None:
    """10,001 thresholds, each a case of its own on the one box, and not twice as many by a second choice."""
    many = "(assert (or " + " ".join(f"(<= Y_0 {index})" for index in range(10_001)) + "))"
    prop = parse_vnnlib(f"{DECLARED}{BOX}{many}")
    assert [case.rows[0].offset for case in prop.cases] == list(range(10_001))
    assert len({case.box for case in prop.cases}) == 1
    with pytest.raises(FormatError, match="more than 10,000 cases"):
        parse_vnnlib(f"{DECLARED}{BOX}{many}(assert (or (<= Y_1 0) (>= Y_1 1)))")


@pytest.mark.parametrize("zero", ["(* 0 X_0)", "(- X_1 X_1)", "(* 0.0 Y_1)", "(+ X_0 (* -1 X_0))"])
def test_terms_that_cancel_leave_no_trace(zero: str) -> None:
    """Input 0 has the number of output 0: what is left of it must not take that one's place."""
    for body, offset in ((f"(<= (+ Y_0 {zero}) 2)", F(2)), (f"(>= {zero} (+ Y_0 2))", F(-2))):
        (case,) = parse_vnnlib(f"{DECLARED}{BOX}(assert {body})").cases
        assert case.rows == (Row((F(1), F(0)), offset),)
    assert parse_vnnlib(f"{DECLARED}{BOX}(assert (<= Y_0 0))(assert (>= {zero} 1))").cases == ()
    (case,) = parse_vnnlib(f"{DECLARED}{BOX}(assert (<= Y_0 0))(assert (<= (+ X_0 {zero}) 0.3))").cases
    assert case.box.upper[0] == F(3, 10)


@pytest.mark.parametrize(
    ("formula", "wanted"),
    [
        ("(<= Y_0 1e39)", "sat"),
        ("(<= Y_0 -1e39)", "unsat"),
        ("(>= Y_0 -1e400)", "sat"),
        ("(<= Y_0 -1e400)", "unsat"),
        ("(<= (* 1e300 Y_0) 1e299)", "unsat"),
        ("(<= (* 1e300 Y_0) 1e301)", "sat"),
        ("(<= (* 1e-300 Y_0) 1e-301)", "unsat"),
        ("(or (<= Y_0 -1e39) (>= Y_0 1.5))", "sat"),
        ("(and (<= Y_0 1e39) (>= Y_0 2.5))", "unsat"),
        ("(and (>= X_0 -1e400) (<= X_0 1e39) (<= Y_0 1.25))", "sat"),
    ],
)
def test_numbers_beyond_float32_are_answered(formula: str, wanted: str) -> None:
    """Y_0 = 1 + X_0, X_0 in [0, 1]."""
    net = nn.Linear(1, 1)
    nn.init.ones_(net.weight)
    nn.init.ones_(net.bias)
    box = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 0))(assert (<= X_0 1))"
    prop = parse_vnnlib(f"{box}(assert {formula})")
    for execution in ("float32", "float64", "real"):
        if execution != "real" or "1e400" not in formula:
            assert decide(net, (1,), prop, execution=execution).result == wanted


def test_inputs_beyond_float32_are_refused_in_a_sentence() -> None:
    for bound in ("1e39", "1e400"):
        with pytest.raises(FormatError, match="X_0 has a bound beyond the numbers of float32"):
            parse_vnnlib(f"{DECLARED}{BOX.replace('0.5', bound)}(assert (<= Y_0 0))")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    text = f"{DECLARED}{BOX}(assert (<= Y_0 0))"
    (tmp_path / "a.vnnlib").write_text(text, encoding="utf-8-sig")
    assert read_vnnlib(tmp_path / "a.vnnlib") == parse_vnnlib(text)


def test_files_say_their_name(tmp_path: Path) -> None:
    (tmp_path / "a.vnnlib").write_text("(assert")
    (tmp_path / "b.vnnlib").write_bytes(b"\xff\xfe(")
    for name, said in (("a.vnnlib", "within brackets"), ("b.vnnlib", "no text"), ("c.vnnlib", "no such file")):
        with pytest.raises(FormatError, match=rf"{name}: .*{said}"):
            read_vnnlib(tmp_path / name)


def test_decimals_round_outward() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        number = F(rng.randint(-(10**6), 10**6), rng.randint(1, 10**6))
        places = rng.randint(1, 14)
        low, up = decimal(number, up=False, places=places), decimal(number, up=True, places=places)
        assert F(low) <= number <= F(up)
        assert F(up) - F(low) <= F(1, 10**places)
    assert [decimal(F(-1, 3), up=up, places=2) for up in (False, True)] == ["-0.34", "-0.33"]
    assert decimal(F(-1, 10**9), up=True, places=2) == "0.0"


def test_exact_decimals_are_exact() -> None:
    for value in (0.1, 1 / 3, 5e-324, 1e300, -2.5, 0.0, 3.0):
        assert F(exact_decimal(F(value))) == F(value)
    with pytest.raises(ValueError, match="no finite decimal"):
        exact_decimal(F(1, 3))


@pytest.mark.parametrize("eps", [0.0, 1 / 255, 2 / 255, 8 / 255, 0.1, 0.3])
def test_the_box_in_the_file_contains_the_exact_ball(eps: float) -> None:
    """All pixel values k / 255, in rationals; ε is the fraction that was meant and the float that it became."""
    meant = {8 / 255: F(8, 255), 2 / 255: F(2, 255), 1 / 255: F(1, 255), 0.1: F(1, 10), 0.3: F(3, 10)}.get(eps, F(0))
    image = (torch.arange(256) / 255).reshape(1, 16, 16)
    prop = parse_vnnlib(robustness_vnnlib(image, 3, eps, 10, title="a\nball"))
    assert len(prop.cases) == 9
    box = prop.cases[0].box
    for pixel, low, up in zip(image.flatten().tolist(), box.lower, box.upper, strict=True):
        for radius in (meant, F(eps)):
            assert low <= max(F(pixel) - radius, F(0))
            assert up >= min(F(pixel) + radius, F(1))
        assert max(F(0), F(pixel) - F(eps)) - low <= F(1, 10**11)
        assert 0 <= low <= up <= 1


def test_the_rows_of_robustness_are_those_of_the_other_classes() -> None:
    prop = parse_vnnlib(robustness_vnnlib(torch.zeros(2), 1, 0.5, 3, clip=False))
    assert [case.rows for case in prop.cases] == [
        (Row((F(-1), F(1), F(0)), F(0)),),
        (Row((F(0), F(1), F(-1)), F(0)),),
    ]
    assert prop.cases[0].box.lower[0] < F(-1, 2)


def test_result_files(tmp_path: Path) -> None:
    assert result_text(Decision("unsat", "crown", None, None, 1.0)) == "unsat\n"
    decision = Decision("sat", "attack", (F(1, 10), F(-1, 4)), (0.5, -1e-9), 1.0)
    write_result(decision, tmp_path / "r.txt")
    assert (tmp_path / "r.txt").read_text() == "sat\n((X_0 0.1)\n(X_1 -0.25)\n(Y_0 0.5)\n(Y_1 -1e-09))\n"
    write_instances(tmp_path / "instances.csv", [("net.onnx", "a.vnnlib", 60.0)])
    assert (tmp_path / "instances.csv").read_text() == "net.onnx,a.vnnlib,60\n"


def test_a_written_counterexample_violates_the_file_when_it_is_read_back(tmp_path: Path) -> None:
    """The competition reads decimals, rounds them to float32, and executes; no tolerance is needed."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    image = torch.rand(1, 2, 3, generator=torch.Generator().manual_seed(2))
    label = int(net(image[None]).argmax())
    prop = parse_vnnlib(robustness_vnnlib(image, label, 0.9, 3, clip=False))
    text = result_text(decide(net, (1, 2, 3), prop))
    assert text.startswith("sat\n(")
    values = {}
    for pair in text.removeprefix("sat\n(").removesuffix(")\n").split("\n"):
        name, number = pair.strip("()").split()
        values[name] = number
    written = [F(values[f"X_{index}"]) for index in range(6)]
    box = prop.cases[0].box
    assert all(low <= value <= up for low, value, up in zip(box.lower, written, box.upper, strict=True))
    outputs = net(torch.tensor([float(value) for value in written]).reshape(1, 1, 2, 3))[0].tolist()
    assert [float(values[f"Y_{index}"]) for index in range(3)] == outputs
    assert any(case.violated_by(outputs) for case in prop.cases)
    assert not math.isnan(sum(outputs))
