"""The checkpoint: exact, atomic, verified, and deaf to hostile files."""

import io
import os
import pickle
import random
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gls_es.errors import CheckpointError
from gls_es.training.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from gls_es.training.plain import digest

ROOT = Path(__file__).resolve().parents[2]

CONTENT = {
    "problem": "digits-cnn3",
    "problem_args": {"kappa": 0.5, "sizes": [8, 16], "flag": True},
    "generation": 12,
    "eps": 0.1,
    "method": None,
    "center": torch.linspace(-1, 1, 41),
    "stdev": torch.full((41,), 0.02, dtype=torch.float64),
    "buffers": {"bn.num_batches_tracked": torch.tensor(3), "mask": torch.tensor([True, False])},
    "history": [{"generation": 1, "loss": 2.3}, {"generation": 2, "loss": float("nan")}],
}


def same(a: object, b: object) -> bool:
    """Equality of plain data, type by type and bit by bit; written apart from the digest."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and a.requires_grad == b.requires_grad
            and bytes(a.clone().untyped_storage()) == bytes(b.clone().untyped_storage())
        )
    return repr(a) == repr(b)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CONTENT)
    return path


def test_round_trip_is_exact(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.pop("format") == FORMAT
    assert len(loaded.pop("digest")) == 64
    assert same(loaded, CONTENT)
    assert os.listdir(saved.parent) == ["checkpoint.pt"]


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"))
    | st.tuples(
        st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]),
        st.lists(st.integers(0, 3), max_size=3),
    ).map(lambda kind: (torch.arange(27)[: int(np.prod(kind[1]))] % 2).reshape(kind[1]).to(kind[0])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=PLAIN)
def test_any_plain_data_comes_back(tmp_path: Path, value: object) -> None:
    path = tmp_path / "any.pt"
    save_checkpoint(path, {"value": value})
    assert same(load_checkpoint(path)["value"], value)


def test_tensors_are_detached_and_compact(tmp_path: Path) -> None:
    big = torch.arange(100_000.0)
    content = {
        "view": big[:3],
        "strided": torch.arange(6.0).reshape(2, 3).T,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "twice": [big[:3], big[:3]],
        "expanded": torch.ones(1).expand(500),
    }
    save_checkpoint(tmp_path / "c.pt", content)
    assert (tmp_path / "c.pt").stat().st_size < 10_000
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert torch.equal(loaded["strided"], content["strided"])
    assert torch.equal(loaded["expanded"], content["expanded"])
    assert type(loaded["parameter"]) is torch.Tensor
    assert not loaded["parameter"].requires_grad


def test_a_string_shared_by_many_rows_still_loads(tmp_path: Path) -> None:
    word = "x" * 500
    save_checkpoint(tmp_path / "c.pt", {"rows": [{word: word} for _ in range(2000)]})
    assert len(load_checkpoint(tmp_path / "c.pt")["rows"]) == 2000


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (lambda: 0, "function"),
        ((1, 2), "tuple"),
        (np.float64(1.0), "numpy"),
        (Path("x"), "Path"),
        ({1: 2}, "key 1"),
        (torch.ones(2).to_sparse(), "sparse"),
        (torch.ones(2, dtype=torch.complex64), "complex64"),
        (torch.ones(2, device="meta"), "float32"),
    ],
)
def test_what_is_not_plain_is_refused_by_name(saved: Path, value: object, named: str) -> None:
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match=r"optimizer\.inner\[1\]") as caught:
        save_checkpoint(saved, {"optimizer": {"inner": [0, value]}})
    assert named in str(caught.value)
    assert saved.read_bytes() == before


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(CheckpointError, match="nested"):
        save_checkpoint(tmp_path / "c.pt", {"a": endless})


# The digest ---------------------------------------------------------------------------------------------------------

DIFFERENT = [
    {},
    {"a": None},
    {"a": 0},
    {"a": False},
    {"a": 0.0},
    {"a": -0.0},
    {"a": "0"},
    {"a": "None"},
    {"a": []},
    {"a": {}},
    {"a": [0, 1]},
    {"a": [1, 0]},
    {"a": [[0], 1]},
    {"a": [[0, 1]]},
    {"b": 0},
    {"a": {"b": 0}},
    {"a": torch.zeros(2)},
    {"a": torch.zeros(1, 2)},
    {"a": torch.zeros(2, 1)},
    {"a": torch.zeros(1, dtype=torch.float64)},
    {"a": torch.zeros(2, dtype=torch.int32)},
    {"a": torch.zeros(8, dtype=torch.uint8)},
    {"a": torch.zeros(8, dtype=torch.bool)},
    {"a": torch.tensor([0.0, -0.0])},
    {"a": torch.zeros(0)},
    {"a": torch.zeros(0, 3)},
    {"ab": "c"},
    {"a": "bc"},
    {"a": 1, "b": "2;s1;c"},
    {"a": 1, "b": "2", "c": None},
]


def test_digests_of_different_data_differ() -> None:
    digests = [digest(content) for content in DIFFERENT]
    assert len(set(digests)) == len(digests)


def test_digest_does_not_depend_on_key_order_or_strides() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    assert digest({"a": 1, "m": matrix.T}) == digest({"m": matrix.T.contiguous(), "a": 1})


def test_save_returns_the_digest_it_stores(tmp_path: Path) -> None:
    returned = save_checkpoint(tmp_path / "c.pt", CONTENT)
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert loaded["digest"] == returned
    assert save_checkpoint(tmp_path / "d.pt", loaded) == returned  # saving what was loaded changes nothing


# Damage -------------------------------------------------------------------------------------------------------------


def loads_identically_or_refuses(path: Path, data: bytes) -> bool:
    """Whether the file was refused; a load that differs fails the test."""
    path.write_bytes(data)
    try:
        loaded = load_checkpoint(path)
    except CheckpointError as error:
        message = str(error)
    else:
        loaded.pop("format"), loaded.pop("digest")
        assert same(loaded, CONTENT)
        return False
    assert str(path) in message
    assert "\n" not in message
    return True


def test_no_flipped_bit_is_taken_for_other_contents(saved: Path) -> None:
    good = saved.read_bytes()
    rng = random.Random(0)
    refused = 0
    for position in rng.sample(range(len(good)), 500):
        data = bytearray(good)
        data[position] ^= 1 << rng.randrange(8)
        refused += loads_identically_or_refuses(saved, bytes(data))
    assert refused > 100  # the others hit padding and archive fields that mean nothing


def test_every_bit_of_every_tensor_counts(saved: Path) -> None:
    good = saved.read_bytes()
    raw = CONTENT["center"].numpy().tobytes()
    start = good.index(raw)
    rng = random.Random(1)
    for position in rng.sample(range(start, start + len(raw)), 60):
        data = bytearray(good)
        data[position] ^= 1 << rng.randrange(8)
        assert loads_identically_or_refuses(saved, bytes(data))


def test_truncated_and_scrambled_files_are_refused(saved: Path) -> None:
    good = saved.read_bytes()
    rng = random.Random(2)
    for length in [0, 1, 3, 4, 30, *rng.sample(range(len(good)), 60), len(good) - 1]:
        assert loads_identically_or_refuses(saved, good[:length])
    for _ in range(60):
        assert loads_identically_or_refuses(saved, rng.randbytes(rng.randrange(1, 3000)))
        assert loads_identically_or_refuses(saved, b"PK\x03\x04" + rng.randbytes(rng.randrange(1, 3000)))
    for _ in range(150):
        data = bytearray(good)
        first, second, length = rng.randrange(len(good)), rng.randrange(len(good)), rng.randrange(1, 200)
        data[first : first + length] = data[second : second + length]
        loads_identically_or_refuses(saved, bytes(data))


# Hostile files ------------------------------------------------------------------------------------------------------


class Shell:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def archive(path: Path, pickled: bytes, *, compression: int = zipfile.ZIP_STORED, **members: bytes) -> None:
    """A file laid out like torch's, around any pickle."""
    with zipfile.ZipFile(path, "w", compression) as out:
        out.writestr("archive/data.pkl", pickled)
        out.writestr("archive/version", b"3\n")
        for name, data in members.items():
            out.writestr(f"archive/data/{name.lstrip('_')}", data)


