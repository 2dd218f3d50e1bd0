"""Bad inputs of every kind, given to the real thing: each is one sentence, a non-zero exit, and no traceback."""

import io
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import Result

import gls_es
from gls_es.training.checkpoint import load_checkpoint, save_checkpoint
from gls_es.training.plain import digest
from gls_es.training.runfolder import RunFolder

Run = Callable[..., Result]

PROBLEMS = """
import torch
from torch import nn
import gls_es
from gls_es.data import Dataset, Split, load_digits

class NotAProblem:
    pass

def function():
    pass

class Unsupported(gls_es.CertifiedTrainingProblem):
    eps = 0.1
    def make_network(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Hardtanh(), nn.Softshrink(), nn.Linear(8, 10))
    def make_data(self):
        return load_digits()

class WrongShape(Unsupported):
    def make_network(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(63, 10))

class NotANetwork(Unsupported):
    def make_network(self):
        return 3

class NaNData(gls_es.CertifiedTrainingProblem):
    eps = 0.1
    def make_network(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    def make_data(self):
        images = torch.full((4, 1, 2, 2), 0.5)
        images[2, 0, 1, 1] = float("nan")
        split = Split(images, torch.tensor([0, 1, 0, 1]), 1.0)
        return Dataset("nan", split, split, 2)

class NotADataset(NaNData):
    def make_data(self):
        return [1, 2]
"""


