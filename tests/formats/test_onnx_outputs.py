"""Which output is read: one of several by its name, and the logits in front of a classifier's Softmax."""

from pathlib import Path
from typing import Any

import pytest
import torch

import gls_es
from gls_es.errors import FormatError, UnsupportedNetworkError
from gls_es.formats import load_onnx
from gls_es.formats.runtime import OnnxRuntime
from tests.formats.hand_made import helper, model, node, numbers, saved

pytest.importorskip("onnxruntime")


def _classifier(op: str = "Softmax", **attributes: Any) -> Any:
    nodes = [node("MatMul", "x w", "logits"), node(op, "logits", "y", **attributes)]
    return model(nodes, {"w": numbers(1, 4, 3)}, ["N", 4])


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_the_last_softmax_of_a_classifier_is_left_out(op: str, tmp_path: Path) -> None:
    path = saved(_classifier(op, axis=1), tmp_path)
    loaded = load_onnx(path, classifier=True)
    assert loaded.left_out == op
    x = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    executed = OnnxRuntime(path.read_bytes(), what="whole").logits(x)
    with torch.no_grad():
        logits = loaded.module(x)
        assert torch.equal(OnnxRuntime(loaded.data, what="cut").logits(x).argmax(1), executed.argmax(1))
        squashed = logits.softmax(1) if op == "Softmax" else logits.log_softmax(1)
    assert torch.allclose(squashed, executed, atol=1e-6)
    report = gls_es.certify(path, x, executed.argmax(1), 1e-6)
    assert {verdict.verdict for verdict in report.verdicts} == {"certified"}


def test_it_stays_where_its_numbers_count_or_it_is_not_over_classes(tmp_path: Path) -> None:
    """A specification may ask for a probability; over the batch it changes the class."""
    for path, options in (
        (saved(_classifier(), tmp_path, "a.onnx"), {}),
        (saved(_classifier(axis=0), tmp_path, "b.onnx"), {"classifier": True}),
    ):
        with pytest.raises(UnsupportedNetworkError, match=r"the_y.*gls-es certify, which leaves it out"):
            load_onnx(path, **options)


def test_one_of_several_outputs(tmp_path: Path) -> None:
    made = model(
        [node("MatMul", "x w", "z"), node("Relu", "z", "y"), node("Exp", "z", "odd")], {"w": numbers(1, 4, 3)}, [1, 4]
    )
    made.graph.output.extend(helper.make_tensor_value_info(name, 1, [1, 3]) for name in ("odd", "z"))
    path = saved(made, tmp_path)
    loaded = load_onnx(path, output="z")
    x = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(loaded.module(x), x @ torch.from_numpy(numbers(1, 4, 3)), atol=1e-6)
    assert [value.name for value in loaded.outputs] == ["z"]
    with pytest.raises(FormatError, match=r"no output 'w'; its outputs are 'y', 'odd', 'z'"):
        load_onnx(path, output="w")
    with pytest.raises(FormatError, match=r"several outputs, 'y', 'odd', 'z'; choose"):
        load_onnx(path, classifier=True)
