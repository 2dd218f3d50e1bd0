"""Safetensors: written and read back it is the same network; whatever does not fit is said in one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gls_es
from gls_es.errors import ConfigError, FormatError
from gls_es.formats import load_safetensors, read_safetensors, save_safetensors
from gls_es.network import Network
from tests.oracles.nets import BY_NAME

safetensors = pytest.importorskip("safetensors.torch")
State = dict[str, Tensor]


@pytest.fixture
def digits() -> Network:
    """The network of the problem digits-cnn3 with weights of its own."""
    from gls_es.problems.digits import DigitsCNN3

    network = DigitsCNN3(seed=5).network
    assert isinstance(network, Network)
    return network


def test_back_and_forth(digits: Network, tmp_path: Path) -> None:
    save_safetensors(digits, tmp_path / "w.safetensors", metadata={"made": "here"})
    loaded = load_safetensors(tmp_path / "w.safetensors", problem="digits-cnn3")
    assert torch.equal(loaded.network.parameter_vector(), digits.parameter_vector())
    assert (loaded.problem_name, loaded.eps) == ("digits-cnn3", 0.1)
    images, labels = loaded.dataset().test.batch(slice(0, 4))
    report = gls_es.certify(loaded, images, labels, 0.01, stages=("ibp",))
    assert report.n == 4
    assert report.checkpoint == loaded.digest


def test_safetensors_itself_reads_the_file(digits: Network, tmp_path: Path) -> None:
    save_safetensors(digits, tmp_path / "w.safetensors", metadata={"made": "here"})
    state = safetensors.load_file(tmp_path / "w.safetensors")
    assert {name: value.tolist() for name, value in state.items()} == {
        name: value.tolist() for name, value in digits.module().state_dict().items()
    }
    with safetensors.safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert file.metadata() == {"made": "here"}


def test_buffers_are_kept(tmp_path: Path) -> None:
    network = Network(BY_NAME["batch_norm_2d"].build(seed=3), (1, 6, 6))
    save_safetensors(network, tmp_path / "w.safetensors")
    state = read_safetensors(tmp_path / "w.safetensors")
    assert any(name.endswith("running_var") for name in state)
    assert set(network.buffers()) <= set(state)


def _without_bias(state: State) -> State:
    return {name: value for name, value in state.items() if not name.endswith("bias")}


def _nan(state: State) -> State:
    return {name: torch.full_like(value, float("nan")) for name, value in state.items()}


WRONG: dict[str, tuple[Callable[[State], State], str]] = {
    "missing": (_without_bias, "it lacks"),
    "unexpected": (lambda state: {**state, "other": torch.ones(2)}, "the network has no 'other'"),
    "shape": (lambda state: {name: value[None].clone() for name, value in state.items()}, "and the network's"),
    "dtype": (lambda state: {name: value.half() for name, value in state.items()}, "torch.float16"),
    "nan": (_nan, "NaN"),
}


@pytest.mark.parametrize("case", WRONG)
def test_weights_that_do_not_fit(case: str, digits: Network, tmp_path: Path) -> None:
    change, said = WRONG[case]
    safetensors.save_file(change(digits.module().state_dict()), tmp_path / "w.safetensors")
    with pytest.raises(FormatError) as caught:
        load_safetensors(tmp_path / "w.safetensors", problem="digits-cnn3")
    assert said in str(caught.value)
    assert "w.safetensors" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 8, b"\x02" + b"\x00" * 7 + b"{}", b"<html>", b"\x80"])
def test_files_that_are_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    if content.endswith(b"{}"):
        assert read_safetensors(tmp_path / "w.safetensors") == {}
        return
    with pytest.raises(FormatError, match="not a safetensors file"):
        read_safetensors(tmp_path / "w.safetensors")


def test_no_such_file_and_no_such_problem(digits: Network, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no such file"):
        load_safetensors(tmp_path / "w.safetensors", problem="digits-cnn3")
    with pytest.raises(FormatError, match="not a regular file"):
        load_safetensors(tmp_path, problem="digits-cnn3")
    save_safetensors(Network(nn.Linear(3, 2), (3,)), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="unknown problem"):
        load_safetensors(tmp_path / "w.safetensors", problem="digits-cnn4")
