"""Network.logits is the module, for every zoo net, member by member."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import gls_es
from gls_es.errors import ConfigError, GlsEsError
from tests.oracles.digits import TRAINED
from tests.oracles.nets import BY_NAME, CNN3_SMALL, ZOO, Case, boxes, population

CASES = [*ZOO, CNN3_SMALL, *TRAINED]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def split(module: nn.Module, vector: Tensor) -> dict[str, Tensor]:
    """Parameters by name, cut from the vector in the order of parameters_to_vector."""
    named, start = {}, 0
    for name, p in module.named_parameters():
        named[name] = vector[start : start + p.numel()].view_as(p)
        start += p.numel()
    assert start == len(vector)
    return named


def images(case: Case, count: int, dtype: torch.dtype) -> Tensor:
    return boxes(case, count, seed=4, eps=0.0)[0].to(dtype)


def assert_close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Relative to the largest logit: the sums of the fused layers run in another order."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE[dtype] * float(expected.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_logits_equal_the_module(case: Case, dtype: torch.dtype) -> None:
    module = case.build().to(dtype)
    net = gls_es.Network(module, case.input_shape)
    x = images(case, 3, dtype)
    with torch.no_grad():
        expected = module(x)
        own = net.logits(x)
        assert own.shape == (1, *expected.shape)
        assert own.dtype == dtype
        assert_close(own[0], expected, dtype)
        params = population(module, 3)
        result = net.logits(x, params)
        assert result.shape == (3, *expected.shape)
        for p in range(3):
            assert_close(result[p], functional_call(module, split(module, params[p]), (x,)), dtype)
    assert net.num_classes == expected.shape[1]
    assert tuple(net.input_shape) == case.input_shape


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_gradients_of_logits_equal_the_modules(case: Case) -> None:
    """The attack needs the derivative in the pixels, gradient training the one in the parameters."""
    module = case.build().double()
    net = gls_es.Network(module, case.input_shape)
    x = images(case, 2, torch.float64).requires_grad_()
    params = population(module, 2).requires_grad_()
    weight = torch.randn((2, net.num_classes), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = torch.autograd.grad((net.logits(x, params) * weight).sum(), (x, params))
    expected = sum((functional_call(module, split(module, p), (x,)) * weight).sum() for p in params)
    theirs = torch.autograd.grad(expected, (x, params))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * float(b.abs().max()))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_vector_and_module_round_trip(case: Case) -> None:
    module = case.build()
    net = gls_es.Network(module, case.input_shape)
    own = nn.utils.parameters_to_vector(module.parameters()).detach()
    assert net.num_parameters == own.numel()
    torch.testing.assert_close(net.parameter_vector(), own, rtol=0, atol=0)
    assert not net.parameter_vector().requires_grad
    vector = population(module, 2)[1]
    held = net.module(vector)
    assert not held.training
    torch.testing.assert_close(nn.utils.parameters_to_vector(held.parameters()).detach(), vector, rtol=0, atol=0)
    x = images(case, 2, torch.float32)
    with torch.no_grad():
        expected = functional_call(module, split(module, vector), (x,))
        torch.testing.assert_close(held(x), expected, rtol=0, atol=0)
        torch.testing.assert_close(net.module()(x), module(x), rtol=0, atol=0)
    torch.testing.assert_close(net.parameter_vector(), own, rtol=0, atol=0)


def test_the_module_is_copied() -> None:
    """What happens to the user's module afterwards does not reach the network, nor the other way round."""
    case = BY_NAME["batch_norm_2d"]
    module = case.build()
    net = gls_es.Network(module, case.input_shape)
    x = images(case, 2, torch.float32)
    before = net.logits(x).detach().clone()
    module.train()
    module(torch.rand(8, *case.input_shape))  # changes the running statistics
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(0.5)
    torch.testing.assert_close(net.logits(x).detach(), before, rtol=0, atol=0)
    handed_out = net.module()
    with torch.no_grad():
        for t in [*handed_out.parameters(), *handed_out.buffers()]:
            t.zero_()
    net.parameter_vector().zero_()
    torch.testing.assert_close(net.logits(x).detach(), before, rtol=0, atol=0)


