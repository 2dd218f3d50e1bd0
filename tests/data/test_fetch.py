"""Fetching from a server on this machine: whole, resumed, damaged, missing."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gls_es.data.fetch import PLACES, Place, fetch, fetch_place
from gls_es.data.files import PublishedFile
from gls_es.errors import ConfigError, DataError

CONTENT = {name: bytes(range(256)) * size for name, size in {"images": 400, "labels": 3}.items()}
FILES = tuple(PublishedFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items())


class Server(ThreadingHTTPServer):
    """What it serves, what it was asked for, and how it behaves."""

    served: dict[str, bytes]
    asked: list[tuple[str, str | None]]
    ranges = True
    stops_after: int | None = None


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted, name = self.headers.get("Range"), self.path.rsplit("/", 1)[-1]
        self.server.asked.append((name, wanted))
        whole = self.server.served.get(name)
        if whole is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(whole):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(whole) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.end_headers()
        self.wfile.write(whole[start:][: self.server.stops_after])

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    server = Server(("127.0.0.1", 0), Handler)
    server.asked, server.served = [], {f"{name}.gz": gzip.compress(data, 0) for name, data in CONTENT.items()}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def place(server: Server, archive: str | None = None) -> Place:
    return Place(f"http://127.0.0.1:{server.server_port}/d/", "Some/raw", FILES, archive)


def test_files_are_fetched_once(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    folder, fetched = fetch_place(place(server), tmp_path / "new", say=lambda *x: told.append(x))
    assert [path.name for path in fetched] == ["images.gz", "labels.gz"]
    assert {path.name for path in folder.iterdir()} == {"images.gz", "labels.gz"}
    assert gzip.decompress(fetched[0].read_bytes()) == CONTENT["images"]
    assert told[-1][1] == told[-1][2] == len(server.served["labels.gz"])
    (folder / "images.gz").unlink()
    (folder / "images").write_bytes(CONTENT["images"])  # unpacked is as good
    assert fetch_place(place(server), tmp_path / "new") == (folder, [])
    assert len(server.asked) == 2


@pytest.mark.parametrize("ranges", [True, False])
def test_a_fetch_that_was_stopped_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    """Also from a server that always begins at the beginning."""
    server.stops_after = 1000
    with pytest.raises(DataError, match=r"ended after 1,000 of .* the same call goes on|cannot be reached"):
        fetch_place(place(server), tmp_path)
    assert (tmp_path / "Some/raw/part-images.gz").stat().st_size == 1000
    server.stops_after, server.ranges = None, ranges
    _, fetched = fetch_place(place(server), tmp_path)
    assert ("images.gz", "bytes=1000-") in server.asked
    assert gzip.decompress(fetched[0].read_bytes()) == CONTENT["images"]


def test_a_part_that_is_whole_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "Some/raw").mkdir(parents=True)
    (tmp_path / "Some/raw/part-images.gz").write_bytes(server.served["images.gz"])
    assert len(fetch_place(place(server), tmp_path)[1]) == 2


def test_what_is_not_the_published_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.served["labels.gz"] = gzip.compress(b"\x00" * len(CONTENT["labels"]))
    with pytest.raises(DataError, match="damaged"):
        fetch_place(place(server), tmp_path)
    assert {path.name for path in (tmp_path / "Some/raw").iterdir()} == {"images.gz"}


def test_an_archive_is_taken_apart_file_by_file(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in {"../evil": b"x", **{f"raw/{n}": c for n, c in CONTENT.items()}}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    server.served["all.tar.gz"] = buffer.getvalue()
    folder, fetched = fetch_place(place(server, "all.tar.gz"), tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert len(fetched) == 2
    assert not list(tmp_path.rglob("evil"))
    server.served["all.tar.gz"] = b"no archive"
    with pytest.raises(DataError, match="not the published archive"):
        fetch_place(place(server, "all.tar.gz"), tmp_path / "other")


def test_refusals(server: Server, tmp_path: Path) -> None:
    server.served.clear()
    with pytest.raises(DataError, match=r"404.*--mirror"):
        fetch_place(place(server), tmp_path)
    with pytest.raises(DataError, match="cannot be reached"):
        fetch_place(place(server), tmp_path, mirror="http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="begins with http"):
        fetch_place(place(server), tmp_path, mirror="file:///etc")
    with pytest.raises(ConfigError, match="did you mean 'mnist'"):
        fetch("mnits", tmp_path)
    assert all(file.sha256 for known in PLACES.values() for file in known.files)
