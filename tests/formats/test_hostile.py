"""Damaged and hostile files: the same network, another valid one, or one sentence; never anything else."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gls_es.errors import FormatError, GlsEsError, UnsupportedNetworkError
from gls_es.formats import load_onnx, read_safetensors, robustness_vnnlib, save_onnx, save_safetensors
from gls_es.formats.onnx_graph import read_onnx
from gls_es.formats.vnnlib import parse_vnnlib
from gls_es.network import Network
from tests.formats.hand_made import FLOAT, helper, model, node, numbers, onnx, saved

SMALL = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, overwritten, cut out, doubled, or everything behind one place gone."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(len(changed), 1))
        kind = rng.randrange(5)
        if kind == 0 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and changed:
            changed[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del changed[at : at + rng.randint(1, 16)]
        elif kind == 3:
            changed[at:at] = changed[at : at + rng.randint(1, 16)]
        else:
            del changed[rng.randrange(len(changed) + 1) :]
    return bytes(changed)


def _one_sentence(error: GlsEsError, path: Path) -> None:
    message = str(error)
    assert message
    assert "\n" not in message
    assert len(message) < 1200
    assert path.name in message or isinstance(error, UnsupportedNetworkError)


def test_mutated_onnx_files(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    save_onnx(Network(SMALL, (1, 3, 3)), path)
    data, rng = path.read_bytes(), random.Random(1)
    x = torch.rand(2, 1, 3, 3)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        path.write_bytes(mutated(data, rng))
        try:
            assert load_onnx(path).module(x).dim() == 2
        except GlsEsError as error:
            _one_sentence(error, path)
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
    assert min(outcomes.values()) >= 5  # flips in weights are other networks, most others are refused


def test_mutated_safetensors_files(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_safetensors(Network(SMALL, (1, 3, 3)), path)
    data, rng = path.read_bytes(), random.Random(2)
    refused = 0
    for _ in range(400):
        path.write_bytes(mutated(data, rng))
        try:
            tensors = read_safetensors(path)
        except GlsEsError as error:
            _one_sentence(error, path)
            refused += 1
        else:
            assert all(value.isfinite().all() for value in tensors.values() if value.is_floating_point())
    assert 100 <= refused <= 390


def test_mutated_specifications() -> None:
    data, rng = robustness_vnnlib(torch.rand(6), 1, 0.1, 3).encode(), random.Random(3)
    refused = 0
    for _ in range(600):
        text = mutated(data, rng).decode("utf-8", errors="replace")
        try:
            prop = parse_vnnlib(text)
        except FormatError as error:
            _one_sentence(error, Path())
            refused += 1
        else:
            assert prop.inputs >= 1
            assert prop.outputs >= 1
    assert 100 <= refused < 600


def _linear() -> Any:
    return model([node("MatMul", "x w", "y")], {"w": numbers(1, 4, 3)}, [1, 4])


def _external(made: Any) -> None:
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    for key, value in (("location", "/etc/passwd"), ("offset", "0"), ("length", "48")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _external_constant(made: Any) -> None:
    made.graph.node.insert(0, node("Constant", "", "c", value=made.graph.initializer[0]))
    _external_of(made.graph.node[0].attribute[0].t)


def _external_of(tensor: Any) -> None:
    tensor.data_location = tensor.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"


def _huge(made: Any) -> None:
    made.graph.initializer[0].dims[:] = [2**40, 2**40]


def _negative(made: Any) -> None:
    made.graph.initializer[0].dims[:] = [-4, -3]


def _nan(made: Any) -> None:
    made.graph.initializer[0].raw_data = np.full((4, 3), np.nan, dtype=np.float32).tobytes()


def _half(made: Any) -> None:
    made.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((4, 3), dtype=np.float16), "w"))


def _huge_input(made: Any) -> None:
    made.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", FLOAT, [1, 2**40]))


def _open_size(made: Any) -> None:
    made.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", FLOAT, [1, "n"]))


def _whole_numbers(made: Any) -> None:
    made.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", onnx.TensorProto.INT64, [1, 4]))


def _old(made: Any) -> None:
    made.opset_import[0].version = 5


def _circle(made: Any) -> None:
    made.graph.node[0].input[0] = "y"


def _external_gap(made: Any) -> None:
    _external(made)
    made.graph.initializer[0].external_data[0].value = "file.bin"
    made.graph.initializer[0].external_data[1].value = "9999"


def _external_link(made: Any) -> None:
    _external(made)
    made.graph.initializer[0].external_data[0].value = "link.bin"


def _external_minus(made: Any) -> None:
    _external_gap(made)
    made.graph.initializer[0].external_data[1].value = "-8"


HOSTILE: dict[str, tuple[Callable[[Any], None], str]] = {
    "external data": (_external, "other files"),
    "external data that has ended": (_external_gap, "already ended"),
    "external data behind a link": (_external_link, "other files"),
    "external data at an offset below zero": (_external_minus, "offset or length '-8'"),
    "external data in a constant": (_external_constant, "other files"),
    "huge shape": (_huge, "damaged|holds 12 numbers"),
    "negative shape": (_negative, "damaged|holds 12 numbers"),
    "NaN weights": (_nan, "NaN or infinity"),
    "half precision": (_half, "float16"),
    "huge input": (_huge_input, "batch axis"),
    "an open size": (_open_size, "known sizes"),
    "an input of whole numbers": (_whole_numbers, "float32"),
    "old operators": (_old, "version 5"),
    "a circle": (_circle, "damaged|cannot be bounded"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_onnx_files(case: str, tmp_path: Path) -> None:
    change, said = HOSTILE[case]
    (tmp_path / "file.bin").write_bytes(b"x" * 64)
    (tmp_path / "link.bin").symlink_to("/etc/hostname")
    made = _linear()
    change(made)
    path = saved(made, tmp_path)
    with pytest.raises(FormatError, match=said) as caught:
        load_onnx(path)
    _one_sentence(caught.value, path)


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"<html></html>", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x3a"]
)
def test_files_that_are_no_onnx_model(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_onnx(tmp_path / "net.onnx")
    _one_sentence(caught.value, tmp_path / "net.onnx")


def test_a_pipe_or_a_folder_is_not_opened(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.onnx")
    for name in ("pipe.onnx", ""):
        with pytest.raises(FormatError, match="not a regular file"):
            load_onnx(tmp_path / name)


def test_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gls_es.formats import read_vnnlib

    monkeypatch.setattr("gls_es.formats.vnnlib.physical_memory", lambda: None)

    with (tmp_path / "big.vnnlib").open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(FormatError, match="67,108,865 bytes"):
        read_vnnlib(tmp_path / "big.vnnlib")