def test_a_module_in_training_mode_is_evaluated_in_eval_mode_and_left_as_it_was() -> None:
    case = BY_NAME["batch_norm_2d"]
    module = case.build()
    x = images(case, 2, torch.float32)
    with torch.no_grad():
        expected = module(x)
    module.train()
    state = copy.deepcopy(module.state_dict())
    net = gls_es.Network(module, case.input_shape)
    assert_close(net.logits(x).detach()[0], expected, torch.float32)
    assert module.training
    assert all(m.training for m in module.modules())
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    case = BY_NAME["dropout"]
    gls_es.Network(case.make().eval(), case.input_shape)
    torch.manual_seed(3)
    module = case.build()
    torch.manual_seed(3)
    gls_es.Network(module, case.input_shape).logits(images(case, 2, torch.float32))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_float64_images_on_a_float32_network() -> None:
    """The result has the inputs' precision: float32 weights are read exactly."""
    case = BY_NAME["batch_norm_2d"]
    module = case.build()
    net = gls_es.Network(module, case.input_shape)
    x = images(case, 2, torch.float64)
    result = net.logits(x)
    assert result.dtype == torch.float64
    assert_close(result.detach()[0], copy.deepcopy(module).double()(x).detach(), torch.float64)


@pytest.mark.parametrize("shape", [(1, 20, 28), (3, 28, 28), (28, 28), (784,), (1, 1, 28, 28), (), (0, 28, 28)])
def test_a_wrong_input_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GlsEsError) as caught:
        gls_es.Network(CNN3_SMALL.build(), shape)
    message = str(caught.value)
    assert "input_shape" in message
    assert "\n  File" not in message


@pytest.mark.parametrize("shape", [None, "1,28,28", (1, 28.5, 28), (1, -28, 28), 784])
def test_an_input_shape_that_is_none_is_refused(shape: object) -> None:
    with pytest.raises((GlsEsError, TypeError)):
        gls_es.Network(CNN3_SMALL.build(), shape)


@pytest.mark.parametrize("module", [None, "net", torch.zeros(3), nn.Linear])
def test_something_that_is_no_module_is_refused(module: object) -> None:
    with pytest.raises((GlsEsError, TypeError)):
        gls_es.Network(module, (3,))


