"""``gls-es verify --instances``: a benchmark's table of networks, properties and limits, row after row.

Every row is a process of its own, so that none can take another's memory or time. What was found is written after each
of them, and a run that was stopped goes on from there.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gls_es.errors import ConfigError

from .session import Session

GRACE = 10.0
"""Seconds after its limit in which a row's process may end by itself; importing libraries is outside of the limit."""
LONGEST = 10_000_000
"""Seconds that a row's limit may have, four months."""
WORDS = ("sat", "unsat", "unknown", "timeout", "error")
"""What a row may come to."""
_SUMMARY = "results.json"


@dataclass(frozen=True)
class Row:
    """An instance.

    Attributes:
        number: from 1, in the order of the table.
        network: the ONNX file.
        query: the VNN-LIB file.
        limit: seconds.
    """

    number: int
    network: str
    query: str
    limit: float

    @property
    def name(self) -> str:
        """Of its result file."""
        parts = (Path(path).name.removesuffix(".gz") for path in (self.network, self.query))
        return "-".join([f"{self.number:04}", *(part.rpartition(".")[0] or part for part in parts)]) + ".txt"


def verify_instances(session: Session, table: Path, out: Path, *, timeout: float | None, seed: int) -> None:
    """Decide every row of a table, and print a summary.

    Args:
        session: how to print.
        table: rows of a network, a property and seconds; paths are relative to its folder, and may lack ".gz".
        out: the folder for a result file of each row, and for "results.json".
        timeout: seconds for each row; None for the table's.
        seed: of random starts.

    Raises:
        ConfigError: the table cannot be read, or the folder holds results of another table or of other files.
    """
    from .output import messages, print_json, show
    from .progress import image_progress

    rows = read_instances(table, timeout)
    found = _earlier(out, rows, seed)
    out.mkdir(parents=True, exist_ok=True)
    with image_progress(messages(session), session, unit="instances") as progress:
        for row in rows:
            if row.number not in found:
                found[row.number] = _answered(row, out / row.name, seed)
                _write(out, rows, found, seed)
            if progress is not None:
                progress(row.number, len(rows), _counts(found.values()))
    _write(out, rows, found, seed)
    if session.json:
        print_json(_summary(rows, found, seed))
        return
    show(*_tables(rows, found))
    messages(session).print(f"results: {out}", soft_wrap=True)


