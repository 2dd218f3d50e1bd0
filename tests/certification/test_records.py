"""The file of records: written line by line, resumed after any cut, refused for another run."""

import json
from pathlib import Path

import pytest
import torch

from gls_es.certification.records import RecordWriter, read_records
from gls_es.certification.report import Verdict
from gls_es.errors import BusyError, DataError

IDENTITY = {"eps": 0.1, "checkpoint": "ab" * 32, "execution": "float32", "n": 3, "versions": {"torch": "2"}}
VERDICTS = [
    Verdict(0, 3, 1, "misclassified", "clean", -0.5, None, {"clean": 0.25}),
    Verdict(1, 2, 2, "falsified", "attack", -1e-9, torch.tensor([[0.1, 1 / 3]]), {"clean": 0.25, "attack": 0.1}),
    Verdict(2, 4, 4, "unknown", None, None, None, {}, "timeout"),
]


def _write(path: Path, identity: dict[str, object] = IDENTITY, verdicts: list[Verdict] = VERDICTS) -> bytes:
    writer = RecordWriter(path, identity)
    writer.write(verdicts)
    writer.close()
    return path.read_bytes()


def test_round_trip(tmp_path: Path) -> None:
    content = _write(tmp_path / "r.jsonl")
    header, verdicts = read_records(tmp_path / "r.jsonl")
    assert {key: header[key] for key in IDENTITY} == IDENTITY
    assert [v.to_json() for v in verdicts] == [v.to_json() for v in VERDICTS]
    assert torch.equal(verdicts[1].counterexample, VERDICTS[1].counterexample)
    assert content.count(b"\n") == 4
    for line in content.splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_each_record_is_on_disk_before_the_next_is_computed(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "r.jsonl", IDENTITY)
    assert len((tmp_path / "r.jsonl").read_bytes().splitlines()) == 1
    for count, verdict in enumerate(VERDICTS, start=2):
        writer.write([verdict])
        assert len((tmp_path / "r.jsonl").read_bytes().splitlines()) == count
    writer.close()


def test_cut_at_every_byte_resumes_to_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    content = _write(path)
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        writer = RecordWriter(path, IDENTITY)
        whole = content[:length].count(b"\n") - 1
        assert sorted(writer.verdicts) == list(range(max(whole, 0)))
        writer.write([v for v in VERDICTS if v.index not in writer.verdicts])
        writer.close()
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("key", "value"),
    [("eps", 0.2), ("checkpoint", None), ("execution", "float64"), ("versions", {"torch": "3"}), ("extra", 1)],
)
def test_another_run_is_refused_and_the_file_kept(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "r.jsonl"
    content = _write(path)
    with pytest.raises(DataError, match=key):
        RecordWriter(path, {**IDENTITY, key: value})
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "content", [b"hello", b"hello\n", b"[]\n", b"{}\n", b"\n", b'{"kind":1}\n', b"\xff\xfe\n", b"[" * 9999]
)
def test_a_file_of_something_else_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"r\.jsonl"):
        RecordWriter(path, IDENTITY)
    with pytest.raises(DataError, match=r"r\.jsonl"):
        read_records(path)
    assert path.read_bytes() == content


def _damaged(change: dict[str, object]) -> str:
    return json.dumps({**VERDICTS[1].to_json(), **change})


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "1",
        "{}",
        _damaged({"verdict": "sound"}),
        _damaged({"verdict": "certified", "margin": 0.0}),
        _damaged({"verdict": "certified", "margin": None}),
        _damaged({"margin": float("nan")}),
        _damaged({"margin": float("inf")}),
        _damaged({"index": "1"}),
        _damaged({"index": True}),
        _damaged({"index": 0}),
        _damaged({"index": 3}),
        _damaged({"times": 3}),
        _damaged({"counterexample": {"sha256": "0", "shape": [1, 2], "float32": "AAAA"}}),
        _damaged({"counterexample": {**VERDICTS[1].to_json()["counterexample"], "shape": [7]}}),
        _damaged({"counterexample": {**VERDICTS[1].to_json()["counterexample"], "float32": "AAAAAAAAAAA="}}),
    ],
)
def test_a_damaged_whole_line_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "r.jsonl"
    content = _write(path, verdicts=VERDICTS[:1]) + line.encode() + b"\n"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"r\.jsonl"):
        RecordWriter(path, IDENTITY)
    assert path.read_bytes() == content


def test_unwritable_places_and_missing_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "r.jsonl"):
        with pytest.raises(DataError, match=str(path)):
            RecordWriter(path, IDENTITY)
    with pytest.raises(DataError, match=r"missing\.jsonl"):
        read_records(tmp_path / "missing.jsonl")


def test_records_with_a_digest_of_the_older_kind_are_refused_by_their_version(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    content = _write(path, {**IDENTITY, "versions": {"gls_es": "0.0.9"}})
    with pytest.raises(DataError, match=r"gls-es 0\.0\.9.*certify anew"):
        RecordWriter(path, {**IDENTITY, "network_digest": 2})
    assert path.read_bytes() == content


def test_one_process_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    first = RecordWriter(tmp_path / "r.jsonl", IDENTITY)
    with pytest.raises(BusyError, match="another process writes to it"):
        RecordWriter(tmp_path / "r.jsonl", IDENTITY)
    first.close()
    RecordWriter(tmp_path / "r.jsonl", IDENTITY).close()
