r"""Reads a run of the README's main job and the radii of its network for the README's picture.

    gls-es train --problem digits-cnn3 --searcher pgpe --out runs/digits
    gls-es certify runs/digits --radius --tolerance 1/64 --largest 0.25 --limit 100 --timeout 1 --attack-steps 20 \
        --attack-restarts 1 --stages attack,ibp,crown-ibp,crown --json > runs/digits/radii.json
    python docs/read_main_job.py runs/digits && python docs/make_figures.py

It writes ``docs/pictures/main_job.json``: what the picture shows and no more.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("pictures") / "main_job.json"


def read(run: Path) -> dict[str, Any]:
    """The picture's numbers, of a run folder with ``metrics.jsonl`` and ``radii.json`` in it."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluated = [row for row in rows if "certified_accuracy" in row]
    radii = json.loads((run / "radii.json").read_text(encoding="utf-8"))
    images, step = radii["images"], radii["tolerance"]
    eps = [k * step for k in range(round(radii["largest"] / step) + 1)]
    return {
        "eps_certified": 0.1,
        "eps": [[row["generation"], round(row["eps"], 5)] for row in rows[::100]],
        "training": [
            {
                "generation": row["generation"],
                "natural": row["natural_accuracy"],
                "certified": row["certified_accuracy"],
            }
            for row in evaluated
        ],
        "radii": {
            "n": radii["n"],
            "eps": eps,
            "certified": [sum(i["radius"] is not None and i["radius"] >= e for i in images) for e in eps],
            "adversarial": [sum(i["falsified"] is None or i["falsified"] > e for i in images) for e in eps],
        },
    }


if __name__ == "__main__":
    TARGET.write_text(json.dumps(read(Path(sys.argv[1])), indent=1) + "\n", encoding="utf-8")
