"""Pictures as files: their kinds, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gls_es.errors import ConfigError, DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ABOUT: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""What is not written into a file of each kind, so that the same picture gives the same bytes."""
FORMATS = (*_ABOUT,)


def check_format(path: Path) -> None:
    """Refuse a path whose ending is not among :data:`FORMATS`.

    Raises:
        ConfigError: it has another ending.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path}: a plot's name ends in {', '.join(FORMATS)}.")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, with real text in SVG, the same bytes each time.

    Raises:
        ConfigError: the path has an ending not among :data:`FORMATS`.
        DataError: the file cannot be written.
    """
    check_format(path)
    from matplotlib import rc_context

    try:
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": path.name}):
            figure.savefig(path, dpi=150, metadata=_ABOUT[path.suffix.lower()])
    except OSError as error:
        raise DataError(f"{path}: the plot cannot be written ({error.strerror or error}).") from error
