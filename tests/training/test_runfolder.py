"""The run folder: one owner at a time, settings that come back, a log without torn or doubled lines."""

import errno
import json
import math
import os
import signal
import string
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gls_es.errors import CheckpointError, ConfigError, TrainingError
from gls_es.training import lock, runfolder
from gls_es.training.runfolder import MetricsWriter, RunFolder
from gls_es.training.toml import dump_toml

ROOT = Path(__file__).resolve().parents[2]


# The folder ---------------------------------------------------------------------------------------------------------


def test_opening_creates_what_is_missing(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "a" / "run") as folder:
        assert folder.path.is_dir()
        assert folder.checkpoint == folder.path / "checkpoint.pt"
        assert folder.config == folder.path / "config.toml"
        assert folder.metrics == folder.path / "metrics.jsonl"


@pytest.mark.parametrize("name", ["checkpoint.pt", "config.toml", "metrics.jsonl"])
def test_a_new_run_does_not_overwrite_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("kept")
    way_on = f"--resume {tmp_path}`" if name == "checkpoint.pt" else "delete it"
    with pytest.raises(ConfigError, match=f"holds a run already.*{way_on}, or choose another folder"):
        RunFolder.create(tmp_path)
    assert (tmp_path / name).read_text() == "kept"
    (tmp_path / "checkpoint.pt").write_text("kept")
    (tmp_path / "config.toml").write_text('problem = "own.py:Mine"')
    with pytest.raises(ConfigError, match=f"--resume {tmp_path} --problem own.py:Mine`, or choose"):
        RunFolder.create(tmp_path)
    RunFolder(tmp_path).close()  # the refusal has let go of the folder


def test_a_run_that_goes_on_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        RunFolder.open(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    with pytest.raises(CheckpointError, match=r"no config\.toml and no checkpoint\.pt"):
        RunFolder.open(tmp_path)
    (tmp_path / "config.toml").touch()
    (tmp_path / "checkpoint.pt").touch()
    RunFolder.open(tmp_path).close()


def test_paths_that_cannot_be_folders_are_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "run", Path("a\0b")):
        with pytest.raises(CheckpointError, match="cannot be used as a run folder"):
            RunFolder(path)


def test_leftovers_of_killed_writers_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    left = [".checkpoint.pt.123.0a1b2c3d.tmp", ".config.toml.9.ffffffff.tmp"]
    kept = ["checkpoint.pt", "notes.tmp", ".hidden.tmp", ".checkpoint.pt.123.0a1b2c3d.tmp.bak", ".x.1.zzzzzzzz.tmp"]
    for name in left + kept:
        (tmp_path / name).touch()
    RunFolder(tmp_path).close()
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, ".lock"])


# The lock -----------------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from gls_es.training.lock import FolderLock
from pathlib import Path
held = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_process_is_refused_at_once_and_a_dead_one_is_forgotten(tmp_path: Path) -> None:
    child = holder(tmp_path / ".lock")
    try:
        started = time.perf_counter()
        with pytest.raises(TrainingError, match=f"in use by process {child.pid}"):
            RunFolder(tmp_path)
        assert time.perf_counter() - started < 1
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == child.pid  # killed, it could not clean up
    RunFolder(tmp_path).close()


def test_the_same_process_cannot_open_it_twice_either(tmp_path: Path) -> None:
    with RunFolder(tmp_path):
        with pytest.raises(TrainingError, match=f"process {os.getpid()}"):
            RunFolder(tmp_path)
        with pytest.raises(TrainingError):
            RunFolder(tmp_path)  # being refused did not free it
    RunFolder(tmp_path).close()


def test_closing_twice_does_not_free_somebody_elses_lock(tmp_path: Path) -> None:
    first = RunFolder(tmp_path)
    first.close()
    with RunFolder(tmp_path):
        first.close()
        with pytest.raises(TrainingError):
            RunFolder(tmp_path)


