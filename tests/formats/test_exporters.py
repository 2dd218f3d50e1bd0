"""Files as exporters write them, made here: what is read equals onnxruntime, and bounds hold on samples.

Each exporter is an extra that few people have; where one is not installed its tests are skipped.
"""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gls_es import bounds
from gls_es.formats import load_onnx
from gls_es.formats.runtime import OnnxRuntime

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")  # of other libraries, by dozens


class Moves(nn.Module):
    """Slices, joins, permutations, padding, a transposed convolution, rows, means."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.back = nn.Conv2d(1, 4, 3, padding=1), nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
        self.rows, self.last = nn.Linear(7, 5), nn.Linear(50, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.conv(x)).chunk(2, 1)
        h = torch.cat([self.back(a[:, :, ::2, ::2]), F.pad(b, (1, -2, 0, 0)).flip(2)[:, :, :7, :7]], 1)
        h = F.interpolate(F.relu(self.rows(h)), scale_factor=2).permute(0, 2, 3, 1)
        return self.last((h - h.mean((1, 2), keepdim=True))[:, ::2, ::2].sum(1).flatten(1).repeat(1, 2))


class Plain(nn.Module):
    """Convolutions with an uneven border, a pool, and a view by the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm, self.pool, self.last = nn.BatchNorm2d(3), nn.AvgPool2d(2), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(F.pad((x - 0.4) / 0.3, (0, 1, 1, 0)))).clamp(min=0)
        return self.last(self.pool(torch.relu(self.second(h))).view(x.size(0), -1))


def _torch(module: nn.Module, path: Path, **options: Any) -> tuple[int, ...]:
    torch.onnx.export(module.eval(), (torch.rand(1, 1, 8, 8),), path, **options)
    return (1, 8, 8)


def _dynamo(make: Callable[[], nn.Module]) -> Callable[[Path], tuple[int, ...]]:
    def export(path: Path) -> tuple[int, ...]:
        pytest.importorskip("onnxscript")
        return _torch(make(), path, verbose=False)

    return export


