#!/usr/bin/env bash
# PyTorch 2.13.0: which pixel torch.nn.functional.interpolate(mode="nearest" or "nearest-exact") copies depends on the number
# format of the image, for some sizes.
#
# 2 values are enlarged to 82 and 52 reduced to 22: one output or more copies another value in float32 than in float64. The
# place is computed in the image's own format, and rounding moves it across a border. Nothing is interpolated here, so that a
# network that is checked in float64 and runs in float32 reads other pixels, not merely rounded ones.
# Seen 2026-11-30 with Python 3.11 on x86-64, on the CPU; exits 1 if it changes. Needs about 3 GB for a while.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy
"$work/venv/bin/python" - <<'PY'
import sys

import torch
from torch.nn.functional import interpolate

found = {}
for size, to, mode in ((2, 82, "nearest"), (52, 22, "nearest-exact"), (52, 26, "nearest-exact")):
    x = torch.arange(size, dtype=torch.float64)[None, None]
    double, single = interpolate(x, size=to, mode=mode)[0, 0], interpolate(x.float(), size=to, mode=mode)[0, 0]
    places = (double != single).nonzero()[:, 0].tolist()
    found[f"{size} to {to}, {mode}"] = [(i, int(single[i]), int(double[i])) for i in places]
print("(output, pixel in float32, pixel in float64):", found)
expected = {
    "2 to 82, nearest": [(41, 0, 1)],
    "52 to 22, nearest-exact": [(5, 12, 13)],
    "52 to 26, nearest-exact": [],
}
if found != expected:
    print("this has changed; expected", expected)
    sys.exit(1)
PY
