"""The scripts in benchmarks/ run, and their networks are those they claim to be."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"

if not FOLDER.is_dir():
    pytest.skip("the scripts are part of a checkout", allow_module_level=True)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize(
    ("name", "arguments", "parameters"),
    [("cnn3_small", (), 5170), ("cnn3", (), 89606), ("cnn7", (8, 64), 269474)],
)
def test_the_networks(scripts, name: str, arguments: tuple[int, ...], parameters: int) -> None:
    net = getattr(scripts("networks"), name)(*arguments)
    assert net.network().num_parameters == parameters
    assert torch.equal(net.network(3).parameter_vector(), net.network(3).parameter_vector())


def test_trained_weights_leave_fewer_neurons_unstable(scripts) -> None:
    networks = scripts("networks")

    trained = networks.trained_subject(networks.ladder(2, 4), 2, 16, steps=30)
    initial = networks.random_subject(networks.ladder(2, 4), 2, 16)
    assert networks.unstable_fraction(trained) < 0.8 * networks.unstable_fraction(initial)


def test_one_case(scripts) -> None:
    population = scripts("population")
    found = population.run("cnn3-small", methods=("ibp",), threads=1, repeats=1, device="cpu", tiny=True)
    assert (found["parameters"], found["members"], found["batch"]) == (5170, 2, 2)
    assert list(found["methods"]) == ["ibp"]
    assert found["process_bytes"]["peak"] >= found["process_bytes"]["before"] > 0
    assert "machine" not in found  # it stands above the cases


@pytest.mark.slow
def test_a_case_in_its_own_process(scripts, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["--tiny", "--case", "cnn3-small", "--method", "ibp", "--threads", "1", "--out", str(out)]
    result = CliRunner().invoke(scripts("population").main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert list(found["cases"]) == ["cnn3-small"]
    assert "failed" not in found["cases"]["cnn3-small"]
    assert found["machine"]["cores"] >= 1


def test_the_scaling_tables(scripts) -> None:
    result = CliRunner().invoke(scripts("scaling").main, ["--tiny", "--repeats", "1", "--method", "ibp"])
    assert result.exit_code == 0, result.output
    tables = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert [line for line in tables if "ibp" in line] == [
        f"| {name} | ibp |" for name in ("members P", "images B", "convolutions", "channels")
    ]
    assert sum(line.startswith("| growth | ^") for line in tables) == 4
