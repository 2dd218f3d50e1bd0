"""Activations through ONNX: written, executed by onnxruntime, and read back; older exporters' spellings, too."""

from pathlib import Path

import pytest
import torch
from torch import nn

import gls_es
from gls_es.formats import load_onnx, save_onnx
from gls_es.network import Network
from tests.oracles.activations import ACTIVATIONS, SPELLINGS, Written, conv_net, dense_net

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SAVED = ACTIVATIONS | {n: SPELLINGS[n] for n in ("gelu by erf", "max of two", "prelu by channel", "silu as a product")}
SAVED |= {"one end far off": lambda: Written(lambda x: (100 * x).clamp(min=-70.0) / 100)}


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_network_is_read_as_it_was(name: str, tmp_path: Path) -> None:
    """Saving compares onnxruntime's logits with the module's; reading compares its module with onnxruntime's again."""
    network = Network(dense_net(SAVED[name]), (5,))
    assert save_onnx(network, tmp_path / "net.onnx")
    back = Network(load_onnx(tmp_path / "net.onnx").module, (5,))
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(back.logits(x), network.logits(x), rtol=1e-4, atol=1e-4)
    assert gls_es.certify(back.module(), x[:2].sigmoid(), [0, 1], 0.01, stages=("crown",)) is not None


def test_slopes_by_channel_of_maps(tmp_path: Path) -> None:
    network = Network(conv_net(lambda: nn.PReLU(1)), (1, 7, 7))
    save_onnx(network, tmp_path / "net.onnx")
    read = load_onnx(tmp_path / "net.onnx").module
    x = torch.rand(3, 1, 7, 7)
    torch.testing.assert_close(read(x), network.module()(x), rtol=1e-4, atol=1e-5)


NODES = {
    "LeakyRelu": {"alpha": 0.2},
    "Elu": {"alpha": 1.5},
    "Selu": {"alpha": 1.2, "gamma": 0.9},
    "Celu": {"alpha": 0.7},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "ThresholdedRelu": {"alpha": 0.0},
    "Softplus": {},
    "PRelu": {},
}


@pytest.mark.parametrize("operator", NODES)
def test_operators_with_attributes_are_read(operator: str, tmp_path: Path) -> None:
    """The file's own executor, which reading compares with, decides what they mean."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(torch.randn(4, 3).numpy(), "w")
    slopes = onnx.numpy_helper.from_array(torch.tensor([0.1, -0.3, 2.0]).numpy(), "slopes")
    inputs = ["z", "slopes"] if operator == "PRelu" else ["z"]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node(operator, inputs, ["h"], **NODES[operator]),
        helper.make_node("Gemm", ["h", "w"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(n, kind, [1, 4]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializer=[weight, slopes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    read = load_onnx(tmp_path / "net.onnx")
    assert Network(read.module, (4,)).num_classes == 4
