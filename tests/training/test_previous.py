"""What gls-es 0.1.0 left behind before its modules moved into rooms is read, resumed and certified as it was then.

``previous/`` holds the folder of `gls-es train --problem digits-cnn3 --searcher rgs --generations 200 --seed 4 --set
popsize=4`, stopped by a signal after generation 24; the checkpoint (``whole.pt``) and the first rows of the log
(``whole.jsonl``) of the same run without a stop; and the records of `gls-es certify whole.pt --limit 30`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import gls_es
from gls_es.training import load_trained, resume

PREVIOUS = Path(__file__).with_name("previous")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("checkpoint.pt", "config.toml", "metrics.jsonl"):
        shutil.copy(PREVIOUS / name, run / name)
    resume(run)
    rows, whole = _rows(run / "metrics.jsonl"), _rows(PREVIOUS / "whole.jsonl")
    assert [row["generation"] for row in rows] == list(range(1, 201))
    for now, then in zip(rows, whole, strict=False):  # later ones grow apart where sums are added in another order
        assert now["generation"] == then["generation"]
        assert now["mean_loss"] == pytest.approx(then["mean_loss"], rel=1e-4)
        assert now["eps"] == pytest.approx(then["eps"])


def test_a_checkpoint_is_certified_to_the_same_verdicts() -> None:
    trained = load_trained(PREVIOUS / "whole.pt")
    images, labels = trained.dataset().test.batch(slice(0, 30))
    report = gls_es.certify(PREVIOUS / "whole.pt", images, labels, 0.1)
    then = {row["index"]: row["verdict"] for row in _rows(PREVIOUS / "verdicts.jsonl") if "verdict" in row}
    assert {v.index: v.verdict for v in report.verdicts} == then
