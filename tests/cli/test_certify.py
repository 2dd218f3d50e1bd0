"""gls-es certify: a linear network on the digits, certified for real, and what reaches the certification."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from gls_es import certification
from gls_es.data import load_digits

Run = Callable[..., Result]
QUICK = ("--attack-steps", "2", "--attack-restarts", "1")


def test_json_is_one_object_with_the_promised_keys(run: Run, trained: Any, tmp_path: Path) -> None:
    result = run("certify", tmp_path / "checkpoint.pt", "--limit", "20", "--json", *QUICK)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    promised = {
        "n",
        "eps",
        "natural_accuracy",
        "adversarial_accuracy",
        "certified_accuracy",
        "unknown",
        "stages",
        "seconds",
    }
    assert promised <= summary.keys()
    assert (summary["n"], summary["eps"], summary["problem"]) == (20, 0.01, "digits-linear")
    x, y = load_digits().test.batch(slice(0, 20))
    natural = (trained.network.logits(x)[0].argmax(-1) == y).float().mean().item()
    assert summary["natural_accuracy"] == pytest.approx(natural)
    assert natural > 0.5  # so that there is something to certify
    assert 0 < summary["certified_accuracy"] <= summary["adversarial_accuracy"] <= summary["natural_accuracy"]


def test_a_checkpoint_on_the_way_is_said_to_be_one(run: Run, trained: Any, tmp_path: Path) -> None:
    arguments = ("certify", tmp_path / "checkpoint.pt", "--limit", "2", "--json", *QUICK)
    trained.content |= {"generation": 8000, "recipe": {"generations": 8000}}
    ended = run(*arguments)
    assert "trained_until" not in json.loads(ended.stdout)
    trained.content["generation"] = 1658
    stopped = run(*arguments)
    assert "generation 1658 of 8000; training was not at its end" in stopped.stderr
    assert json.loads(stopped.stdout)["trained_until"] == "generation 1658 of 8000"


def test_the_certified_images_are_those_of_the_closed_form(run: Run, trained: Any, tmp_path: Path) -> None:
    """Of a linear network the margins over the unclipped ball are known: w·x - eps |w|₁."""
    eps = 0.05
    result = run("certify", tmp_path / "checkpoint.pt", "--limit", "30", "--eps", eps, "--json", *QUICK)
    x, y = load_digits().test.batch(slice(0, 30), dtype=torch.float64)
    weight = trained.network.module()[1].weight.detach().double()
    margins = []
    for image, label in zip(x.flatten(1), y.tolist(), strict=True):
        others = [j for j in range(10) if j != label]
        w = weight[label] - weight[others]
        low, high = (image - eps).clamp(0, 1), (image + eps).clamp(0, 1)
        margins.append((w.clamp(min=0) @ low + w.clamp(max=0) @ high).min().item())
    robust = sum(margin > 1e-5 for margin in margins)
    assert 0 < robust < 30
    assert not any(abs(margin) < 1e-5 for margin in margins)
    assert round(json.loads(result.stdout)["certified_accuracy"] * 30) == robust


def test_people_see_a_table(run: Run, trained: Any, tmp_path: Path) -> None:
    result = run("certify", tmp_path / "checkpoint.pt", "--limit", "5", "--eps", "8/255", *QUICK)
    assert "digits-linear: 5 images from number 0, eps = 0.0313725" in result.stdout
    for word in ("stage", "attack", "crown", "natural", "certified", "of 5", "%", "seconds"):
        assert word in result.stdout
    assert "\x1b" not in result.output


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, trained: Any) -> list[dict[str, Any]]:
    """The arguments of every call of ``certification.certify``, which still does its work."""
    calls: list[dict[str, Any]] = []
    real = certification.certify

    def spy(network: Any, images: Any, labels: Any, eps: float, **options: Any) -> Any:
        calls.append({"images": images, "labels": labels, "eps": eps, **options})
        return real(network, images, labels, eps, **options)

    monkeypatch.setattr(certification, "certify", spy)
    return calls


def test_options_reach_the_certification(run: Run, taken: Any, trained: Any, tmp_path: Path) -> None:
    out = tmp_path / "records.jsonl"
    options = ("--start", 3, "--limit", 4, "--out", out, "--execution", "float64", "--batch-size", 2)
    result = run(
        "certify", tmp_path / "checkpoint.pt", *options, "--seed", 9, "--device", "cpu", "--data", tmp_path, *QUICK
    )
    assert result.exit_code == 0, result.output
    (call,) = taken
    x, y = load_digits().test.batch(slice(3, 7))
    assert torch.equal(call["images"], x)
    assert torch.equal(call["labels"], y)
    assert (call["eps"], call["execution"], call["batch_size"], call["seed"]) == (0.01, "float64", 2, 9)
    assert (call["attack"].steps, call["attack"].restarts) == (2, 1)
    assert trained.roots == [tmp_path]
    assert len(out.read_text().splitlines()) == 5  # a header and one record per image


def test_the_librarys_defaults_hold_where_nothing_is_given(run: Run, taken: Any, tmp_path: Path) -> None:
    run("certify", tmp_path / "checkpoint.pt", "--limit", "1")
    (call,) = taken
    assert not {"execution", "batch_size", "device"} & call.keys()
    assert call["attack"] == certification.AttackOptions()
    assert call["records"] is None


def test_the_last_images_are_fewer(run: Run, taken: Any, tmp_path: Path) -> None:
    n = len(load_digits().test)
    run("certify", tmp_path / "checkpoint.pt", "--start", n - 2, "--limit", 50, *QUICK)
    assert len(taken[0]["images"]) == 2


def test_progress_comes_in_lines_and_quiet_has_none(
    run: Run, taken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gls_es.cli.progress.INTERVAL", 0.0)
    arguments = ("certify", tmp_path / "checkpoint.pt", "--limit", "4", "--batch-size", "2", *QUICK)
    assert [line.partition(" ")[0] for line in run(*arguments).stderr.splitlines()] == ["2/4", "4/4"]
    assert run(*arguments, "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--eps", "0.1", "--eps", "0.10"], "given twice"),
        (["--plot", "x.png"], "several --eps, or --radius"),
        (["--plot", "x.bmp", "--radius"], "ends in .png"),
        (["--radius", "--eps", "0.1"], "--eps does not go with it"),
        (["--tolerance", "0.1"], "belong to --radius"),
        (["--radius", "--tolerance", "0"], "tolerance"),
        (["--indices", "0:5", "--limit", "3"], "--limit do not go with it"),
        (["--indices", "5:5"], "holds no image"),
        (["--indices", "1,1"], "named twice"),
        (["--indices", "x"], "no number and no range"),
        (["--indices", "360"], "numbered 0 to 359"),
        (["--stages", "attack,ibpp"], "ibpp"),
        (["--stages", "attack,,ibp"], "empty name"),
        (["--budget", "many"], "512M or 2G"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "-1"], "--timeout"),
        (["--result", "x.txt"], "give --vnnlib"),
        (["--start", "360"], "numbered 0 to 359"),
        (["--out", "nowhere/x.jsonl"], "no folder nowhere"),
        (["--execution", "float8"], "float8"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--device", "no-such"], "no-such"),
    ],
)
def test_refusals(run: Run, trained: Any, tmp_path: Path, arguments: list[str], said: str) -> None:
    result = run("certify", tmp_path / "checkpoint.pt", *arguments, *QUICK)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("Error: ") == 1


def test_a_plot_of_one_radius_is_refused_before_anything_is_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gls_es.certification", "gls_es.certification.curves", "torch"):
        monkeypatch.setitem(sys.modules, name, None)  # to import it is an error
    (tmp_path / "any.pt").touch()
    result = run("certify", tmp_path / "any.pt", "--plot", tmp_path / "a.png", "--eps", "0.1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give several --eps, or --radius" in result.stderr


def test_records_of_another_run_are_refused(run: Run, trained: Any, tmp_path: Path) -> None:
    arguments = ("certify", tmp_path / "checkpoint.pt", "--limit", "2", "--out", tmp_path / "r.jsonl", *QUICK)
    first = run(*arguments)
    before = (tmp_path / "r.jsonl").read_bytes()
    again = run(*arguments)
    assert (first.exit_code, again.exit_code) == (0, 0)
    other = run(*arguments, "--eps", "0.3")
    assert other.exit_code == 1
    assert (tmp_path / "r.jsonl").read_bytes() == before


def test_other_images_than_the_test_set(run: Run, trained: Any, tmp_path: Path) -> None:
    result = run(
        "certify", tmp_path / "checkpoint.pt", "--limit", "20", "--eps", 0.001, "--split", "train", "--json", *QUICK
    )
    x, y = load_digits().train.batch(slice(0, 20))
    natural = (trained.network.logits(x)[0].argmax(-1) == y).float().mean().item()
    assert json.loads(result.stdout)["natural_accuracy"] == pytest.approx(natural)
    result = run("certify", tmp_path / "checkpoint.pt", "--split", "validation")
    assert result.exit_code == 2
    assert "'digits' has no validation split; train with --set validation=N to have one" in result.stderr


ONLY = ("--stages", "attack,ibp,crown")


def test_several_radii_give_an_object_each(run: Run, taken: Any, tmp_path: Path) -> None:
    eps = ("--eps", "1/64", "--eps", "0.1")
    out, plot = tmp_path / "v.jsonl", tmp_path / "curve.png"
    arguments = ("certify", tmp_path / "checkpoint.pt", "--limit", "10", *eps, "--out", out, "--plot", plot, *ONLY)
    result = run(*arguments, "--json", *QUICK)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert [radius["eps"] for radius in summary["radii"]] == [1 / 64, 0.1]
    assert summary["radii"][0]["certified_accuracy"] > summary["radii"][1]["certified_accuracy"]
    assert {"n", "natural_accuracy", "stages", "seconds", "problem"} <= summary["radii"][0].keys()
    assert plot.read_bytes().startswith(b"\x89PNG")
    for radius in (1 / 64, 0.1):
        header, verdicts = certification.read_records(tmp_path / f"v.eps-{radius!r}.jsonl")
        assert (header["eps"], len(verdicts)) == (radius, 10)
    table = run(*arguments, *QUICK).stdout
    for word in ("0.015625", "Wilson", "unknown", "10 images"):
        assert word in table


def test_stages_and_indices_reach_the_certification(run: Run, taken: Any, tmp_path: Path) -> None:
    options = ("--stages", "ibp, crown", "--indices", "7,0:2")
    result = run("certify", tmp_path / "checkpoint.pt", *options, "--json", *QUICK)
    assert json.loads(result.stdout)["indices"] == [7, 0, 1]
    (call,) = taken
    assert call["stages"] == ("ibp", "crown")
    x, _ = load_digits().test.batch(slice(None))
    assert torch.equal(call["images"], x[[7, 0, 1]])


def test_limits_of_the_search_reach_the_certification(
    run: Run, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def stop(*_arguments: Any, **options: Any) -> Any:
        calls.append(options)
        raise RuntimeError

    monkeypatch.setattr(certification, "certify", stop)
    run("certify", tmp_path / "checkpoint.pt", "--limit", 1, "--timeout", 2.5, "--budget", "512M")
    run("certify", tmp_path / "checkpoint.pt", "--limit", 1, "--timeout", "1.5m", "--budget", "512M")
    run("certify", tmp_path / "checkpoint.pt", "--limit", 1, "--budget", "1.5GiB")
    assert [(call.get("timeout"), call["budget"]) for call in calls] == [(2.5, 2**29), (90, 2**29), (None, 3 * 2**29)]


def test_radii_are_those_of_the_closed_form(run: Run, trained: Any, tmp_path: Path) -> None:
    """The margin of a linear network on the clipped box falls with the radius; where it meets zero is the radius."""
    out, plot = tmp_path / "r.jsonl", tmp_path / "curve.svg"
    arguments = ("certify", tmp_path / "checkpoint.pt", "--limit", "20", "--radius", "--tolerance", "1/256")
    arguments = (*arguments, "--out", out, "--plot", plot, *ONLY, *QUICK)
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    x, y = load_digits().test.batch(slice(0, 20), dtype=torch.float64)
    weight = trained.network.module()[1].weight.detach().double()
    for image, pixels, label in zip(summary["images"], x.flatten(1), y.tolist(), strict=True):
        w = weight[label] - weight[[j for j in range(10) if j != label]]
        radii = [k / 256 for k in range(129)]
        least = [_least_margin(w, pixels, eps) for eps in radii]
        wanted = max((eps for eps, margin in zip(radii, least, strict=True) if margin > 0), default=None)
        assert image["radius"] == wanted
        assert (image["falsified"] == 0) == (least[0] <= 0)
    assert b"<svg" in plot.read_bytes()
    before = out.read_bytes()
    again = run(*arguments)
    assert out.read_bytes() == before
    for word in ("mean radius", "adversarial", "20 images"):
        assert word in again.stdout


def _least_margin(w: torch.Tensor, pixels: torch.Tensor, eps: float) -> float:
    low, high = (pixels - eps).clamp(0, 1), (pixels + eps).clamp(0, 1)
    return float((w.clamp(min=0) @ low + w.clamp(max=0) @ high).min())
