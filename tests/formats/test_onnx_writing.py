"""Every network of the zoo written as ONNX: onnxruntime computes the module's logits, and it can be read back."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gls_es
from gls_es.errors import FormatError, UnsupportedNetworkError
from gls_es.formats import ModelCard, load_onnx, save_onnx
from gls_es.formats.onnx_writing import onnx_bytes
from gls_es.formats.runtime import OnnxRuntime, check_same_logits
from gls_es.network import Network
from tests.oracles.nets import CNN3_SMALL, ZOO, Case

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def _images(network: Network, n: int = 6) -> Tensor:
    return torch.rand(n, *network.input_shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("case", [*ZOO, CNN3_SMALL], ids=lambda case: case.name)
def test_onnxruntime_computes_the_modules_logits(case: Case, tmp_path: Path) -> None:
    module = case.build()
    network = Network(module, case.input_shape)
    assert save_onnx(network, tmp_path / "net.onnx")
    x = _images(network)
    with torch.no_grad():
        own = module(x)
    theirs = OnnxRuntime((tmp_path / "net.onnx").read_bytes(), what="net").logits(x)
    assert float((own - theirs).abs().max()) <= 1e-5 * max(1.0, float(own.abs().max()))
    assert torch.equal(own.argmax(1), theirs.argmax(1))
    back = load_onnx(tmp_path / "net.onnx").network
    with torch.no_grad():
        again = back.module()(x)
    assert float((own - again).abs().max()) <= 1e-5 * max(1.0, float(own.abs().max()))
    lower, upper = (x - case.eps).clamp(0, 1), (x + case.eps).clamp(0, 1)
    labels = own.argmax(1)
    bounds = [gls_es.bounds.margins(net, lower, upper, labels, method="crown")[0] for net in (network, back)]
    assert torch.allclose(*bounds, rtol=1e-4, atol=1e-4)
    card = ModelCard(network, "problem", "data", 0.1, "0" * 64, [tmp_path / "net.onnx"]).text()
    written = re.findall(r"^\d+\. .+ → (.+)$", card, re.MULTILINE)
    assert written == [" x ".join(map(str, node.shape)) for node in network.graph.nodes[1:]]


def test_a_batch_of_any_size_goes_in_at_once(tmp_path: Path) -> None:
    import onnxruntime

    network = Network(CNN3_SMALL.build(), CNN3_SMALL.input_shape)
    save_onnx(network, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    x = _images(network, 5)
    (found,) = session.run(["logits"], {"input": x.numpy()})
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(found), network.module()(x), atol=1e-5)


def test_the_file_is_a_valid_model_that_says_where_it_comes_from(tmp_path: Path) -> None:
    network = Network(CNN3_SMALL.build(), CNN3_SMALL.input_shape)
    save_onnx(network, tmp_path / "net.onnx", metadata={"digest": "abc"})
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.producer_name == "gls-es"
    assert {entry.key: entry.value for entry in model.metadata_props} == {"digest": "abc"}
    assert {node.op_type for node in model.graph.node} == {"Conv", "Relu", "Flatten", "Gemm", "Identity"}


def test_the_same_network_gives_the_same_bytes() -> None:
    network = Network(CNN3_SMALL.build(), CNN3_SMALL.input_shape)
    assert onnx_bytes(network) == onnx_bytes(network)


def test_a_double_network_is_rounded(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    save_onnx(Network(module, (3,)), tmp_path / "net.onnx")
    weight = load_onnx(tmp_path / "net.onnx").network.parameter_vector()
    assert weight.dtype == torch.float32
    assert torch.equal(weight, nn.utils.parameters_to_vector(module.parameters()).detach().float())


def test_logits_that_differ_are_refused_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (Network(nn.Linear(3, 2), (3,)) for _ in range(2))
    with pytest.raises(FormatError, match="apart"):
        check_same_logits(onnx_bytes(one), other.module(), (3,), what="net.onnx")
    monkeypatch.setattr("gls_es.formats.onnx_writing.onnx_bytes", lambda *_args, **_named: onnx_bytes(other))
    with pytest.raises(FormatError, match="apart"):
        save_onnx(one, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threshold", [-1.0, 0.5, 2.0, 12.0, 20.0, 30.0])
def test_a_softplus_is_written_where_its_threshold_is_not_seen(threshold: float, tmp_path: Path) -> None:
    """Held against the module just behind the threshold, which no random image comes near."""
    module = nn.Sequential(nn.Linear(2, 2), nn.Softplus(2.0, threshold), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        module[0].weight.copy_(30 * torch.eye(2))
        module[0].bias.fill_(threshold / 2 - 29.4)
        module[2].weight.copy_(torch.eye(2))
    network, path = Network(module, (2,)), tmp_path / "net.onnx"
    if threshold < 15:
        with pytest.raises(UnsupportedNetworkError, match="threshold"):
            save_onnx(network, path)
        assert not path.exists()
    else:
        save_onnx(network, path)
        x = torch.tensor([[0.5, 0.981], [0.9801, 0.2]])
        with torch.no_grad():
            torch.testing.assert_close(OnnxRuntime(path.read_bytes(), what="net").logits(x), module(x))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be written"):
        save_onnx(Network(nn.Linear(3, 2), (3,)), tmp_path / "nowhere" / "net.onnx")
