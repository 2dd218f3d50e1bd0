#!/usr/bin/env bash
# PyTorch 2.14.1: torch.clamp's gradient at its limits depends on the release and on how the limits are given.
#
# Up to 2.13.0 a value that lies exactly on a limit passes the gradient on (1). In 2.14.1 the gradient there is 0 if the
# limits are numbers, and 0.5 if they are tensors. Projected gradient ascent that begins on a limit, as optimised
# slopes of relaxations and multipliers do, then stands still without a word. hardtanh always had 0 there.
# Seen 2026-11-29 with torch 2.13.0 and 2.14.1, Python 3.11, on the CPU; exits 1 if it changes. Needs about 6 GB for a while.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/look.py" <<'PY'
import sys

import torch

zero, one = torch.zeros(5), torch.ones(5)
ways = {
    "clamp, numbers": lambda x: x.clamp(0, 1),
    "clamp, tensors": lambda x: x.clamp(zero, one),
    "hardtanh": lambda x: torch.nn.functional.hardtanh(x, 0, 1),
}
found = {}
for name, way in ways.items():
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0], requires_grad=True)
    way(x).sum().backward()
    found[name] = [x.grad[1].item(), x.grad[3].item()]
print(torch.__version__, found)
old = {"clamp, numbers": [1.0, 1.0], "clamp, tensors": [1.0, 1.0], "hardtanh": [0.0, 0.0]}
new = {"clamp, numbers": [0.0, 0.0], "clamp, tensors": [0.5, 0.5], "hardtanh": [0.0, 0.0]}
expected = old if sys.argv[1] == "2.13.0" else new
if found != expected:
    print("this has changed; expected", expected)
    sys.exit(1)
PY
for version in 2.13.0 2.14.1; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install -q --disable-pip-version-check "torch==$version" numpy
    "$work/$version/bin/python" "$work/look.py" "$version"
done