class Shell:
    """Unpickled, it would leave a file named ran."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch {marker}"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one generation, made once."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    overrides = {"popsize": 2, "batch_size": 4, "evaluate_images": 4}
    gls_es.train("digits-cnn3", out=folder, generations=1, overrides=overrides)
    return folder


@pytest.fixture
def place(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a run, good and bad files, and the module of bad problems."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GLS_ES_DATA", raising=False)
    shutil.copytree(finished, "run")
    good = Path("run/checkpoint.pt").read_bytes()
    content = load_checkpoint("run/checkpoint.pt")
    Path("bad.py").write_text(PROBLEMS)
    Path("syntax.py").write_text("class X(:\n")
    Path("file").touch()
    Path("empty").mkdir()
    Path("empty.pt").touch()
    Path("truncated.pt").write_bytes(good[: len(good) // 2])
    weights = content["center"].numpy().tobytes()
    at = good.index(weights)
    Path("flipped.pt").write_bytes(good[: at + 9] + bytes([good[at + 9] ^ 4]) + good[at + 10 :])
    Path("pickle.pt").write_bytes(pickle.dumps(Shell(tmp_path / "ran")))
    torch.save({**content, "history": Shell(tmp_path / "ran")}, "torch.pt")
    Path("text.pt").write_text("<html>not found</html>")
    torch.save({"weight": torch.ones(3)}, "foreign.pt")
    later = {key: value for key, value in content.items() if key != "digest"} | {"format": 99}
    torch.save(later | {"digest": digest(later)}, "later.pt")
    save_checkpoint("bare.pt", {"center": torch.ones(3)})
    save_checkpoint("short.pt", content | {"center": content["center"][:-1]})
    save_checkpoint("gone.pt", content | {"problem": "no-such-problem"})
    save_checkpoint("nan.pt", content | {"center": torch.full_like(content["center"], float("nan"))})
    Path("broken.toml").write_text("seed = [")
    Path("unknown.toml").write_text("sead = 1\n")
    Path("unknown-field.toml").write_text("[recipe]\npopsiz = 4\n")
    Path("wrong-type.toml").write_text('seed = "many"\n')
    Path("wrong-field-type.toml").write_text('[recipe]\npopsize = "many"\n')
    Path("half").mkdir()
    shutil.copy("run/config.toml", "half")
    shutil.copytree("run", "damaged")
    shutil.copy("flipped.pt", "damaged/checkpoint.pt")
    return tmp_path


@dataclass(frozen=True)
class Bad:
    """A command line, its exit code, and something its message has to say."""

    arguments: str
    code: int
    said: str


TRAIN = "train --problem digits-cnn3 --out new --generations 1"

CASES = [
    # checkpoints
    Bad("certify nowhere.pt", 2, "'nowhere.pt' does not exist"),
    Bad("certify empty", 2, "a folder without checkpoint.pt"),
    Bad("certify empty.pt", 1, "the file is empty"),
    Bad(
        "certify truncated.pt",
        1,
        "or a damaged one (the file was cut off or changed).",
    ),
    Bad("certify flipped.pt", 1, "damaged"),
    Bad("certify pickle.pt", 1, "not a gls-es checkpoint"),
    Bad("certify torch.pt", 1, "system"),
    Bad("certify text.pt", 1, "not a gls-es checkpoint"),
    Bad("certify foreign.pt", 1, "written by something else"),
    Bad("certify later.pt", 1, "format 99"),
    Bad("certify bare.pt", 1, "bare.pt"),
    Bad("certify short.pt", 1, "weights"),
    Bad("certify gone.pt", 1, "no-such-problem"),
    Bad("certify /dev/null", 1, "not a regular file"),
    Bad("certify", 2, "CHECKPOINT"),
    # numbers
    Bad("certify run/checkpoint.pt --eps -0.1", 2, "negative"),
    Bad("certify run/checkpoint.pt --eps 2", 2, "did you mean 2/255?"),
    Bad("certify run/checkpoint.pt --eps nan", 2, "not a number"),
    Bad("certify run/checkpoint.pt --eps 1/0", 2, "divides by zero"),
    Bad("certify run/checkpoint.pt --eps abc", 2, "not a number"),
    Bad("certify run/checkpoint.pt --eps 0.1 --eps 0.1", 2, "given twice"),
    Bad("certify run/checkpoint.pt --limit 0", 2, "--limit"),
    Bad("certify run/checkpoint.pt --limit -3", 2, "--limit"),
    Bad("certify run/checkpoint.pt --start 360", 2, "0 to 359"),
    Bad("certify run/checkpoint.pt --batch-size 0", 2, "--batch-size"),
    Bad("certify run/checkpoint.pt --attack-steps 0", 2, "--attack-steps"),
    Bad("certify run/checkpoint.pt --seed text", 2, "--seed"),
    Bad("certify run/checkpoint.pt --execution bfloat16 --limit 1", 2, "bfloat16"),
    Bad(f"{TRAIN} --eps 8", 2, "did you mean 8/255?"),
    Bad(f"{TRAIN} --seed text", 2, "--seed"),
    Bad(f"{TRAIN} --seed -1", 2, "--seed"),
    Bad(f"{TRAIN} --generations 0", 2, "--generations"),
    Bad(f"{TRAIN} --generations -5", 2, "--generations"),
    # names
    Bad("train --problem digits-cn3 --out new", 2, "did you mean 'digits-cnn3'?"),
    Bad("train --problem xyzzy --out new", 2, "unknown problem 'xyzzy'"),
    Bad("train", 2, "--problem"),
    Bad("trian --problem digits-cnn3", 2, "did you mean 'train'?"),
    Bad(f"{TRAIN} --sed 3", 2, "--seed"),
    Bad(f"{TRAIN} --searcher sgd", 2, "'sgd' is not one of"),
    Bad(f"{TRAIN} --method crwn", 2, "crown"),
    Bad("train --problem no_such_module:Class --out new", 2, "no_such_module"),
    Bad("train --problem nowhere.py:Class --out new", 2, "nowhere.py"),
    Bad("train --problem syntax.py:X --out new", 2, "syntax.py"),
    Bad("train --problem bad.py:NotThere --out new", 2, "NotThere"),
    Bad("train --problem bad.py:NotAProblem --out new", 2, "CertifiedTrainingProblem"),
    Bad("train --problem bad.py:function --out new", 2, "CertifiedTrainingProblem"),
    Bad("train --problem bad.py: --out new", 2, "bad.py"),
    # networks and data
    Bad("train --problem bad.py:Unsupported --out new", 1, "Softshrink"),
    Bad("train --problem bad.py:WrongShape --out new", 1, "63"),
    Bad("train --problem bad.py:NotANetwork --out new", 2, "must return an nn.Module"),
    Bad("train --problem bad.py:NaNData --out new", 1, "image 2 holds NaN"),
    Bad("train --problem bad.py:NotADataset --out new", 2, "must return a gls_es.Dataset"),
    Bad(f"{TRAIN} --data nowhere", 2, "'nowhere' does not exist"),
    Bad(f"{TRAIN} --data file", 2, "'file' is a file"),
    # hyper-parameters
    Bad(f"{TRAIN} --set popsize=3", 2, "even"),
    Bad(f"{TRAIN} --set popsize=0", 2, "popsize"),
    Bad(f"{TRAIN} --set popsize=many", 2, "popsize"),
    Bad(f"{TRAIN} --set popsiz=4", 2, "did you mean 'popsize'?"),
    Bad(f"{TRAIN} --set popsize", 2, "KEY=VALUE"),
    Bad(f"{TRAIN} --set optimizer=adamw", 2, "optimizer"),
    Bad(f"{TRAIN} --set stdev_init=nan", 2, "stdev_init"),
    Bad(f"{TRAIN} --set center_learning_rate=-1", 2, "center_learning_rate"),
    # configuration files
    Bad(f"{TRAIN} --config nowhere.toml", 2, "does not exist"),
    Bad(f"{TRAIN} --config empty", 2, "directory"),
    Bad(f"{TRAIN} --config broken.toml", 2, "broken.toml"),
    Bad(f"{TRAIN} --config unknown.toml", 2, "did you mean 'seed'?"),
    Bad(f"{TRAIN} --config unknown-field.toml", 2, "did you mean 'popsize'?"),
    Bad(f"{TRAIN} --config wrong-type.toml", 2, "'many' is not a valid integer"),
    Bad(f"{TRAIN} --config wrong-field-type.toml", 2, "popsize"),
    # folders
    Bad("train --problem digits-cnn3 --generations 1 --out file", 2, "cannot be used as a run folder"),
    Bad("train --problem digits-cnn3 --generations 1 --out file/run", 2, "cannot be used as a run folder"),
    Bad("train --problem digits-cnn3 --generations 1 --out run", 2, "--resume run"),
    Bad("certify run/checkpoint.pt --limit 1 --out nowhere/r.jsonl", 2, "no folder nowhere"),
    Bad("certify run/checkpoint.pt --limit 1 --out empty", 2, "is a directory"),
    Bad("certify run/checkpoint.pt --limit 1 --out run/config.toml", 1, "config.toml"),
    Bad("train --problem digits-cnn3 --generations 1 --out /proc/run", 2, "cannot be used as a run folder"),
    # weights to begin with
    Bad(f"{TRAIN} --init nowhere.pt", 2, "'nowhere.pt' does not exist"),
    Bad(f"{TRAIN} --init nowhere.pt@sha256:00", 2, "'nowhere.pt' does not exist"),
    Bad(f"{TRAIN} --init empty", 2, "a folder without checkpoint.pt"),
    Bad(f"{TRAIN} --init flipped.pt", 1, "damaged"),
    Bad(f"{TRAIN} --init run/checkpoint.pt@sha256:00", 1, "not the file it was"),
    # other commands
    Bad("report nowhere", 2, "'nowhere' does not exist"),
    Bad("report file", 2, "'file' is a file"),
    Bad("report empty", 1, "not a run folder"),
    Bad("export nowhere.pt --onnx a.onnx", 2, "'nowhere.pt' does not exist"),
    Bad("landscape run/checkpoint.pt --plot /proc/a.png", 2, "--plot /proc/a.png: "),
    Bad("landscape flipped.pt", 1, "damaged"),
    # resuming
    Bad("train --resume nowhere", 2, "'nowhere' does not exist"),
    Bad("train --resume empty", 1, "not the folder of a run"),
    Bad("train --resume file", 2, "'file' is a file"),
    Bad("train --resume half", 1, "no checkpoint.pt"),
    Bad("train --resume damaged", 1, "damaged"),
    Bad("train --resume run --searcher rgs", 2, "--searcher does not go with it"),
    Bad("train --resume run --seed 3", 2, "--seed does not go with it"),
    Bad("train --resume run --generations 0", 2, "--generations"),
    # devices
    Bad(f"{TRAIN} --device no-such-device", 2, "no-such-device"),
    Bad("certify run/checkpoint.pt --limit 1 --device no-such-device", 2, "no-such-device"),
]


def check(result: Result, case: Bad) -> None:
    """One sentence on standard error, the right exit code, nothing that looks like a crash."""
    assert result.exit_code == case.code, result.output
    assert [line for line in result.stderr.splitlines() if line.startswith("Error: ")] != []
    assert result.stderr.count("Error: ") == 1, result.stderr
    assert "Traceback" not in result.output
    assert "internal error" not in result.output
    assert not re.search(r"\([A-Z][A-Za-z]+Error\)|BadZipFile", result.output)  # a class of Python's is no reason
    message = result.stderr[result.stderr.index("Error: ") :]
    assert case.said in " ".join(message.split()), message
    assert len(message) < 1000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.arguments)
def test_a_bad_input_is_one_sentence(run: Run, place: Path, case: Bad) -> None:
    result = run(*case.arguments.split())
    check(result, case)
    assert result.stdout == ""
    assert not (place / "ran").exists()  # no code came out of a file
    assert not Path("new").exists()  # so that the mended command may be given at once


@pytest.mark.parametrize("case", CASES[::6], ids=lambda case: case.arguments)
def test_the_same_as_json(run: Run, place: Path, case: Bad) -> None:
    result = run(*case.arguments.split(), "--json")
    check(result, case)
    assert result.stdout.count("\n") == 1
    assert list(json.loads(result.stdout)) == ["error"]


def test_the_run_that_the_cases_damage_is_a_good_one(run: Run, place: Path) -> None:
    """Otherwise the cases above could fail for another reason than their own."""
    quick = ("--limit", "2", "--attack-steps", "1", "--attack-restarts", "1", "--json")
    for named in ("run/checkpoint.pt", "run"):  # the folder stands for the checkpoint in it
        result = run("certify", named, *quick)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["n"] == 2
        assert json.loads(result.stdout)["path"] == "run/checkpoint.pt"
    result = run("train", "--resume", "run", "--json")
    assert result.exit_code == 0, result.output


def test_weights_that_are_not_numbers_are_never_certified(run: Run, place: Path) -> None:
    result = run("certify", "nan.pt", "--limit", "2", "--attack-steps", "1", "--attack-restarts", "1", "--json")
    assert "Traceback" not in result.output
    assert result.exit_code == 1 or json.loads(result.stdout)["certified_accuracy"] == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("command", [TRAIN, "certify run/checkpoint.pt --limit 1"])
def test_cuda_where_there_is_none(run: Run, place: Path, command: str) -> None:
    check(run(*command.split(), "--device", "cuda"), Bad(command, 2, "cuda"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder(run: Run, place: Path) -> None:
    Path("empty").chmod(0o555)
    try:
        command = "train --problem digits-cnn3 --generations 1 --out empty/run"
        check(run(*command.split()), Bad(command, 2, "Permission denied"))
    finally:
        Path("empty").chmod(0o755)


def test_a_run_that_is_in_use(run: Run, place: Path) -> None:
    with RunFolder("run"):
        check(run("train", "--resume", "run"), Bad("", 1, f"in use by process {os.getpid()}"))


def test_a_pipe_is_not_read(run: Run, place: Path) -> None:
    os.mkfifo("pipe.pt")
    check(run("certify", "pipe.pt"), Bad("", 1, "not a regular file"))


def test_a_zip_of_something_else(run: Run, place: Path) -> None:
    buffer = io.BytesIO()
    torch.save([1, 2, 3], buffer)
    Path("list.pt").write_bytes(buffer.getvalue())
    check(run("certify", "list.pt"), Bad("", 1, "written by something else"))