@pytest.mark.parametrize("shape", [(2, 5), (2, 7), (6,), (2, 1, 6), (2, 6, 1)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    case = BY_NAME["mlp"]
    with pytest.raises(GlsEsError, match=r"images must have shape \(B, 6\)"):
        gls_es.Network(case.build(), case.input_shape).logits(torch.zeros(shape))


@pytest.mark.parametrize("extra", [-1, 1])
def test_parameters_of_another_length_are_refused_with_both_numbers(extra: int) -> None:
    case = BY_NAME["mlp"]
    net = gls_es.Network(case.build(), case.input_shape)
    length = net.num_parameters + extra
    calls = [
        lambda: net.logits(torch.zeros(2, 6), torch.zeros(3, length)),
        lambda: net.module(torch.zeros(length)),
    ]
    for call in calls:
        with pytest.raises(GlsEsError) as caught:
            call()
        assert str(net.num_parameters) in str(caught.value)
        assert str(length) in str(caught.value)


def test_parameters_of_the_wrong_number_of_axes_are_refused() -> None:
    case = BY_NAME["mlp"]
    net = gls_es.Network(case.build(), case.input_shape)
    vector = net.parameter_vector()
    with pytest.raises(GlsEsError):
        net.logits(torch.zeros(2, 6), vector)
    with pytest.raises(GlsEsError):
        net.module(vector[None].repeat(2, 1))


def test_networks_without_a_batch_or_class_axis_are_refused() -> None:
    with pytest.raises(GlsEsError):
        gls_es.Network(nn.Sequential(nn.Conv2d(1, 2, 3)), (1, 5, 5))  # an image, not logits
    with pytest.raises(GlsEsError):
        gls_es.Network(nn.Sequential(nn.Linear(3, 1)), (3,))  # one class has no margin


def test_normalize_is_x_minus_mean_over_std() -> None:
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    layer = gls_es.Normalize(mean, std)
    assert not list(layer.parameters())
    assert len(list(layer.buffers())) == 2
    layer = layer.double()
    m, s = (torch.tensor(v, dtype=torch.float32).double().view(3, 1, 1) for v in (mean, std))
    torch.testing.assert_close(layer(x), (x - m) / s, rtol=1e-12, atol=1e-12)


def test_normalize_takes_its_own_number_of_channels_only() -> None:
    """Means of three channels would turn an image of one into three; one mean serves any number."""
    layer, net = gls_es.Normalize([0.1, 0.2, 0.3], [1.0] * 3), nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    assert layer(torch.rand(3, 2, 2)).shape == (3, 2, 2)
    for shape in ((2, 1, 2, 2), (2, 4, 2, 2), (1, 2, 2), (2, 2)):
        with pytest.raises(ConfigError, match=r"Normalize has means of 3 channels, and images of shape"):
            layer(torch.rand(shape))
    for data in (torch.rand(4, 1, 2, 2), torch.rand(4, 2, 2, 1)):
        with pytest.raises(GlsEsError, match="Normalize has means of 3 channels"):
            gls_es.certify(nn.Sequential(layer, net), data, [0] * 4, 0.1)
        with pytest.raises(GlsEsError, match="the network takes no image of shape"):
            gls_es.certify(nn.Sequential(layer, net), (data.numpy(), [0] * 4), 0.1)
    images = torch.rand(4, 3, 2, 2)
    assert len(gls_es.certify(nn.Sequential(layer, net), images, [0] * 4, 0.0).verdicts) == 4
    assert gls_es.Normalize([0.5], [0.5])(images).shape == images.shape
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning):  # torch.jit.trace; a warning of the tracer remains an error
            warnings.simplefilter("ignore", kind)
        traced = torch.jit.trace(layer, images)
    assert torch.equal(traced(images[:2]), layer(images[:2]))


@pytest.mark.parametrize(("mean", "std"), [([0.1], [0.0]), ([0.1], [-1.0]), ([0.1, 0.2], [1.0])])
def test_normalize_refuses_what_makes_no_sense(mean: list[float], std: list[float]) -> None:
    with pytest.raises(GlsEsError):
        gls_es.Normalize(mean, std)


def _channels_last() -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _with_weight(weight: Tensor) -> nn.Module:
    layers = nn.Sequential(nn.Flatten(), nn.Linear(50, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    layers[3].weight = nn.Parameter(weight)
    return layers


@pytest.mark.parametrize("execution", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["channels last", "transposed", "expanded", "every second"])
def test_weights_may_lie_in_memory_in_any_order(kind: str, execution: str) -> None:
    torch.manual_seed(0)
    weights = {
        "transposed": torch.randn(8, 8).t(),
        "expanded": torch.randn(8, 1).expand(8, 8),
        "every second": torch.randn(16, 16)[::2, ::2],
    }
    module = _channels_last() if kind == "channels last" else _with_weight(weights[kind])
    module = module.to(getattr(torch, execution))
    before = {name: (p.stride(), p.clone()) for name, p in module.named_parameters()}
    x = torch.rand(3, 2, 5, 5)
    net = gls_es.Network(module, (2, 5, 5))
    plain = copy.deepcopy(module).double().requires_grad_(False)
    assert_close(net.logits(x.double(), net.parameter_vector().double()[None])[0], plain(x.double()), torch.float64)
    labels = plain(x.double()).argmax(1)
    report = gls_es.certify(module, x, labels, 1e-4, execution=execution)
    assert [v.verdict for v in report.verdicts] == ["certified"] * 3
    for name, p in module.named_parameters():
        assert (p.stride(), True) == (before[name][0], torch.equal(p, before[name][1]))
