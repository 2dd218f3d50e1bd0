"""Weights that lie in files beside an ONNX file, as large models and PyTorch's exporter keep them.

A file may be hostile: what it names must be a regular file in its own folder or below, whatever links there are, and
hold what the tensor's shape says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gls_es.errors import FormatError
from gls_es.formats.files import read_file


def include_other_files(path: Path, model: Any) -> bytes:
    """Put tensors that lie in other files into the model.

    Args:
        path: where the model was.
        model: the model; it is changed.

    Returns:
        The contents of the other files, for the digest.

    Raises:
        FormatError: a tensor names no file of the folder, or a part of one that is not there.
    """
    held: dict[Path, bytes] = {}
    for tensor in _tensors(model):
        if tensor.data_location != tensor.EXTERNAL and not len(tensor.external_data):
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = _beside(path, entries.get("location", ""))
        if file not in held:
            held[file] = read_file(file)
        start, length = (_whole(path, entries.get(key)) for key in ("offset", "length"))
        begin = start or 0
        end = len(held[file]) if length is None else begin + length
        if not begin <= end <= len(held[file]):
            raise FormatError(f"{path}: a tensor is said to lie where its file {file.name[:60]!r} has already ended.")
        tensor.raw_data = held[file][begin:end]
        tensor.ClearField("external_data")
        tensor.data_location = tensor.DEFAULT
    return b"".join(held.values())


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def _beside(path: Path, location: str) -> Path:
    """The file that a location names, if it lies in the model's folder."""
    folder = path.parent.resolve()
    try:
        found = (folder / location).resolve()
    except (OSError, ValueError, RuntimeError):
        found = folder
    if not location or Path(location).is_absolute() or found == folder or not found.is_relative_to(folder):
        raise FormatError(
            f"{path}: keeps weights in other files, and {location[:60]!r} is none of its own folder; save it as one "
            "file (torch.onnx.export with external_data=False)."
        )
    return found


def _whole(path: Path, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise FormatError(f"{path}: a tensor in another file has the offset or length {text[:40]!r}.")
    return int(text)
