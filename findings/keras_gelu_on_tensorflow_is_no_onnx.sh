#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0, with tf2onnx 1.17.0: a network with the usual GELU is exported to ONNX without an
# error, and no runtime can load the file.
#
# On this backend keras.activations.gelu(x) is written with erfc, and ONNX knows erf only. tf2onnx, which
# Model.export(format="onnx") calls, finds no translation for TensorFlow's Erfc, logs a line, and writes the name as if it
# were ONNX's. The export returns as usual. onnx.checker and onnxruntime refuse the file; with approximate=True, or on
# the PyTorch backend, it is right.
# Seen 2026-11-29 with Python 3.11, onnx 1.23.2, onnxruntime 1.32.0; exits 1 if it changes. Needs about 2 GB for a while.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
    tensorflow-cpu==2.21.0 keras==3.15.1 tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.32.0
cat > "$work/look.py" <<'PY'
import os
import sys

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
import keras
import numpy as np
import onnx
import onnxruntime

found = {}
for name, approximate in (("exact", False), ("tanh", True)):
    path = os.path.join(sys.argv[1], name + ".onnx")
    gelu = keras.layers.Activation(lambda x, form=approximate: keras.activations.gelu(x, approximate=form))
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8), gelu, keras.layers.Dense(3)])
    model(np.zeros((1, 6), dtype="float32"))
    model.export(path, format="onnx", verbose=False)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    try:
        onnxruntime.InferenceSession(path)
        loads = True
    except Exception as error:
        loads = False
        print(str(error).splitlines()[0].replace(path, name)[:160])
    found[name] = ("Erfc" in kinds, loads)
    print(name, kinds)
expected = {"exact": (True, False), "tanh": (False, True)}
print(found)
if found != expected:
    print("this has changed; expected", expected)
    sys.exit(1)
PY
"$work/venv/bin/python" "$work/look.py" "$work" 2> "$work/errors" || { status=$?; tail -n 20 "$work/errors"; exit "$status"; }
