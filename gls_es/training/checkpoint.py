"""The checkpoint: one file of tensors and plain values that cannot run code and cannot change unnoticed.

``torch.save`` writes it, whole or not at all; a SHA-256 over everything in it is stored in it, because a flipped bit
would otherwise load as other weights without a word. Reading never executes anything from the file: it loads with
``weights_only=True``, without falling back, and only after its pickle was seen to name nothing but tensors.
"""

from __future__ import annotations

import io
import os
import pickletools
import stat
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gls_es.basics.atomic import write_atomically
from gls_es.errors import CheckpointError
from gls_es.training.names import CHECKPOINT
from gls_es.training.plain import Budget, NotPlainError, digest, plain_copy

FORMAT = 1
"""The version of the layout; a file of another one is refused."""

_STORAGES = ["BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short"]
_GLOBALS = frozenset(
    {"torch._utils _rebuild_tensor_v2", "collections OrderedDict", *(f"torch {name}Storage" for name in _STORAGES)}
)
_GLOBAL_OPCODES = frozenset({"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})
_FOREIGN = "it was written by something else"
_OLDEST_TORCH = (2, 10)  # before it, weights_only=True was no protection (CVE-2025-32434, CVE-2026-24747)


def save_checkpoint(path: str | Path, content: Mapping[str, Any]) -> str:
    """Write a checkpoint; a reader, and whoever comes after a crash, finds the old file or the new one.

    Args:
        path: the file, replaced if it is there.
        content: plain data (see :mod:`gls_es.training.plain`); tensors may live on any device. The keys ``format`` and
            ``digest`` are set here.

    Returns:
        The digest, SHA-256 in hexadecimal.

    Raises:
        CheckpointError: the content is not plain data, or the file cannot be written; what was there before is intact.
    """
    path = Path(path)
    try:
        table = plain_copy({**content, "format": FORMAT})
        table.pop("digest", None)
        table["digest"] = digest(table)
        buffer = io.BytesIO()  # a full disk is then an OSError of write(), not whatever torch's writer makes of it
        torch.save(table, buffer)
        data = buffer.getvalue()
        plain_copy(
            table, budget=Budget.of_file(len(data)), share=True
        )  # what load_checkpoint would refuse is not written
    except NotPlainError as error:
        raise CheckpointError(f"{path}: the checkpoint cannot be saved, {error}.") from error
    try:
        write_atomically(path, data)
    except OSError as error:
        raise CheckpointError(
            f"{path}: the checkpoint could not be saved ({error.strerror or error}); "
            "what was there before is unchanged."
        ) from error
    written: str = table["digest"]
    return written


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that :func:`save_checkpoint` wrote, and verify it.

    Args:
        path: the file. It may be hostile: nothing in it is executed.

    Returns:
        What was saved, with ``format`` and ``digest``; tensors on the CPU.

    Raises:
        CheckpointError: the file is missing, unreadable, no checkpoint, of another format, or damaged.
    """
    return verified(Path(path), read_plain(path))


def read_plain(path: str | Path) -> dict[str, Any]:
    """The table in a file of ``torch.save``, whoever wrote it, as long as it is plain data.

    Args:
        path: the file. It may be hostile: nothing in it is executed.

    Raises:
        CheckpointError: the file is missing, unreadable, or holds anything else.
    """
    path = Path(path)
    data = _read(path)
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _OLDEST_TORCH:
        raise CheckpointError(f"{path}: torch {torch.__version__} does not load files safely; install torch >= 2.10.")
    try:
        _inspect(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise NotPlainError(_FOREIGN)
        table: dict[str, Any] = plain_copy(dict(content), budget=Budget.of_file(len(data)), share=True)
    except Exception as error:  # damaged files make torch raise IndexError, KeyError, EOFError, UnpicklingError, ...
        raise _no_checkpoint(path, _reason(error)) from error
    return table


def verified(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    """The table read from ``path``, if it is a checkpoint, of this format, and what was saved.

    Raises:
        CheckpointError: it is not.
    """
    if "format" not in table or "digest" not in table:
        raise _no_checkpoint(path, _FOREIGN)
    version = table["format"]
    if type(version) is not int or version != FORMAT:
        raise CheckpointError(
            f"{path}: a checkpoint of format {version!r}, and this gls-es reads format {FORMAT}; "
            "use the release that wrote it."
        )
    rest = {key: value for key, value in table.items() if key != "digest"}
    if digest(rest) != table["digest"]:
        raise CheckpointError(
            f"{path}: the checkpoint is damaged, its contents do not have the digest it stores; use another copy."
        )
    return table


def _no_checkpoint(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path}: not a gls-es checkpoint, or a damaged one ({why}).")


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode  # before it is opened: a pipe would block, a device never end
        if stat.S_ISDIR(mode):
            raise CheckpointError(f"{path}: a folder, not a checkpoint; name the file, {path / CHECKPOINT} say.")
        if not stat.S_ISREG(mode):
            raise CheckpointError(f"{path}: not a regular file, so not a checkpoint.")
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                empty = os.fstat(file.fileno()).st_size == 0
                raise CheckpointError(
                    f"{path}: not a gls-es checkpoint ({'the file is empty' if empty else 'no zip'})."
                )
            file.seek(0)
            return file.read()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file; name the checkpoint.pt of a run.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise CheckpointError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _inspect(data: bytes) -> None:
    """Refuse what only a hostile or foreign file holds: names of code, compressed or doubled members."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if any(member.compress_type != zipfile.ZIP_STORED for member in members) or len(set(names)) < len(names):
            raise NotPlainError("its members are compressed or doubled")
        pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise NotPlainError("it holds no data.pkl")
        pickled = archive.read(pickles[0])
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in _GLOBAL_OPCODES and argument not in _GLOBALS:
            raise NotPlainError(f"it names {str(argument or opcode.name)[:60]!r}, and a checkpoint holds only data")


def _reason(error: Exception) -> str:
    """The error in plain words: which of torch's and Python's classes it was says nothing to a user."""
    if isinstance(error, NotPlainError):
        return str(error)
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, zipfile.BadZipFile):
        return "the file was cut off or changed"
    return "what is in it cannot be read"