@pytest.mark.parametrize("layout", ["bare pickle", "torch.save", "zip", "in a field", "stack global"])
def test_code_in_a_file_is_never_run(tmp_path: Path, layout: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "c.pt"
    shell = Shell(f"touch {marker}")
    if layout == "bare pickle":
        path.write_bytes(pickle.dumps(shell))
    elif layout == "torch.save":
        torch.save(shell, path)
    elif layout == "in a field":
        torch.save({**CONTENT, "format": 1, "digest": "0" * 64, "history": shell}, path)
    else:
        archive(path, pickle.dumps(shell, protocol=4 if layout == "stack global" else 2))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "torch.hub.load", "numpy.load", "torch.storage._load_from_bytes"])
def test_names_of_code_are_refused_before_torch_reads_them(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, attribute = name.rpartition(".")
    archive(tmp_path / "c.pt", b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b".")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was reached"))
    with pytest.raises(CheckpointError, match=f"{module} {attribute}"):
        load_checkpoint(tmp_path / "c.pt")


def test_loading_cannot_be_talked_out_of_weights_only(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = torch.load

    def spy(*args: object, **kwargs: object) -> object:
        seen.append(kwargs["weights_only"])
        return real(*args, **kwargs)

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setattr(torch, "load", spy)
    load_checkpoint(saved)
    assert seen == [True]


def test_a_zip_bomb_is_refused_unread(tmp_path: Path) -> None:
    archive(tmp_path / "c.pt", b"\x80\x02N.", compression=zipfile.ZIP_DEFLATED, _0=bytes(50_000_000))
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match="compressed"):
        load_checkpoint(tmp_path / "c.pt")
    assert time.perf_counter() - started < 1


def test_a_small_file_cannot_stand_for_endless_data(tmp_path: Path) -> None:
    word: object = "x" * 100
    for _ in range(25):
        word = [word] * 10  # pickled by reference: a few bytes a level, 10^25 strings
    buffer = io.BytesIO()
    torch.save({"format": 1, "digest": "0" * 64, "a": word}, buffer)
    (tmp_path / "laughs.pt").write_bytes(buffer.getvalue())
    torch.save({"format": 1, "digest": "0" * 64, "a": torch.ones(1).expand(2**40)}, tmp_path / "wide.pt")
    torch.save({"format": 1, "digest": "0" * 64, "a": [torch.ones(1000)] * 10_000}, tmp_path / "many.pt")
    shared = torch.ones(1000)
    torch.save({"format": 1, "digest": "0" * 64, "a": [shared[:] for _ in range(300)]}, tmp_path / "shared.pt")
    for name in ("laughs.pt", "wide.pt", "many.pt", "shared.pt"):
        with pytest.raises(CheckpointError, match="far more data"):
            load_checkpoint(tmp_path / name)


def test_hidden_tensor_state_is_dropped_or_refused(tmp_path: Path) -> None:
    """requires_grad is one opcode of the pickle and outside the digest, so it must not reach the caller."""
    save_checkpoint(tmp_path / "c.pt", CONTENT)
    table = load_checkpoint(tmp_path / "c.pt")
    table["center"].requires_grad_()
    torch.save(table, tmp_path / "c.pt")
    assert not load_checkpoint(tmp_path / "c.pt")["center"].requires_grad


@pytest.mark.parametrize(("version", "said"), [(2, "format 2"), (True, "format True"), ("1", "format '1'")])
def test_another_format_is_named(tmp_path: Path, version: object, said: str) -> None:
    table = {"a": 1, "format": version}
    torch.save({**table, "digest": digest(table)}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(tmp_path / "c.pt")


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    for content in (torch.ones(3), {"weight": torch.ones(3)}, [1, 2], {"format": 1, "digest": 3, "a": 1}):
        torch.save(content, tmp_path / "c.pt")
        with pytest.raises(CheckpointError, match=r"c\.pt"):
            load_checkpoint(tmp_path / "c.pt")


# The file system ----------------------------------------------------------------------------------------------------


def test_odd_paths_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path, said in [
        (tmp_path / "missing.pt", "no such file"),
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "regular file"),
        (Path("/dev/zero"), "regular file"),
        (tmp_path / "empty", "empty"),
        (loop, "loop"),
        (Path("a\0b"), "null"),
        (tmp_path / "empty" / "c.pt", "cannot be read"),
    ]:
        with pytest.raises(CheckpointError, match=said):
            load_checkpoint(path)


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    before = saved.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(CheckpointError, match="No space left on device") as caught:
            save_checkpoint(saved, {"a": 1})
    assert str(saved) in str(caught.value)
    assert os.listdir(saved.parent) == ["checkpoint.pt"]
    assert saved.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX")
def test_a_full_disk_leaves_the_old_file(saved: Path) -> None:
    """A limit on the size of files stands for the full disk: write() comes back short and fails, as it does there."""
    before = saved.read_bytes()
    code = f"""
        import resource, sys, torch
        from gls_es.errors import CheckpointError
        from gls_es.training.checkpoint import save_checkpoint
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            save_checkpoint({str(saved)!r}, {{"a": torch.ones(100_000)}})
        except CheckpointError as error:
            sys.exit(0 if "File too large" in str(error) else str(error))
        sys.exit("it was saved")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.listdir(saved.parent) == ["checkpoint.pt"]
    assert saved.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_named(saved: Path) -> None:
    saved.parent.chmod(0o555)
    try:
        with pytest.raises(CheckpointError, match="Permission denied"):
            save_checkpoint(saved, {"a": 1})
    finally:
        saved.parent.chmod(0o755)
    assert load_checkpoint(saved)["generation"] == 12


def test_a_folder_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.pt").mkdir()
    with pytest.raises(CheckpointError, match="could not be saved"):
        save_checkpoint(tmp_path / "c.pt", {"a": 1})
    with pytest.raises(CheckpointError, match="could not be saved"):
        save_checkpoint(tmp_path / "nowhere" / "c.pt", {"a": 1})
    assert os.listdir(tmp_path) == ["c.pt"]


def test_an_interrupt_while_saving_leaves_no_temporary_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(saved, {"a": 1})
    assert os.listdir(saved.parent) == ["checkpoint.pt"]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "c.pt", {"a": 1})
    finally:
        os.umask(before)
    assert (tmp_path / "c.pt").stat().st_mode & 0o777 == 0o640


KILLED = """
    import os, random, signal, sys, time, torch
    from pathlib import Path
    from gls_es.training.checkpoint import load_checkpoint, save_checkpoint
    from gls_es.training.runfolder import RunFolder

    run, rng, leftovers, last = Path(sys.argv[1]), random.Random(0), 0, -1
    for attempt in range(12):
        child = os.fork()  # torch is imported once, for all
        if child == 0:
            with RunFolder(run) as folder:
                generation = max(last, 0)
                while True:
                    generation += 1
                    center = torch.full((300_000,), float(generation))
                    save_checkpoint(folder.checkpoint, {"generation": generation, "center": center})
        time.sleep(rng.uniform(0.15, 0.35))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the child ended by itself"
        leftovers += len(list(run.glob(".*.tmp")))
        content = load_checkpoint(run / "checkpoint.pt")
        assert content["generation"] > last, "nothing was saved"
        assert content["center"].unique().tolist() == [float(content["generation"])]
        last = content["generation"]
        with RunFolder(run):  # the killed owner's lock is gone, and so is what it left
            assert not list(run.glob(".*.tmp"))
    print(leftovers)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(KILLED), str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # some of the kills did hit a save, so the test had power