def read_instances(table: Path, timeout: float | None) -> list[Row]:
    """The rows of a table.

    Args:
        table: a file of comma-separated values: network, property, seconds.
        timeout: seconds instead of the third column, which may then be missing.

    Raises:
        ConfigError: it cannot be read, or a row makes no sense; whether files exist is not looked at.
    """
    try:
        lines = list(csv.reader(table.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--instances {table}: cannot be read as a table ({error}).") from error
    rows: list[Row] = []
    for line, cells in enumerate(lines, 1):
        given = [cell.strip() for cell in cells]
        if not any(given):
            continue
        where = f"--instances {table}, line {line}"
        if any("\0" in cell for cell in given):
            raise ConfigError(f"{where}: it holds a NUL character; write the table as text.")
        if len(given) < 2 + (timeout is None):
            raise ConfigError(f"{where}: there must be a network, a property and seconds, or give --timeout.")
        network, query = (str(_present(table.parent / cell)) for cell in given[:2])
        limit = _seconds(given[2], where) if timeout is None else timeout
        rows.append(Row(len(rows) + 1, network, query, limit))
    if not rows:
        raise ConfigError(f"--instances {table}: there is no row in it.")
    return rows


def _seconds(cell: str, where: str) -> float:
    try:
        seconds = float(cell)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        raise ConfigError(f"{where}: {cell!r} is no number of seconds between 0 and {LONGEST:,}.")
    return seconds


def _present(path: Path) -> Path:
    """The file, or the compressed one beside it if there is only that."""
    packed = path.with_name(path.name + ".gz")
    return packed if packed.is_file() and not path.exists() else path


def _digests(row: Row) -> dict[str, str | None]:
    """What a row's files hold."""
    from gls_es.formats import fingerprint

    return {name: fingerprint(path) for path, name in _files(row)}


def _files(row: Row) -> tuple[tuple[str, str], ...]:
    """A row's files, and how the summary calls their digests."""
    return (row.network, "network_sha256"), (row.query, "query_sha256")


def _answered(row: Row, result: Path, seed: int) -> dict[str, Any]:
    """A row of the summary. What its files held is looked at before and after: the process in between read them."""
    from gls_es.formats import write_text

    before = _digests(row)
    found = _decided(row, result, seed)
    if _digests(row) != before:
        wrong = "its network or its property was written to while it was decided; run the same command again"
        found = {"result": "error", "stage": None, "seconds": found["seconds"], "error": wrong}
        write_text(result, "unknown\n")
    return asdict(row) | before | found


def _decided(row: Row, result: Path, seed: int) -> dict[str, Any]:
    """What a process of its own makes of a row."""
    command = [sys.executable, "-m", "gls_es", "certify", row.network, "--vnnlib", row.query]
    command += ["--timeout", str(row.limit), "--result", str(result), "--seed", str(seed), "--json"]
    begun = time.monotonic()
    try:
        done = subprocess.run(  # noqa: S603  # this program itself, with files that its user names
            command, capture_output=True, text=True, timeout=row.limit + GRACE, check=False
        )
    except subprocess.TimeoutExpired:
        said: dict[str, Any] = {"result": "timeout"}
    else:
        said = _said(done)
    word = said["result"] if said.get("result") in WORDS else "error"
    about = {"error": said["error"]} if "error" in said else {}
    return {"result": word, "stage": said.get("stage"), "seconds": time.monotonic() - begun, **about}


def _said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The last object that a process printed, or how it ended if there is none."""
    try:
        said = json.loads(done.stdout.splitlines()[-1])
        if isinstance(said, dict):
            return said
    except (IndexError, ValueError):
        pass
    return {"error": f"its process ended with status {done.returncode}, without an answer; memory may have run out"}


def _earlier(out: Path, rows: Sequence[Row], seed: int) -> dict[int, dict[str, Any]]:
    """The rows that an earlier run has decided, by number; what ended with an error is tried anew."""
    path = out / _SUMMARY
    if not path.exists():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        same = stored["run"] == _run(seed)
        done = {entry["number"]: entry for entry in stored["instances"]}
        known = {row.number: asdict(row) for row in rows}
        same = same and all(done[number].items() >= known.get(number, {"": ""}).items() for number in done)
        found = {number: entry for number, entry in done.items() if entry["result"] != "error"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"--out {out}: {_SUMMARY} is not that of a run; give another folder.") from error
    if not same:
        raise ConfigError(
            f"--out {out}: {_SUMMARY} is of another table, limit, seed or version; give another folder, or remove it."
        )
    _check_files(out, rows, found)
    return found


def _check_files(out: Path, rows: Sequence[Row], found: dict[int, dict[str, Any]]) -> None:
    """Refuse answers about files that have other contents by now, or about which nobody knows what they held."""
    from gls_es.formats import fingerprint

    now: dict[str, str | None] = {}
    for row in rows:
        for path, name in _files(row) if row.number in found else ():
            if path not in now:
                now[path] = fingerprint(path)
            if found[row.number].get(name, "") != now[path]:
                raise ConfigError(
                    f"--out {out}: {path} is not what it was when row {row.number} was decided; give another folder, "
                    f"or remove {_SUMMARY}."
                )


def _run(seed: int) -> dict[str, Any]:
    import gls_es

    return {"version": gls_es.__version__, "seed": seed}


def _write(out: Path, rows: Sequence[Row], found: dict[int, dict[str, Any]], seed: int) -> None:
    from gls_es.formats import write_text

    write_text(out / _SUMMARY, json.dumps(_summary(rows, found, seed), indent=1) + "\n")


def _summary(rows: Sequence[Row], found: dict[int, dict[str, Any]], seed: int) -> dict[str, Any]:
    entries = [found[row.number] for row in rows if row.number in found]
    seconds = sum(entry["seconds"] for entry in entries)
    return {"n": len(rows), **_counts(entries), "seconds": seconds, "run": _run(seed), "instances": entries}


def _counts(entries: Any) -> dict[str, int]:
    counts = Counter(entry["result"] for entry in entries)
    return {word: counts[word] for word in WORDS}


def _tables(rows: Sequence[Row], found: dict[int, dict[str, Any]]) -> list[Any]:
    """A line for each network, one for all of them, and what went wrong."""
    from rich.text import Text

    from .output import plain_table

    table = plain_table()
    table.add_column("network")
    for column in ("instances", *WORDS, "seconds"):
        table.add_column(column, justify="right")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(Path(row.network).name, []).append(found[row.number])
    for name, entries in [*groups.items(), ("all", [found[row.number] for row in rows])]:
        seconds = sum(entry["seconds"] for entry in entries)
        numbers = (str(count) for count in _counts(entries).values())
        table.add_row(Text(name), str(len(entries)), *numbers, f"{seconds:.1f}")
    wrong = [entry for entry in found.values() if "error" in entry]
    notes = [Text(f"{entry['number']}: {entry['error']}") for entry in wrong[:10]]
    more = [Text(f"and {len(wrong) - 10} more")] if len(wrong) > 10 else []
    return [table, *([Text("")] if notes else []), *notes, *more]
