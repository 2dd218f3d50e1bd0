"""What a file said when it was read, so that an answer about it is never taken for one about its successor."""

from __future__ import annotations

from pathlib import Path

from gls_es.errors import ConfigError, FormatError
from gls_es.formats.extras import library
from gls_es.formats.files import LARGEST, read_file, sha256, unpacked
from gls_es.formats.onnx_external import include_other_files

_ELSEWHERE = b"location"
"""The key under which an ONNX file names another one that holds weights of its own."""


def fingerprint(path: str | Path) -> str | None:
    """SHA-256 of what a network or a specification consists of, however it is compressed.

    Args:
        path: the file. Weights that an ONNX file keeps in others count as its own, as in ``OnnxModel.digest``; a file
            that is no ONNX model, or a damaged one, is its own bytes only.

    Returns:
        The digest in hexadecimal; None for a file that cannot be read.
    """
    path = Path(path)
    try:
        data = read_file(path)
    except FormatError:
        return None
    try:
        data = unpacked(path, data, largest=LARGEST)
        return sha256(data + _beside(path, data))
    except FormatError:
        return sha256(data)


def _beside(path: Path, data: bytes) -> bytes:
    """The contents of the other files of an ONNX model."""
    if not path.name.lower().endswith((".onnx", ".onnx.gz")) or _ELSEWHERE not in data:
        return b""
    try:
        onnx = library("onnx", "reading ONNX")
        model = onnx.load_model_from_string(data)
    except ConfigError:
        return b""
    except Exception as error:  # protobuf raises many
        raise FormatError(f"{path}: not an ONNX model, or a damaged one.") from error
    return include_other_files(path, model)
