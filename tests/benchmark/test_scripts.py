"""The scripts in benchmarks/ run, and their networks are those they claim to be."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import nn

from gls_es import bounds, kernels
from gls_es.network import Network, Normalize
from gls_es.training import train

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


def test_the_scaling_tables(scripts, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["--tiny", "--repeats", "1", "--method", "ibp", "--method", "crown", "--out", str(out)]
    result = CliRunner().invoke(scripts("scaling").main, arguments)
    assert result.exit_code == 0, result.output
    tables = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert [line for line in tables if "ibp" in line] == [
        f"| {name} | ibp | crown |"
        for name in ("members P", "images B", "convolutions", "channels", "share of the time")
    ]
    found = json.loads(out.read_text())
    assert found["factors"]["depth"]["values"] == [2, 3]
    assert found["factors"]["members"]["member_images"] == [2, 8]
    assert all(min(t["seconds"]) > 0 for f in found["factors"].values() for t in f["methods"].values())
    assert all(sum(share.values()) == pytest.approx(1) for share in found["shares"].values())


def test_slopes_are_exponents(scripts) -> None:
    values = (1, 4, 16, 64)
    assert scripts("scaling").slope(values, [3 * v**1.7 for v in values]) == pytest.approx(1.7)


@pytest.mark.skipif(not kernels.available(), reason="counts what kernels run")
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), (2, 0)])
def test_multiplications_of_the_roofline(scripts, stride: int, padding: int) -> None:
    roofline = scripts("roofline")
    torch.manual_seed(0)
    second = nn.Conv2d(2, 3, 3, stride, padding)
    convs = (nn.Conv2d(1, 2, 2), nn.ReLU(), second, nn.ReLU())
    rows = (6 + 2 * padding - 3) // stride + 1
    net = Network(nn.Sequential(*convs, nn.Flatten(), nn.Linear(3 * rows * rows, 2)), (1, 7, 7))
    x = torch.rand(1, 1, 7, 7)
    with roofline.counted() as work, torch.no_grad():
        bounds.margins(net, x - 0.1, x + 0.1, [0], method="crown")
    taps = F.conv2d(torch.ones(1, 1, 6, 6), torch.ones(1, 1, 3, 3), stride=stride, padding=padding)[0, 0]
    expected, reached = 0.0, torch.zeros(1, 1, 6, 6)
    for row in range(rows):
        for column in range(rows):
            one = torch.zeros(1, 1, rows, rows)
            one[0, 0, row, column] = 1
            window = F.conv_transpose2d(one, torch.ones(1, 1, 3, 3), stride=stride)
            window = F.pad(window, (0, 6 + 2 * padding - window.shape[3], 0, 6 + 2 * padding - window.shape[2]))
            window = window[..., padding : padding + 6, padding : padding + 6]
            reached = torch.maximum(reached, window)
            image = F.conv_transpose2d(window, torch.ones(1, 1, 2, 2))
            products = 2 * float(image.sum())  # the second convolution's weights are only read
            expected += 6 * (products + 4 * 2 * float(window.sum()) + float((image > 0).sum()))
    image, hidden = F.conv_transpose2d(reached, torch.ones(1, 1, 2, 2)), 2 * float(reached.sum())
    expected += (2 + 4) * 3 * rows * rows + 6 * float(taps.sum()) + (4 + 4) * hidden + float((image > 0).sum())
    assert work.multiplications == expected


@pytest.mark.skipif(not kernels.available(), reason="counts what kernels run")
def test_the_roofline(scripts) -> None:
    result = CliRunner().invoke(scripts("roofline").main, ["--tiny", "--repeats", "1"])
    assert result.exit_code == 0, result.output
    for case in json.loads(result.stdout)["cases"].values():
        assert min(case["seconds"], case["gflop"], case["gigabytes"], case["least_seconds"]) > 0


def test_the_table_of_certification(scripts, tmp_path: Path) -> None:
    overrides = {"evaluate_images": 4, "batch_size": 32}
    run = tmp_path / "run"
    checkpoint = train("digits-cnn3", "grad", out=run, generations=40, method="ibp", seed=0, overrides=overrides)
    out = tmp_path / "out.json"
    arguments = [f"net={checkpoint}", "--limit", "6", "--eps", "0.03", "--timeout", "0.5", "--batch", "2"]
    result = CliRunner().invoke(scripts("certification").main, [*arguments, "--repeats", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    net = found["networks"]["net"]
    assert (net["n"], net["batch"], found["limit"]) == (6, 2, 6)
    assert sum(net["verdicts"].values()) == 6
    assert net["left_by_bab"] == net["verdicts"]["unknown"] <= net["left_by_alpha"]
    assert set(net["speed"]) == set(scripts("certification").BOUNDS)
    assert all(min(s["float32_per_second"], s["guarded_per_second"]) > 0 for s in net["speed"].values())
    assert str(tmp_path) not in out.read_text()  # it may be published


def test_certification_is_timed_behind_the_normalisation(scripts) -> None:
    layers = [Normalize([0.5], [0.25]), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)]
    net = Network(nn.Sequential(*layers), (1, 4, 4))
    images, labels = torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 2])
    subject = scripts("certification").after_normalisation(net, images, labels, 0.1)
    ours = bounds.margins(subject.net, subject.lower, subject.upper, labels, "crown", subject.params)
    whole = bounds.margins(net, (images - 0.1).clamp(min=0), (images + 0.1).clamp(max=1), labels, "crown")
    assert torch.allclose(ours, whole, atol=1e-5)
    assert not any(isinstance(layer, Normalize) for layer in subject.net.module())