@pytest.mark.parametrize(
    ("owner", "free"),
    [
        ("", True),
        ("not json", True),
        ("[1]", True),
        ('{"pid": "x"}', True),
        ('{"pid": 2147483646, "host": "HERE"}', True),
        ('{"pid": 1, "host": "HERE"}', False),
        ('{"pid": 2147483646, "host": "elsewhere"}', False),
    ],
)
def test_where_the_file_system_knows_no_locks_the_owner_decides(
    tmp_path: Path, owner: str, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(lock.socket, "gethostname", lambda: "HERE")
    (tmp_path / ".lock").write_text(owner)
    if free:
        with RunFolder(tmp_path), pytest.raises(TrainingError, match=f"process {os.getpid()} on HERE"):
            RunFolder(tmp_path)
        RunFolder(tmp_path).close()
    else:
        with pytest.raises(TrainingError, match="in use"):
            RunFolder(tmp_path)


# The settings -------------------------------------------------------------------------------------------------------

VALUES = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
TABLES = st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES | st.lists(VALUES, max_size=3), max_size=5)


@given(table=TABLES, nested=TABLES, deeper=TABLES)
def test_toml_gives_back_what_was_written(table: dict, nested: dict, deeper: dict) -> None:
    whole = {**table, "a table": {**nested, "inner": deeper}}
    assert tomllib.loads(dump_toml(whole)) == whole


def test_toml_leaves_out_none_and_knows_numbers_that_are_not_finite() -> None:
    text = dump_toml({"none": None, "nan": math.nan, "inf": -math.inf, "small": 1e-5, "big": 1e22})
    table = tomllib.loads(text)
    assert math.isnan(table.pop("nan"))
    assert table == {"inf": -math.inf, "small": 1e-5, "big": 1e22}
    assert isinstance(table["big"], float)


def test_config_round_trip_and_refusals(tmp_path: Path) -> None:
    table = {"problem": "digits-cnn3", "seed": 3, "recipe": {"popsize": 64, "lr": 0.1, "widths": [8, 16]}}
    with RunFolder(tmp_path) as folder:
        folder.write_config(table)
        assert tomllib.loads(folder.config.read_text()) == table
        for bad in ({"a": Path("x")}, {"a": "\ud800"}, {1: 2}):
            with pytest.raises(CheckpointError, match=r"config\.toml"):
                folder.write_config(bad)
        assert tomllib.loads(folder.config.read_text()) == table


# The log ------------------------------------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_is_on_its_way_once_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        for generation in range(3):
            writer.write({"generation": generation, "loss": 0.5, "nan": math.nan, "note": None, "in": {"a": math.inf}})
            assert len(rows(path)) == generation + 1  # read while the writer is open
    assert rows(path)[2] == {"generation": 2, "loss": 0.5, "nan": None, "note": None, "in": {"a": None}}


def test_a_killed_writer_loses_nothing_that_was_written(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom gls_es.training.runfolder import MetricsWriter\n"
        "writer = MetricsWriter(sys.argv[1])\n"
        "for g in range(50): writer.write({'generation': g})\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    path = tmp_path / "metrics.jsonl"
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert [row["generation"] for row in rows(path)] == list(range(50))


def test_a_fresh_log_forgets_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"generation": 7}\n')
    MetricsWriter(path).close()
    assert path.read_bytes() == b""


def test_resuming_without_a_log_starts_one(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path / "metrics.jsonl", after=5) as writer:
        writer.write({"generation": 6})
    assert rows(tmp_path / "metrics.jsonl") == [{"generation": 6}]


@pytest.mark.parametrize("torn", ["", '{"gener', '{"generation": 4}', '{"generation": 1}', "\0\0\0"])
def test_resuming_drops_the_torn_line_and_later_generations(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = "".join(json.dumps({"generation": g, "text": string.printable}) + "\n" for g in range(6))
    path.write_text(lines + torn)
    with MetricsWriter(path, after=3) as writer:
        writer.write({"generation": 4})
    assert [row["generation"] for row in rows(path)] == [0, 1, 2, 3, 4]


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "missing" / "metrics.jsonl"):
        with pytest.raises(CheckpointError, match="log could not be written"):
            MetricsWriter(path, after=1)
    writer = MetricsWriter(tmp_path / "metrics.jsonl")

    class Full:
        def write(self, _: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer, "_file", (writer.close(), Full())[1])
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl.*No space left"):
        writer.write({"generation": 1})


def test_a_log_that_cannot_be_rewritten_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"generation": 1}\n')

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runfolder, "write_atomically", full)
    with pytest.raises(CheckpointError, match="No space left"):
        MetricsWriter(path, after=1)
    assert rows(path) == [{"generation": 1}]
