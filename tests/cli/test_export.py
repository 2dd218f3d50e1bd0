"""gls-es export and what other tools read: the same logits, and certify's verdicts from the files alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

import gls_es
from gls_es.data import load_digits
from gls_es.training import load_trained

pytest.importorskip("onnxruntime")
pytest.importorskip("safetensors")
Run = Callable[..., Result]
STAGES = ("--stages", "attack,ibp,crown", "--quiet")
EPS = "0.03"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that classifies most digits, from a short run of plain gradients."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    overrides = {"evaluate_images": 4, "batch_size": 64}
    return gls_es.train("digits-cnn3", "grad", out=folder, generations=100, method="ibp", seed=0, overrides=overrides)


@pytest.fixture
def exported(run: Run, checkpoint: Path, tmp_path: Path) -> dict[str, Any]:
    """The network, 12 specifications, the weights and the card, in the folder of the test."""
    records = tmp_path / "records.jsonl"
    chosen = ("--start", "3", "--limit", "12", "--eps", EPS)
    certified = run("certify", checkpoint, *chosen, "--out", records, *STAGES)
    assert certified.exit_code == 0, certified.output
    files = ("--onnx", tmp_path / "net.onnx", "--safetensors", tmp_path / "w.safetensors", "--vnnlib", tmp_path / "v")
    result = run("export", checkpoint, *files, *chosen, "--records", records, "--json")
    assert result.exit_code == 0, result.output
    return {**json.loads(result.stdout), "records": records}


def _verdicts(path: Path) -> list[str]:
    return [json.loads(line)["verdict"] for line in path.read_text().splitlines()[1:]]


def test_the_exported_network_has_the_same_logits(exported: dict[str, Any], checkpoint: Path) -> None:
    import onnxruntime

    assert exported["compared"] is True
    session = onnxruntime.InferenceSession(exported["onnx"], providers=["CPUExecutionProvider"])
    x, _ = load_digits().test.batch(slice(None))
    (theirs,) = session.run(None, {"input": x.numpy()})
    with torch.no_grad():
        own = load_trained(checkpoint).network.module()(x)
    assert float((torch.from_numpy(theirs) - own).abs().max()) <= 1e-5 * max(1.0, float(own.abs().max()))
    assert torch.equal(torch.from_numpy(theirs).argmax(1), own.argmax(1))


def test_the_specifications_give_the_verdicts_of_certify(run: Run, exported: dict[str, Any], tmp_path: Path) -> None:
    """The round trip: checkpoint -> ONNX and VNN-LIB -> verdicts of the files alone."""
    rows = [line.split(",") for line in (tmp_path / "v" / "instances.csv").read_text().splitlines()]
    assert [spec for _, spec, _ in rows] == [f"digits-cnn3_{number}.vnnlib" for number in range(3, 15)]
    wanted = {"certified": "unsat", "falsified": "sat", "misclassified": "sat"}
    verdicts = _verdicts(exported["records"])
    assert {"certified", "falsified"} <= set(verdicts)
    for (network, spec, seconds), verdict in zip(rows, verdicts, strict=True):
        assert (tmp_path / "v" / network).resolve() == (tmp_path / "net.onnx").resolve()
        files = (tmp_path / "v" / network, "--vnnlib", tmp_path / "v" / spec, "--result", tmp_path / "result.txt")
        result = run("certify", *files, "--timeout", seconds, "--json")
        assert result.exit_code == 0, result.output
        summary = json.loads(result.stdout)
        assert summary["result"] == wanted[verdict]
        assert (tmp_path / "result.txt").read_text().splitlines()[0] == summary["result"]
        assert summary["replayed"] == "onnxruntime"


@pytest.mark.parametrize("name", ["net.onnx", "w.safetensors"])
def test_the_exported_files_are_certified_alike(run: Run, exported: Any, tmp_path: Path, name: str) -> None:
    records = tmp_path / "again.jsonl"
    chosen = ("--problem", "digits-cnn3", "--start", "3", "--limit", "12", "--eps", EPS)
    result = run("certify", tmp_path / name, *chosen, "--out", records, *STAGES)
    assert result.exit_code == 0, result.output
    assert _verdicts(records) == _verdicts(exported["records"])


def test_the_library_certifies_an_onnx_file_by_its_path(exported: dict[str, Any]) -> None:
    x, y = load_digits().test.batch(slice(3, 15))
    report = gls_es.certify(exported["onnx"], x, y, float(EPS), stages=("attack", "ibp", "crown"))
    assert [verdict.verdict for verdict in report.verdicts] == _verdicts(exported["records"])
    pair = gls_es.certify(str(exported["onnx"]), (x.numpy(), y), eps=float(EPS), stages=("attack", "ibp", "crown"))
    assert [verdict.verdict for verdict in pair.verdicts] == _verdicts(exported["records"])


def test_the_card_says_what_was_exported(exported: dict[str, Any], tmp_path: Path) -> None:
    import hashlib

    card = (tmp_path / "net.onnx.md").read_text()
    for name in ("net.onnx", "w.safetensors"):
        assert f"| {name} | `{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}` |" in card
    for word in ("digits-cnn3", "1,258", "convolution 3x3, stride 2x2", exported["digest"], "12 of 12 images", "0.03"):
        assert word in card
    assert f"| certified | {_verdicts(exported['records']).count('certified')} |" in card


def test_a_network_of_flat_inputs_gets_flat_images(run: Run, tmp_path: Path) -> None:
    """Files of VNN-COMP read (1, 784); pixels are then in row-major order."""
    from tests.formats.hand_made import model, node, numbers, saved

    weight = numbers(1, 64, 10)
    flat = saved(model([node("MatMul", "x w", "y")], {"w": weight}, [1, 64]), tmp_path, "flat.onnx")
    wrong = saved(model([node("MatMul", "x w", "y")], {"w": numbers(1, 63, 10)}, [1, 63]), tmp_path, "wrong.onnx")
    options = ("--problem", "digits-cnn3", "--limit", "40", "--eps", "0.001", "--stages", "ibp", "--json")
    summary = json.loads(run("certify", flat, *options).stdout)
    x, y = load_digits().test.batch(slice(0, 40))
    natural = (x.flatten(1) @ torch.from_numpy(weight)).argmax(1) == y
    assert summary["natural_accuracy"] == pytest.approx(natural.float().mean().item())
    refused = run("certify", wrong, *options)
    assert refused.exit_code == 1
    assert "reads inputs of shape (63,)" in refused.stderr


def test_a_specification_of_a_checkpoint(run: Run, exported: Any, checkpoint: Path, tmp_path: Path) -> None:
    result = run("certify", checkpoint, "--vnnlib", tmp_path / "v" / "digits-cnn3_3.vnnlib", "--json")
    summary = json.loads(result.stdout)
    assert summary["replayed"] == "torch"
    assert summary["result"] == ("unsat" if _verdicts(exported["records"])[0] == "certified" else "sat")


def test_records_of_another_checkpoint_are_refused(run: Run, exported: Any, tmp_path: Path) -> None:
    path = exported["records"]
    path.write_text(path.read_text().replace(exported["digest"], "0" * 64, 1))
    weights = (tmp_path / "w.safetensors", "--problem", "digits-cnn3")
    result = run("export", *weights, "--onnx", tmp_path / "other.onnx", "--records", path)
    assert result.exit_code == 1
    assert "certify it first" in result.stderr
    assert not (tmp_path / "other.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say what to write"),
        (["--vnnlib", "v"], "give --onnx FILE, too"),
        (["--onnx", "net.onnx", "--eps", "0.1"], "give --vnnlib DIR, too"),
        (["--safetensors", "w", "--records", "x.jsonl"], "give it, too"),
        (["--onnx", "nowhere/net.onnx"], "no folder nowhere"),
        (["--onnx", "net.onnx", "--vnnlib", "v", "--indices", "1", "--limit", "2"], "leave one out"),
    ],
)
def test_wrong_usage(
    run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.jsonl").touch()
    result = run("export", checkpoint, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["net.onnx"], 2, 'gls_es.certify("net.onnx", dataset, eps=0.1); or --vnnlib FILE, a specification'),
        (["w.safetensors"], 2, "--problem NAME"),
        (["net.onnx", "--vnnlib", "net.onnx"], 1, "no text"),
        (["net.onnx", "--vnnlib", "bad.vnnlib"], 1, "within brackets"),
        (["net.onnx", "--vnnlib", "other.vnnlib"], 1, "speaks of 1 inputs and 1 outputs"),
        (["net.onnx", "--vnnlib", "other.vnnlib", "--eps", "0.1"], 2, "--eps does not go with it"),
        (["cut.onnx", "--vnnlib", "other.vnnlib"], 1, "damaged"),
        (["cut.safetensors", "--problem", "digits-cnn3"], 1, "damaged"),
    ],
)
def test_bad_files_are_one_sentence(
    run: Run, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.vnnlib").write_text("(assert")
    box = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 1))(assert (>= X_0 0))(assert (<= Y_0 0))"
    Path("other.vnnlib").write_text(box)
    for kind in ("net.onnx", "w.safetensors"):
        content = Path(kind).read_bytes()
        Path(f"cut.{kind.rpartition('.')[2]}").write_bytes(content[: len(content) // 2])
    result = run("certify", *arguments)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert "Traceback" not in result.output


def test_without_onnxruntime_the_report_says_who_compared(
    run: Run, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gls_es.formats.onnx_reading.installed", lambda name: False)
    spec = tmp_path / "v" / "digits-cnn3_3.vnnlib"
    chosen = ("--problem", "digits-cnn3", "--limit", "2", "--eps", EPS, "--stages", "ibp")
    for arguments in (("--vnnlib", spec), chosen):
        result = run("certify", tmp_path / "net.onnx", *arguments, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["compared"] == "onnx.reference"
        assert "compared with those of onnx.reference" in result.stderr


def test_specifications_of_version_two(run: Run, exported: Any, checkpoint: Path, tmp_path: Path) -> None:
    """The same answers through the standard's command line."""
    chosen = ("--start", "3", "--limit", "3", "--eps", EPS)
    files = ("--onnx", tmp_path / "again.onnx", "--vnnlib", tmp_path / "two", "--vnnlib-version", "2")
    assert run("export", checkpoint, *files, *chosen).exit_code == 0
    wanted = {"certified": "unsat", "falsified": "sat", "misclassified": "sat"}
    for number, verdict in zip(range(3, 6), _verdicts(exported["records"]), strict=False):
        query = tmp_path / "two" / f"digits-cnn3_{number}.vnnlib"
        result = run("verify", query, "--network", f"N={tmp_path / 'again.onnx'}", "--timeout", "60")
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[0] == wanted[verdict]
