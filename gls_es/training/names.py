"""What the files of a run are called; whoever reads or writes one takes its name from here."""

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
