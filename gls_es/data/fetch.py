"""Published datasets fetched from where they are published, or from a mirror: resumed, and checked to the last byte.

A file lies under a name of its own, ``part-...``, until its content is the published one; so what the loaders see is
whole, and a fetch that was stopped goes on where it was, if the server takes up in the middle of a file.
"""

from __future__ import annotations

import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gls_es.basics.suggestions import named
from gls_es.data.cifar10 import BINARY
from gls_es.data.files import PublishedFile, find, read, verified
from gls_es.data.idx import FASHION_MNIST, MNIST
from gls_es.errors import ConfigError, DataError

Say = Callable[[str, int, int], None]
"""Told the file's name, bytes that are there, and bytes in all (0: unknown)."""
_CHUNK = 1 << 18
_SECONDS = 60.0  # of silence, after which a server is given up


@dataclass(frozen=True)
class Place:
    """A dataset on a server.

    Attributes:
        base: address of the folder, with its last slash.
        folder: where the files belong, below the root.
        files: what they have to be, unpacked.
        archive: name of the one archive that holds them all; None: each is a file, compressed by gzip.
    """

    base: str
    folder: str
    files: tuple[PublishedFile, ...]
    archive: str | None = None


PLACES = {
    "mnist": Place("https://ossci-datasets.s3.amazonaws.com/mnist/", MNIST.folder, MNIST.files),
    "fashion-mnist": Place(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", FASHION_MNIST.folder, FASHION_MNIST.files
    ),
    "cifar10": Place(
        "https://www.cs.toronto.edu/~kriz/", BINARY.folder, (*BINARY.train, BINARY.test), "cifar-10-binary.tar.gz"
    ),
}
"""What :func:`fetch` knows. MNIST's is the copy that PyTorch keeps, since the authors' server no longer gives it."""


def fetch(name: str, root: str | Path, *, mirror: str | None = None, say: Say | None = None) -> tuple[Path, list[Path]]:
    """Fetch what is not there yet.

    Args:
        name: a key of :data:`PLACES`.
        root: folder of the datasets; it is made if it is not there.
        mirror: address of a folder that holds the same files, http or https; None: where they are published.
        say: told how far it is.

    Returns:
        The folder of the dataset, and the files that were fetched.

    Raises:
        ConfigError: another name, or a mirror of another kind.
        DataError: the server cannot be reached, or what it gives is not the published file.
    """
    return fetch_place(named(PLACES, name, "cannot fetch"), root, mirror=mirror, say=say)


def fetch_place(
    place: Place, root: str | Path, *, mirror: str | None = None, say: Say | None = None
) -> tuple[Path, list[Path]]:
    """:func:`fetch` for a place that is not in the table; arguments and errors are the same."""
    base = place.base if mirror is None else mirror.rstrip("/") + "/"
    if not base.startswith(("http://", "https://")):
        raise ConfigError(f"the mirror {base!r} is no address; it begins with http:// or https://.")
    folder = Path(root) / place.folder
    missing = [file for file in place.files if not _there(file, folder)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if place.archive is None:
            return folder, [_single(base, file, folder, say) for file in missing]
        return folder, _from_archive(base, place.archive, missing, folder, say) if missing else []
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}).") from error


def _there(file: PublishedFile, folder: Path) -> bool:
    path = find(file, [folder])
    if path is not None:
        read(file, path)  # what is there but damaged is not replaced without a word
    return path is not None


def _single(base: str, file: PublishedFile, folder: Path, say: Say | None) -> Path:
    name = f"{file.name}.gz"
    part = folder / f"part-{name}"
    _download(base + name, part, most=file.size + (1 << 20), say=say)
    try:
        read(file, part)
    except DataError:
        part.unlink()  # what it begins with is wrong, so there is nothing to go on with
        raise
    os.replace(part, folder / name)
    return folder / name


def _from_archive(base: str, archive: str, files: list[PublishedFile], folder: Path, say: Say | None) -> list[Path]:
    part = folder / f"part-{archive}"
    _download(base + archive, part, most=1 << 29, say=say)
    found = []
    try:
        with tarfile.open(part) as tar:
            for file in files:
                member = tar.extractfile(f"{folder.name}/{file.name}")
                content = b"" if member is None else member.read(file.size + 1)
                verified(file, content, part)
                (folder / f"part-{file.name}").write_bytes(content)
                os.replace(folder / f"part-{file.name}", folder / file.name)
                found.append(folder / file.name)
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise DataError(f"{base + archive} is not the published archive ({error}); try another mirror.") from error
    finally:
        part.unlink(missing_ok=True)
    return found


def _download(url: str, part: Path, *, most: int, say: Say | None) -> None:
    """Fetch ``url`` into ``part``, going on from what is there.

    Raises:
        DataError: the server cannot be reached, or stops early, or sends more than ``most`` bytes.
    """
    begun = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})  # noqa: S310 - checked
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - http or https
            going_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
            done = begun if going_on else 0
            left = int(answer.headers.get("Content-Length") or 0)
            total = done + left if left else 0
            with part.open("ab" if going_on else "wb") as file:
                while chunk := answer.read(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    if done > most:
                        raise DataError(f"{url}: sends more than the published {most:,} bytes; try another mirror.")
                    if say is not None:
                        say(part.name.removeprefix("part-"), done, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and begun:  # nothing is left to send
            return
        raise DataError(
            f"{url}: the server says {error.code} {error.reason}; give another address: --mirror."
        ) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{url}: cannot be reached ({reason}); the same call goes on from here, --mirror names another address, "
            "and files fetched elsewhere may be put into the folder by hand."
        ) from error
    if total and done < total:
        raise DataError(f"{url}: ended after {done:,} of {total:,} bytes; the same call goes on from there.")
