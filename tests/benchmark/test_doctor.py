"""The doctor finds what is there, what is missing, and what is broken."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from gls_es import kernels
from gls_es.benchmark import doctor
from gls_es.benchmark.doctor import Finding, examine


def by_name(data: Path | None = None) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(data)}


def test_this_installation_is_in_order(tmp_path: Path) -> None:
    found = by_name(tmp_path)
    assert [f for f in found.values() if f.health == "broken"] == []
    assert found["torch"].value == torch.__version__
    assert found["MNIST"].health == "note"
    assert str(tmp_path / "MNIST" / "raw") in found["MNIST"].advice


def test_the_path_that_bounds_take_is_named(tmp_path: Path) -> None:
    found = by_name(tmp_path)["compiled kernels"]
    assert (found.health == "ok") == kernels.available()
    with kernels.plain():
        found = by_name(tmp_path)["compiled kernels"]
    assert found.health == "note"
    assert found.value in ("off", "not built")
    assert found.advice


def test_data_are_found(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").mkdir()
    assert by_name(tmp_path)["CIFAR-10"] == Finding("CIFAR-10", str(tmp_path / "cifar-10-batches-bin"))


def test_a_root_that_is_not_there_is_broken(tmp_path: Path) -> None:
    found = by_name(tmp_path / "missing")["data"]
    assert found.health == "broken"
    assert "does not exist" in found.value


def test_wrong_verdicts_are_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import gls_es.certification

    real = gls_es.certification.certify
    monkeypatch.setattr(gls_es.certification, "certify", lambda net, x, y, _eps: real(net, x, y, 0.2))
    found = by_name(tmp_path)["self-test"]
    assert found.health == "broken"
    assert "['certified', 'certified']" in found.value


def test_reduced_precision_is_noted(tmp_path: Path) -> None:
    torch.set_float32_matmul_precision("high")
    try:
        assert by_name(tmp_path)["float32 products"].health == "note"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_missing_library_says_what_it_is_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(doctor.OPTIONAL, "no_such_library", "counting sheep")
    found = by_name(tmp_path)["no_such_library"]
    assert (found.health, found.advice) == ("note", "counting sheep")


def test_a_torchvision_that_does_not_import_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def broken(name: str) -> object:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms\ndoes not exist")
        return real(name)

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    found = by_name(tmp_path)["torchvision"]
    assert found.health == "note"
    assert "RuntimeError: operator torchvision::nms does not exist" in found.value
    assert torch.__version__ in found.advice


def test_a_changed_evotorch_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gls_es.problem.internals.missing", lambda: ["Problem._gone"])
    assert by_name(tmp_path)["EvoTorch's internals"].health == "broken"
