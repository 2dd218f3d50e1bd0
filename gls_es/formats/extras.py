"""The optional libraries of the file formats, imported when first needed, and what to install if they are missing."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from gls_es.errors import ConfigError

EXTRAS = {"onnx": "onnx", "onnxruntime": "onnx", "safetensors": "safetensors"}
"""The extra of gls-es that brings each library."""


def library(name: str, purpose: str) -> Any:
    """The module called ``name``, or one of its submodules.

    Args:
        name: dotted; its first part is a key of :data:`EXTRAS`.
        purpose: what needs it, for the message.

    Raises:
        ConfigError: it is not installed, or cannot be loaded.
    """
    top = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{purpose} needs {top} ({error}); install it with: pip install 'gls-es[{EXTRAS[top]}]'"
        ) from error


def installed(name: str) -> bool:
    """Whether a library can be found; nothing is imported."""
    return importlib.util.find_spec(name) is not None
