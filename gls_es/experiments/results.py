"""What runs leave: a file with how each was trained, and one with its whole result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gls_es.errors import DataError

RESULT = "result.json"
_NUMBER = (int, float)
_NEEDED: Mapping[str, Any] = {
    "cell": str,
    "seed": int,
    "training": {"generations": int, "cpu_seconds": (*_NUMBER, type(None))},
}
_CERTIFIED: Mapping[str, Any] = {
    "certification": {
        "n": int,
        "unknown": int,
        "natural_accuracy": _NUMBER,
        "adversarial_accuracy": _NUMBER,
        "certified_accuracy": _NUMBER,
    }
}


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Every results file under ``folder``.

    Raises:
        DataError: one cannot be read.
    """
    return [_read(path, {**_NEEDED, **_CERTIFIED}) for path in sorted(folder.glob(f"*/{RESULT}"))]


def read_training(path: Path) -> dict[str, Any]:
    """What is known of a run whose training has ended.

    Raises:
        DataError: the file cannot be read.
    """
    return _read(path, _NEEDED)


def _read(path: Path, needed: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_WAY_ON}") from error
    wrong = _wrong(found, needed)
    if wrong:
        raise DataError(f"{path}: is damaged ({', '.join(wrong)} missing or of the wrong kind); {_WAY_ON}")
    whole: dict[str, Any] = found
    return whole


_WAY_ON = "move it out of the folder to have it made again."


def _wrong(found: Any, needed: Mapping[str, Any], prefix: str = "") -> Sequence[str]:
    """What is not there as it should be, by dotted names."""
    if not isinstance(found, dict):
        return [prefix.removesuffix(".") or "everything"]
    wrong: list[str] = []
    for name, kind in needed.items():
        if isinstance(kind, Mapping):
            wrong += _wrong(found.get(name), kind, f"{prefix}{name}.")
        elif name not in found or not isinstance(found[name], kind):
            wrong.append(prefix + name)
    return wrong
