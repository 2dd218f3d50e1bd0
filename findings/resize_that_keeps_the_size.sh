#!/usr/bin/env bash
# onnxruntime 1.32.0 and onnx 1.23.2: of a Resize whose scale is not 1 but leaves as many values as before, the two executors
# compute different things.
#
# Five values, scale 1.1: the output has floor(5 * 1.1) = 5 values. By ONNX's formulas (asymmetric, floor) output i copies the
# value floor(i / 1.1), that is 0 0 1 2 3, and so onnx.reference does. onnxruntime hands its input on, 0 1 2 3 4, whatever
# the scale, the transformation and the rounding are, as long as the size stays. Both accept the model without a word.
# Seen 2026-11-30 with Python 3.11 on x86-64; exits 1 if it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

x = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
found = {}
for scale in (1.1, 1.2):
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], **options)],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, None])],
        [numpy_helper.from_array(np.array([1, 1, scale], dtype=np.float32), "scales")],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = {"onnxruntime": session.run, "onnx.reference": ReferenceEvaluator(model).run}
    found[scale] = {name: run(None, {"x": x})[0].ravel().astype(int).tolist() for name, run in runs.items()}
    print(scale, found[scale])
expected = {
    1.1: {"onnxruntime": [0, 1, 2, 3, 4], "onnx.reference": [0, 0, 1, 2, 3]},
    1.2: {"onnxruntime": [0, 0, 1, 2, 3, 4], "onnx.reference": [0, 0, 1, 2, 3, 4]},
}
if found != expected:
    print("this has changed; expected", expected)
    sys.exit(1)
PY
