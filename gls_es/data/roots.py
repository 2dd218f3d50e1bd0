"""Where datasets are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from gls_es.errors import DataError

VARIABLE = "GLS_ES_DATA"


def default_root(root: str | Path | None = None) -> Path:
    """The folder that holds the datasets: ``root``, else the environment variable GLS_ES_DATA, else ``./data``.

    Args:
        root: a folder in torchvision's layout (it holds ``MNIST/raw``, say); ``~`` is expanded. None or "" means unset.

    Returns:
        The path; only ``./data``, which nobody asked for, may not exist.

    Raises:
        DataError: if the path is there but is no folder, or was named (by argument or variable) and is not there.
    """
    named = [
        (value, source) for value, source in ((root, "given"), (os.environ.get(VARIABLE), f"in {VARIABLE}")) if value
    ]
    value, source = named[0] if named else ("data", "")
    path = Path(os.path.expanduser(value))
    if os.path.isdir(path) or (not source and not os.path.lexists(path)):
        return path
    trouble = "is not a folder" if os.path.lexists(path) else "does not exist"
    origin = f"the data root {source}" if source else "the data root ./data"
    raise DataError(
        f"{origin}, {str(path)!r}, {trouble}; "
        f"name the folder that holds the datasets (MNIST/raw, say) with --data or {VARIABLE}."
    )
