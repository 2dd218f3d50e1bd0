"""What the files of a run are called; whoever reads or writes one takes its name from here."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = "checkpoint.pt"
"""The state of the run."""

BEST = "best.pt"
"""The state of the run when its certified accuracy on validation images was best, where that is kept."""

CONFIG = "config.toml"
"""The settings of the run."""

METRICS = "metrics.jsonl"
"""The log of the run, a JSON object per line."""

RUN = "run"
"""The run inside a folder that holds more than a run, as ``gls-es reproduce`` makes them."""


def in_run(folder: Path) -> Path | None:
    """The checkpoint that a run folder stands for: the best if it was kept, else the last, or None."""
    found = (folder / name for name in (BEST, CHECKPOINT))
    return next((path for path in found if path.is_file()), None)
