"""The first line of a file of records: which of them cannot be continued by this version."""

from __future__ import annotations

from typing import Any


def why_older(found: dict[str, Any], header: dict[str, Any]) -> str | None:
    """Why a file cannot be continued, if it tells networks apart in another way than this version.

    Args:
        found: the file's header.
        header: that of the run.
    """
    if found.get("network_digest") == header.get("network_digest"):
        return None
    told = found.get("versions")
    version = told.get("gls_es") if isinstance(told, dict) else None
    writer = f"gls-es {version}" if version else "an earlier gls-es"
    return (
        f"was written by {writer}, whose digest of the network left out "
        "plain attributes and some buffers, so its records may be about another network; certify anew into another "
        "file, or delete this one"
    )
