"""ONNX operators that move, enlarge, shuffle, sum and convolve back: what is read equals onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gls_es
from gls_es import bounds
from gls_es.errors import UnsupportedNetworkError
from gls_es.formats import load_onnx, save_onnx
from gls_es.formats.runtime import OnnxRuntime
from gls_es.network import Network
from gls_es.network.graph import Linear, Select
from tests.formats.hand_made import model, node, numbers, saved

pytest.importorskip("onnxruntime")

_F = np.float32
_C = {"k": numbers(1, 4, 3, 3, 2), "kg": numbers(2, 4, 2, 2, 3), "kb": numbers(3, 3), "k1": numbers(4, 4, 2, 3)}
_C |= {
    "none": np.zeros(0, dtype=_F),
    "up": np.array([1, 1, 2, 3], dtype=_F),
    "part": np.array([1, 1, 1.7, 0.6], dtype=_F),
}
_C |= {"to": np.array([1, 4, 5, 9]), "twice": np.array([1, 2, 1, 3]), "w3": numbers(5, 3, 4), "swap": np.array([3, 0])}
CASES: dict[str, tuple[list[Any], list[int | str], int]] = {
    "back": ([node("ConvTranspose", "x k kb", "y", strides=[2, 1], pads=[1, 0, 0, 1])], [1, 4, 3, 4], 13),
    "back in groups": (
        [node("ConvTranspose", "x kg", "y", group=2, dilations=[1, 2], strides=[1, 3], output_padding=[0, 2])],
        ["N", 4, 3, 2],
        13,
    ),
    "back along a line": ([node("ConvTranspose", "x k1", "y", strides=[2], pads=[1, 1])], [1, 4, 5], 13),
    "upsample": ([node("Upsample", "x up", "y", mode="nearest")], [1, 4, 2, 3], 9),
    "resize": ([node("Resize", "x none up", "y", mode="nearest")], ["N", 4, 2, 3], 13),
    "resize by parts": ([node("Resize", "x none part", "y", mode="nearest")], ["N", 4, 4, 5], 13),
    "resize to a size": (
        [
            node(
                "Resize",
                "x none none to",
                "y",
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        ],
        [1, 4, 3, 4],
        13,
    ),
    "resize from end to end": (
        [
            node(
                "Resize",
                "x none none to",
                "y",
                mode="nearest",
                coordinate_transformation_mode="align_corners",
                nearest_mode="round_prefer_ceil",
            )
        ],
        [1, 4, 3, 4],
        13,
    ),
    "tiles": ([node("Tile", "x twice", "y")], [1, 2, 2, 2], 13),
    "depth to space": ([node("DepthToSpace", "x", "y", blocksize=2)], [1, 8, 2, 3], 13),
    "depth to space by columns": ([node("DepthToSpace", "x", "y", blocksize=2, mode="CRD")], [1, 8, 2, 3], 13),
    "space to depth": ([node("SpaceToDepth", "x", "y", blocksize=2)], [1, 2, 4, 6], 13),
    "pool along a line": ([node("AveragePool", "x", "y", kernel_shape=[3], strides=[2])], [1, 2, 7], 13),
    "maximum along a line": ([node("MaxPool", "x", "y", kernel_shape=[3], strides=[2], pads=[1, 0])], [1, 2, 6], 13),
    "mean of a line": ([node("GlobalAveragePool", "x", "y")], [1, 3, 5], 13),
    "uneven pool": (
        [node("AveragePool", "x", "y", kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1)],
        [1, 2, 3, 4],
        13,
    ),
    "pool whose rounding adds nothing": (
        [node("AveragePool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)],
        [1, 2, 4, 6],
        13,
    ),
    "matrix on the last of three axes": ([node("MatMul", "x w3", "y")], ["N", 2, 5, 3], 13),
    "gathered from the first of three": ([node("Gather", "x swap", "y", axis=-1)], ["N", 2, 5, 4], 13),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    nodes, shape, opset = CASES[name]
    needed = {key: _C[key] for made in nodes for key in made.input if key in _C}
    loaded = load_onnx(saved(model(nodes, needed, shape, opset=opset), tmp_path))
    x = 2 * torch.randn(5, *loaded.input_shape, generator=torch.Generator().manual_seed(1))
    theirs = OnnxRuntime(loaded.data, what=name).logits(x)
    with torch.no_grad():
        own = loaded.module(x).flatten(1)
    assert own.shape == theirs.shape
    assert float((own - theirs).abs().max()) <= 1e-5 * max(1.0, float(theirs.abs().max()))
    assert theirs.std() > 0.05


def _channels_last() -> Any:
    """As exporters of frameworks with channels last write it: a Transpose in front, another one before Flatten."""
    nodes = [
        node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t k b", "c", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Relu", "c", "r"),
        node("Transpose", "r", "u", perm=[0, 2, 3, 1]),
        node("Flatten", "u", "f"),
        node("MatMul", "f w", "y"),
    ]
    constants = {"k": numbers(1, 4, 3, 3, 3), "b": numbers(2, 4), "w": numbers(3, 4 * 32 * 32, 3)}
    return model(nodes, constants, ["N", 64, 64, 3])


def test_large_images_with_channels_last(tmp_path: Path) -> None:
    """12,288 values change places; behind the ReLU the matrix reads them where they lie."""
    network = load_onnx(saved(_channels_last(), tmp_path)).network
    kinds = [type(n) for n in network.graph.nodes]
    assert kinds.count(Select) == 1
    assert [n.columns is not None for n in network.graph.nodes if isinstance(n, Linear)] == [True]
    x = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    module, labels = network.module(), torch.tensor([0, 2])
    with torch.no_grad():
        logits = module(x)
        for method in ("ibp", "crown"):
            found = bounds.margins(network, x - 1e-4, x + 1e-4, labels, method=method)[0]
            margins = torch.stack(
                [logits[i, y] - logits[i, [j for j in range(3) if j != y]] for i, y in enumerate((0, 2))]
            )
            assert (found <= margins + 1e-4).all()
            assert (margins - found).max() < 1.0


def test_selections_are_exported(tmp_path: Path) -> None:
    network = load_onnx(saved(_channels_last(), tmp_path)).network
    assert save_onnx(network, tmp_path / "again.onnx")
    again = load_onnx(tmp_path / "again.onnx").module
    x = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(again(x), network.module()(x), atol=1e-4)


REFUSED = {
    "linear resize": (node("Resize", "x none up", "y", mode="linear"), [1, 4, 2, 3], "nearest"),
    "dilated maximum with automatic padding": (
        node("MaxPool", "x", "y", kernel_shape=[2, 2], dilations=[2, 2], auto_pad="SAME_UPPER"),
        [1, 1, 7, 7],
        "give pads",
    ),
    "resized batch": (node("Tile", "x four", "y"), ["N", 2], "mixes the images"),
    "output_shape": (node("ConvTranspose", "x k", "y", output_shape=[5, 5]), [1, 4, 2, 3], "give pads"),
    "other channels": (node("ConvTranspose", "x k", "y"), [1, 3, 2, 3], "does not fit 3 channels"),
    "block that does not divide": (node("SpaceToDepth", "x", "y", blocksize=2), [1, 1, 3, 2], "does not divide"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str, tmp_path: Path) -> None:
    made, shape, said = REFUSED[name]
    held = _C | {"four": np.array([4, 1])}
    path = saved(model([made], {key: held[key] for key in made.input if key in held}, shape), tmp_path)
    with pytest.raises(UnsupportedNetworkError, match=said):
        load_onnx(path)


def test_the_path_of_a_file_takes_images_as_its_network_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Network(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)), (2, 4, 5))
    save_onnx(net, tmp_path / "net.onnx")
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 2), dtype=np.uint8)  # bytes, channels last
    pixels = torch.tensor(images).permute(0, 3, 1, 2) / 255
    labels = net.module()(pixels).argmax(dim=1)
    for source in (tmp_path / "net.onnx", str(tmp_path / "net.onnx"), load_onnx(tmp_path / "net.onnx")):
        report = gls_es.certify(source, (images, labels.numpy()), eps="1/255", stages=("crown",))
        expected = gls_es.certify(net, pixels, labels, 1 / 255, stages=("crown",))
        assert report.natural_accuracy == 1
        assert [v.verdict for v in report.verdicts] == [v.verdict for v in expected.verdicts]
