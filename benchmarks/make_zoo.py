"""Makes a zoo network of a certified run: strips the state of training, and prints its entry for gls_es/zoo.

python benchmarks/make_zoo.py results/digits-0.1/grad-ibp-seed0 digits-cnn3
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import gls_es.zoo
from gls_es.training.checkpoint import load_checkpoint, save_checkpoint


def main(folder: str, name: str) -> None:
    """Write the checkpoint of the run that ``gls-es reproduce`` left in ``folder`` as the zoo's ``name``."""
    result = json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))
    content = load_checkpoint(Path(folder) / "run" / "checkpoint.pt")
    kept = {key: value for key, value in content.items() if key not in ("searcher_state", "digest", "average")}
    kept["problem_args"] = {key: value for key, value in kept["problem_args"].items() if key != "data_root"}
    if kept["init"] is not None:  # as the entry's command calls it, not where it lay
        kept["init"] = f"START/checkpoint.pt@{kept['init'].rpartition('@')[2]}"
    path = Path(gls_es.zoo.__file__).with_name(f"{name}.pt")
    save_checkpoint(path, kept)
    summary = result["certification"]
    entry = gls_es.zoo.Entry(
        name=name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        made_by=result["command"].rpartition(" && gls-es certify ")[0].replace(" --out RUN", ""),
        eps=result["eps"],
        images=summary["n"],
        natural=round(summary["natural_accuracy"], 4),
        certified=round(summary["certified_accuracy"], 4),
    )
    sys.stdout.write(f"{entry!r}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
