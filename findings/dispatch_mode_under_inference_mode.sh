#!/usr/bin/env bash
# PyTorch 2.13.0: what a TorchDispatchMode sees of one and the same layer depends on the gradient mode around it.
#
# Under torch.no_grad() a composite operator arrives decomposed (linear as t and addmm); under torch.inference_mode() it
# arrives whole (aten.linear). Whoever records operators that way (tracers, counters, checkers) has to know both forms,
# or leave inference mode before recording. Seen 2026-11-29 with torch 2.13.0 (CPU), Python 3.11; exits 1 if it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "torch==2.13.0" numpy
"$work/venv/bin/python" - <<'PY'
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


layer, x = torch.nn.Linear(3, 2), torch.ones(4, 3)
found = {}
for mode in (torch.no_grad, torch.inference_mode):
    with mode(), Seen() as seen:
        layer(x)
    found[mode.__name__] = seen.names
    print(mode.__name__, *seen.names)
expected = {"no_grad": ["aten.t.default", "aten.addmm.default"], "inference_mode": ["aten.linear.default"]}
if found != expected:
    print("this has changed:", found, "expected", expected)
    sys.exit(1)
PY