def _legacy(make: Callable[[], nn.Module]) -> Callable[[Path], tuple[int, ...]]:
    return lambda path: _torch(make(), path, dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"])


def _slim(path: Path) -> tuple[int, ...]:
    onnxslim = pytest.importorskip("onnxslim")
    import onnx

    shape = _torch(Plain(), path, dynamo=False)
    onnx.save(onnxslim.slim(str(path)), path)
    return shape


def _simplified(path: Path) -> tuple[int, ...]:
    onnxsim = pytest.importorskip("onnxsim")
    import onnx

    shape = _torch(Moves(), path, dynamo=False)
    onnx.save(onnxsim.simplify(str(path))[0], path)
    return shape


def _jax(path: Path) -> tuple[int, ...]:
    jax2onnx = pytest.importorskip("jax2onnx")
    import jax
    import jax.numpy as jnp

    draw = np.random.default_rng(0)
    kernel, matrix = (draw.standard_normal(s).astype(np.float32) / 3 for s in ((3, 3, 3, 4), (4 * 16, 3)))

    def network(x: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=numbers)
        h = jnp.maximum(h, 0) - jnp.mean(h, axis=(1, 2), keepdims=True)
        return h.reshape(h.shape[0], -1) @ matrix

    jax2onnx.to_onnx(network, [("B", 8, 8, 3)], return_mode="file", output_path=str(path))
    return (8, 8, 3)


def _sklearn(path: Path) -> tuple[int, ...]:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPRegressor

    draw = np.random.default_rng(0)
    x, y = draw.random((40, 6), dtype=np.float32), draw.random((40, 1))
    model = MLPRegressor(hidden_layer_sizes=(8, 5), max_iter=20, random_state=0).fit(x, y.ravel())
    path.write_bytes(skl2onnx.to_onnx(model, x[:1]).SerializeToString())
    return (6,)


def _spox(path: Path) -> tuple[int, ...]:
    spox = pytest.importorskip("spox")
    import onnx
    import spox.opset.ai.onnx.v17 as op

    draw = np.random.default_rng(0)
    x = spox.argument(spox.Tensor(np.float32, ("N", 2, 6)))
    kernel = op.const(draw.standard_normal((4, 2, 3)).astype(np.float32))
    h = op.relu(op.conv(x, kernel, pads=[1, 1]))
    parts = op.split(h, op.const(np.array([1, 3])), outputs_count=2, axis=1)
    h = op.concat([parts[1], parts[0]], axis=1)
    onnx.save(spox.build({"x": x}, {"y": op.flatten(op.mul(h, op.const(np.float32(0.5))))}), path)
    return (2, 6)


def _keras(path: Path) -> tuple[int, ...]:
    """Over the backend that the environment names: onnxscript writes for PyTorch, tf2onnx for TensorFlow."""
    keras = pytest.importorskip("keras")
    pytest.importorskip("tf2onnx" if keras.backend.backend() == "tensorflow" else "onnxscript")
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    h = layers.ZeroPadding2D(1)(inputs)
    h = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(h)
    h = layers.Concatenate()([layers.UpSampling2D(2)(h), layers.Conv2DTranspose(2, 3, strides=2, padding="same")(h)])
    outputs = layers.Dense(3)(layers.Flatten()(layers.AveragePooling2D(2)(h)))
    model = keras.Model(inputs, outputs)
    model(np.zeros((1, 8, 8, 3), dtype=np.float32))
    model.export(str(path), format="onnx", verbose=False)
    return (8, 8, 3)


def _paddle(path: Path) -> tuple[int, ...]:
    pytest.importorskip("paddle2onnx")
    if "tensorflow" in sys.modules:
        pytest.skip("Paddle is tried in a process without TensorFlow")
    import paddle
    from paddle import nn as layers

    class Net(layers.Layer):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.other = (
                layers.Conv2D(3, 4, 3, padding=1),
                layers.BatchNorm2D(4),
                layers.Conv2D(3, 4, 1),
            )
            self.up, self.last = layers.Conv2DTranspose(4, 2, 2, stride=2), layers.Linear(128, 3)

        def forward(self, x: Any) -> Any:
            h = layers.functional.relu6(self.norm(self.conv(x)) + self.other(x))
            h = self.up(layers.functional.avg_pool2d(h, 2))
            return self.last(paddle.flatten(paddle.concat([h[:, 1:], h[:, :1]], 1), 1))

    net = Net()
    net.eval()
    spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")]
    paddle.onnx.export(net, str(path.with_suffix("")), input_spec=spec, opset_version=15)
    return (3, 8, 8)


EXPORTERS: dict[str, Callable[[Path], tuple[int, ...]]] = {
    "torch": _dynamo(Plain),
    "torch, moves": _dynamo(Moves),
    "torch without dynamo": _legacy(Plain),
    "torch without dynamo, moves": _legacy(Moves),
    "onnxslim": _slim,
    "onnxsim": _simplified,
    "jax2onnx": _jax,
    "skl2onnx": _sklearn,
    "spox": _spox,
    "keras": _keras,
    "paddle2onnx": _paddle,
}


@pytest.mark.parametrize("name", EXPORTERS)
def test_exported_networks_are_read_and_bounded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    shape = EXPORTERS[name](path)
    warnings.simplefilter("ignore")
    loaded = load_onnx(path)
    assert loaded.input_shape == shape
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(1))
    theirs = OnnxRuntime(loaded.data, what=name).logits(x)
    with torch.no_grad():
        own = loaded.module(x).flatten(1)
        assert float((own - theirs).abs().max()) <= 1e-5 * max(1.0, float(theirs.abs().max()))
        if own.shape[1] == 1:
            return  # one number is no classifier
        network = loaded.network
        low, high = x - 0.02, x + 0.02
        found = bounds.margins(network, low, high, theirs.argmax(1), method="crown")[0]
        points = [low + (high - low) * torch.rand(x.shape).round() for _ in range(20)]
        for point in points:
            logits = OnnxRuntime(loaded.data, what=name).logits(point)
            for image, label in enumerate(theirs.argmax(1).tolist()):
                others = [k for k in range(logits.shape[1]) if k != label]
                assert (found[image] <= logits[image, label] - logits[image, others] + 1e-4).all()
