"""ONNX models by hand: what is read equals onnxruntime and hand-made torch; what has no bounds is listed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gls_es.errors import FormatError
from gls_es.formats import load_onnx
from gls_es.formats.runtime import OnnxRuntime, check_same_logits
from gls_es.network.graph import Linear, Scale
from tests.formats.hand_made import helper, model, node, numbers, saved
from tests.oracles.nets import BY_NAME

pytest.importorskip("onnxruntime")

Make = Callable[[], Any]


def _dense() -> Any:
    """MatMul and Add, as ERAN's and ACAS Xu's files have them, after subtracting a mean from a (1, 1, 1, 5) input."""
    nodes = [
        node("Sub", "x mean", "centred"),
        node("Flatten", "centred", "flat"),
        node("MatMul", "flat w1", "a"),
        node("Add", "a b1", "b"),
        node("Relu", "b", "c"),
        node("MatMul", "c w2", "d"),
        node("Add", "b2 d", "y"),
    ]
    constants = {
        "mean": numbers(0, 1, 1, 5),
        "w1": numbers(1, 5, 7),
        "b1": numbers(2, 7),
        "w2": numbers(3, 7, 3),
        "b2": numbers(4, 3),
    }
    return model(nodes, constants, [1, 1, 1, 5])


def _convolutional() -> Any:
    nodes = [
        node("Conv", "x k1 b1", "a", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 0]),
        node("BatchNormalization", "a g b m v", "n", epsilon=0.01),
        node("Relu", "n", "r"),
        node("Conv", "r k2", "c", group=2, dilations=[2, 1], kernel_shape=[2, 2]),
        node("AveragePool", "c", "p", kernel_shape=[2, 2], strides=[1, 2], pads=[1, 1, 1, 1], count_include_pad=1),
        node("GlobalAveragePool", "p", "q"),
        node("Reshape", "q shape", "f"),
        node("Gemm", "f w b2", "y", transB=1, alpha=0.5, beta=2.0),
    ]
    constants = {
        "k1": numbers(0, 4, 2, 3, 2),
        "b1": numbers(1, 4),
        "g": numbers(2, 4),
        "b": numbers(3, 4),
        "m": numbers(4, 4),
        "v": np.abs(numbers(5, 4)) + 0.5,
        "k2": numbers(6, 6, 2, 2, 2),
        "shape": np.array([0, -1]),
        "w": numbers(7, 3, 6),
        "b2": numbers(8, 1, 3),
    }
    return model(nodes, constants, ["N", 2, 7, 6])


def _arithmetic() -> Any:
    """Constants on either side, of every rank; sums and differences of activations; two readers of one product."""
    nodes = [
        node("Div", "x d", "a"),
        node("Sub", "s a", "b"),
        node("Mul", "m b", "c"),
        node("MatMul", "c w", "e"),
        node("Add", "e v", "f"),
        node("Relu", "f", "g"),
        node("Sub", "e g", "h"),
        node("Add", "h g", "i"),
        node("Identity", "i", "j"),
        node("Dropout", "j", "k"),
        node("Sub", "k row", "y"),
    ]
    constants = {
        "d": np.array([2.0, 3.0, 5.0, -7.0], dtype=np.float32),
        "s": np.array(0.5, dtype=np.float32),
        "m": numbers(1, 1, 4),
        "w": numbers(2, 4, 4),
        "v": numbers(3, 4),
        "row": numbers(4, 1, 1),
    }
    return model(nodes, constants, [1, 4])


def _shapes() -> Any:
    """Axes of size 1 come, move and go; constants are folded; constants are listed among the inputs."""
    nodes = [
        node("Transpose", "x", "a", perm=[0, 2, 1, 3]),
        node("Squeeze", "a", "b", axes=[1, -1]),
        node("Unsqueeze", "b", "c", axes=[1]),
        node("Reshape", "c two_by_three", "d"),
        node("Flatten", "d", "e", axis=-2),
        node("Constant", "", "k", value_floats=[float(n) for n in range(18)]),
        node("Transpose", "w", "wt"),
        node("Identity", "wt", "w2"),
        node("MatMul", "e w2", "y"),
    ]
    made = model(nodes, {"w": numbers(1, 3, 6)}, [1, 6, 1, 1], opset=12, listed=True)
    shape = np.array([1, 2, 3], dtype=np.int64)
    made.graph.node.insert(0, node("Constant", "", "two_by_three", value=_tensor(shape)))
    return made


def _tensor(array: np.ndarray) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(array)


@pytest.mark.parametrize("make", [_dense, _convolutional, _arithmetic, _shapes])
@pytest.mark.parametrize("opset", [None, 18])
def test_networks_by_hand_equal_onnxruntime(make: Make, opset: int | None, tmp_path: Path) -> None:
    made = make()
    if opset is not None and make is not _shapes:  # its Squeeze is that of old operators
        made.opset_import[0].version = opset
    loaded = load_onnx(saved(made, tmp_path))
    x = 3 * torch.randn(20, *loaded.network.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        own = loaded.network.module()(x)
    theirs = OnnxRuntime(loaded.data, what="by hand").logits(x)
    assert own.shape == theirs.shape
    assert float((own - theirs).abs().max()) <= 1e-5
    assert own.std() > 0.1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["mlp", "batch_norm_2d", "pool_overlapping", "normalize_gls", "resnet", "conv_groups"])
def test_networks_that_torch_exports(name: str, tmp_path: Path) -> None:
    case = BY_NAME[name]
    module = case.build(seed=2)
    x = torch.rand(1, *case.input_shape, generator=torch.Generator().manual_seed(4))
    try:
        torch.onnx.export(module, (x,), tmp_path / "net.onnx", dynamo=False)
    except Exception as error:  # the exporter that needs no further library may go away
        pytest.skip(f"torch does not export without onnxscript: {error}")
    with torch.no_grad():
        found = load_onnx(tmp_path / "net.onnx").network.module()(x)
        assert float((found - module(x)).abs().max()) <= 1e-5


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [([2, 3], (1, 5)), ([-1, -2], (1, 5)), ([3, 1], (1, 5)), ([-3, 4], (1, 5, 2)), ([4, 2, -2], (1, 5))],
)
def test_added_axes_are_those_of_the_result(
    axes: list[int], shape: tuple[int, ...], installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What numpy.expand_dims makes."""
    monkeypatch.setattr("gls_es.formats.onnx_reading.installed", lambda name: installed)
    made = model([node("Unsqueeze", "x axes", "v"), node("Relu", "v", "y")], {"axes": np.array(axes)}, list(shape))
    loaded = load_onnx(saved(made, tmp_path))
    x = torch.randn(2, *shape[1:], generator=torch.Generator().manual_seed(0))
    wanted = np.maximum(np.expand_dims(x.numpy(), axes), 0)
    assert loaded.module(x).shape == wanted.shape
    assert np.array_equal(loaded.module(x).numpy(), wanted)


