"""The version of gls-es, in a module that everybody may import, and those of what results depend on."""

from __future__ import annotations

import platform

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """The versions that a verdict may depend on: gls_es, torch, python."""
    import torch  # not at once: the command line reads the number above without it

    return {"gls_es": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
