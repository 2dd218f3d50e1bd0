"""What executed activations err, held against the bound that certification charges, over all exponents.

Float32 is compared with float64, whose values are compared with mpmath's. Vectors and single numbers are different
code in PyTorch, and onnxruntime has functions of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gls_es.network.activations.curve import Curve
from gls_es.network.activations.table import CURVES, curve

mpmath = pytest.importorskip("mpmath")

TINY = 2.0**-126
EXECUTED: dict[str, tuple[tuple[float, ...], Callable[[Tensor], Tensor]]] = {
    "abs": ((), torch.abs),
    "clamp": ((-0.1, 0.7), lambda z: z.clamp(-0.1, 0.7)),
    "elu": ((1.6732632423543772, 1.0507009873554805, 1.0), F.selu),
    "erf": ((), torch.erf),
    "gelu": ((), F.gelu),
    "gelu-tanh": ((), lambda z: F.gelu(z, approximate="tanh")),
    "hard-sigmoid": ((1 / 6, 0.5), F.hardsigmoid),
    "hard-swish": ((), F.hardswish),
    "sigmoid": ((), torch.sigmoid),
    "silu": ((), F.silu),
    "softplus": ((1.0, 20.0), F.softplus),
    "tanh": ((), torch.tanh),
}
ONNX = {
    "elu": ("Elu", 13, (1.0, 1.0, 1.0), {}),
    "erf": ("Erf", 13, (), {}),
    "gelu": ("Gelu", 20, (), {}),
    "gelu-tanh": ("Gelu", 20, (), {"approximate": "tanh"}),
    "hard-sigmoid": ("HardSigmoid", 13, (0.2, 0.5), {}),
    "hard-swish": ("HardSwish", 14, (), {}),
    "selu": ("Selu", 13, (1.67326319217681884765625, 1.05070102214813232421875, 1.0), {}),
    "sigmoid": ("Sigmoid", 13, (), {}),
    "softplus": ("Softplus", 13, (1.0, 20.0), {}),
    "tanh": ("Tanh", 13, (), {}),
}
EXACT: dict[str, Callable[..., object]] = {
    "erf": lambda z: mpmath.erf(z),
    "gelu": lambda z: z * mpmath.erfc(-z / mpmath.sqrt(2)) / 2,
    "gelu-tanh": lambda z: z / (1 + mpmath.exp(-2 * mpmath.sqrt(2 / mpmath.pi) * (z + z**3 * 44715 / 10**6))),
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
    "softplus": lambda z: mpmath.log1p(mpmath.exp(z)),
    "tanh": lambda z: mpmath.tanh(z),
    "elu": lambda z: _SCALE * z if z > 0 else _SCALE * _ALPHA * mpmath.expm1(z),
}
_ALPHA, _SCALE = 1.6732632423543772, 1.0507009873554805


def numbers(exponents: range, each: int, most: float) -> Tensor:
    """Float64 numbers of both signs, of every exponent, and close together where functions are bent."""
    generator = torch.Generator().manual_seed(0)
    shares = 1 + torch.rand(len(exponents), each, generator=generator, dtype=torch.float64)
    found = (shares * 2.0 ** torch.tensor(list(exponents), dtype=torch.float64)[:, None]).flatten()
    found = torch.cat([found, most * torch.rand(40 * each, generator=generator, dtype=torch.float64), torch.zeros(1)])
    return torch.cat([found, -found])


def allowed(f: Curve, z: Tensor, roundoff: float) -> Tensor:
    """What is charged for an executed value, without the eight roundings that every node is charged besides."""
    size = f.largest(z, z)
    error = f.roundings * roundoff * size + f.slack + (2 * f.roundings + 8) * TINY
    return torch.where(size <= torch.finfo(torch.float32).max / 4, error, torch.inf)


def test_every_activation_is_measured() -> None:
    assert EXECUTED.keys() == CURVES.keys()


@pytest.mark.parametrize("name", EXECUTED)
def test_pytorch_errs_no_more_in_float32(name: str) -> None:
    constants, executed = EXECUTED[name]
    f = curve(name, constants)
    x = numbers(range(-126, 126), 60, 30.0).float()
    z = x.double()
    limit = allowed(f, z, 2.0**-24)
    assert ((executed(x).double() - f.value(z)).abs() <= limit).all()
    one_by_one = torch.cat([executed(part) for part in x[::29].split(1)]).double()
    assert ((one_by_one - f.value(z[::29])).abs() <= limit[::29]).all()


@pytest.mark.parametrize("name", ONNX)
def test_onnxruntime_errs_no_more_in_float32(name: str) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    operator, opset, constants, attributes = ONNX[name]
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    ends = [[helper.make_tensor_value_info(end, kind, ["n"])] for end in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "one", *ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    f = curve("elu" if name == "selu" else name, constants)
    x = numbers(range(-126, 126), 60, 30.0).float()
    found = torch.from_numpy(session.run(None, {"x": x.numpy()})[0]).double()
    assert ((found - f.value(x.double())).abs() <= allowed(f, x.double(), 2.0**-24)).all()


@pytest.mark.parametrize("name", EXACT)
def test_pytorch_and_curves_err_no_more_in_float64(name: str) -> None:
    constants, executed = EXECUTED[name]
    f = curve(name, constants)
    z = numbers(range(-60, 11), 3, 45.0)
    limit = allowed(f, z, 2.0**-53)
    with mpmath.workdps(40):
        exact = [EXACT[name](mpmath.mpf(value)) for value in z.tolist()]
        for values, room in ((executed(z), limit), (f.value(z), limit - f.slack)):
            for value, true, most in zip(values.tolist(), exact, room.tolist(), strict=True):
                assert abs(mpmath.mpf(value) - true) <= most


@pytest.mark.parametrize("name", EXACT)
def test_slopes_are_those_of_the_function(name: str) -> None:
    """Tangents bound a curve as far as their slopes are right: to 64 roundings, where the guard is 1024 and more."""
    constants, _ = EXECUTED[name]
    f = curve(name, constants)
    z = torch.cat([torch.linspace(-9, 9, 61, dtype=torch.float64) + 0.01, torch.tensor([-40.0, -20.0, 15.0, 40.0])])
    with mpmath.workdps(60):
        for value, slope in zip(z.tolist(), f.slope(z).tolist(), strict=True):
            exact = mpmath.diff(EXACT[name], mpmath.mpf(value), h=mpmath.mpf(10) ** -25)
            assert abs(exact - slope) <= 64 * 2.0**-53
