#!/usr/bin/env bash
# onnxruntime 1.32.0 and onnx 1.23.2: MaxPool with auto_pad=SAME_UPPER and dilations gives outputs of other shapes.
#
# SAME means that the output is as large as the input divided by the strides. Seven by seven values, a window of two by two with
# dilations of two, strides of one: onnx's shape inference says seven by seven, and onnxruntime gives six by six. It pads as
# much as a window without dilations needs, one value in all, where two are needed. The run succeeds; a line in the log says that
# the shapes differ.
# Seen 2026-11-30 with Python 3.11 on x86-64; exits 1 if it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

found = {}
for dilation in (1, 2):
    node = helper.make_node(
        "MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[dilation, dilation], auto_pad="SAME_UPPER"
    )
    graph = helper.make_graph(
        [node],
        "pool",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 7, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    (output,) = onnx.shape_inference.infer_shapes(model).graph.output
    inferred = [axis.dim_value for axis in output.type.tensor_type.shape.dim]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"x": np.random.default_rng(0).random((1, 1, 7, 7), dtype=np.float32)})
    found[dilation] = (inferred, list(made.shape))
    print("dilations", dilation, "inferred", inferred, "made by onnxruntime", list(made.shape))
expected = {1: ([1, 1, 7, 7], [1, 1, 7, 7]), 2: ([1, 1, 7, 7], [1, 1, 6, 6])}
if found != expected:
    print("this has changed; expected", expected)
    sys.exit(1)
PY