@pytest.mark.parametrize("installed", [True, False])
def test_what_the_output_does_not_depend_on_is_left_out(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unused tensors of any type, dead nodes of any operator, a mask that nobody reads, and a switch that is off."""
    monkeypatch.setattr("gls_es.formats.onnx_reading.installed", lambda name: installed)
    dropout = helper.make_node("Dropout", ["x", "half", "off"], ["d", "mask"], name="the_d")
    nodes = [node("Sigmoid", "x", "dead"), dropout, node("MatMul", "d w", "y")]
    nodes.insert(0, helper.make_node("Anything", ["x"], ["gone"], domain="some.where"))
    constants = {"w": numbers(1, 4, 3), "half": np.array(0.5, dtype=np.float32), "off": np.array(False)}
    constants |= {"double": np.full(3, np.nan), "words": np.array(["a"], dtype=object), "i8": np.ones(3, dtype=np.int8)}
    made = model(nodes, constants, [1, 4])
    made.opset_import.append(helper.make_opsetid("some.where", 1))
    loaded = load_onnx(saved(made, tmp_path))
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(loaded.module(x), x @ torch.from_numpy(numbers(1, 4, 3)), atol=1e-6)
    assert loaded.compared == ("onnxruntime" if installed else "onnx.reference")


def test_other_logits_are_noticed_without_onnxruntime(tmp_path: Path) -> None:
    path = saved(_dense(), tmp_path)
    wrong = load_onnx(path).module
    with torch.no_grad():
        next(iter(wrong.parameters()))[0, 0] += 0.01
    with pytest.raises(FormatError, match=r"logits of gls-es and of onnx\.reference lie"):
        check_same_logits(path.read_bytes(), wrong, (1, 1, 5), what="net", reference=True)


def test_weights_beside_the_file(tmp_path: Path) -> None:
    """They are part of the network and of its digest."""
    import onnx

    made = _dense()
    whole = load_onnx(saved(made, tmp_path))
    path = tmp_path / "beside.onnx"
    onnx.save(made, path, save_as_external_data=True, location="beside.data", size_threshold=0)
    loaded = load_onnx(path)
    x = torch.rand(3, 1, 1, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.module(x), whole.module(x))
    data = (tmp_path / "beside.data").read_bytes()
    (tmp_path / "beside.data").write_bytes(data[:-4] + np.float32(7).tobytes())
    other = load_onnx(path)
    assert other.digest != loaded.digest
    assert not torch.equal(other.module(x), loaded.module(x))


def test_dense_equals_numpy(tmp_path: Path) -> None:
    """The same network written down once more, with onnxruntime out of the way."""
    network = load_onnx(saved(_dense(), tmp_path)).network
    x = np.random.default_rng(9).random((8, 5), dtype=np.float32)
    hidden = np.maximum((x - numbers(0, 1, 1, 5).reshape(5)) @ numbers(1, 5, 7) + numbers(2, 7), 0)
    wanted = hidden @ numbers(3, 7, 3) + numbers(4, 3)
    with torch.no_grad():
        found = network.module()(torch.from_numpy(x).reshape(8, 1, 1, 5)).numpy()
    assert np.abs(found - wanted).max() < 1e-5


def test_a_bias_is_part_of_its_matrix_product(tmp_path: Path) -> None:
    """Fewer nodes to bound; where the product has another reader the addition stays."""
    graph = load_onnx(saved(_dense(), tmp_path)).network.graph
    linear = [n for n in graph.nodes if isinstance(n, Linear)]
    assert [n.bias is not None for n in linear] == [True, True]
    graph = load_onnx(saved(_arithmetic(), tmp_path)).network.graph
    assert [n.bias for n in graph.nodes if isinstance(n, Linear)] == [None]
    assert sum(isinstance(n, Scale) for n in graph.nodes) >= 4


def test_no_random_numbers_are_drawn(tmp_path: Path) -> None:
    path = saved(_convolutional(), tmp_path)
    state = torch.random.get_rng_state()
    load_onnx(path)
    assert torch.equal(state, torch.random.get_rng_state())


def test_another_arrangement_has_another_digest(tmp_path: Path) -> None:
    """Records name a network by its structure and weights; operations without weights differ in the wiring only."""
    from gls_es.certification.identity import network_digest

    constants = {"w": numbers(1, 4, 4)}
    first = [node("MatMul", "x w", "a"), node("Relu", "a", "r"), node("Sub", "a r", "y")]
    second = [*first[:2], node("Sub", "r a", "y")]
    digests = {
        network_digest(load_onnx(saved(model(nodes, constants, [1, 4]), tmp_path)).network) for nodes in (first, second)
    }
    assert len(digests) == 2
