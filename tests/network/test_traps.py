"""Things that look supported and mean something else: each is either refused or computed as PyTorch does.

What must not happen is a Network whose logits differ from the module's. Every accepted net is checked for logits of a
population and for bounds that hold on samples.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune

import gls_es
from gls_es import bounds
from gls_es.errors import UnsupportedNetworkError
from tests.oracles.nets import population, randomise
from tests.oracles.problems import margins_of


class Between(nn.Module):
    """A convolution, an expression with access to the module, a head."""

    def __init__(self, expression: object, features: int = 18) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=0)
        self.fc = nn.Linear(features, 3)
        self.inplace = nn.ReLU(inplace=True)
        self.scale = nn.Parameter(torch.ones(2, 1, 1))
        self.weight = nn.Parameter(torch.zeros(18, 18))
        self.register_buffer("offset", torch.tensor([0.3, -0.2]).view(2, 1, 1))
        self.register_buffer("grid", torch.arange(18.0).view(2, 3, 3) / 9 - 1)
        self.expression = expression

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.expression(self, self.conv(x)), 1))


def _relu_then_add(net: Between, h: Tensor) -> Tensor:
    """The in-place ReLU changes h itself, so this is 2 relu(h)."""
    a = net.inplace(h)
    return h + a


def _functional_inplace(net: Between, h: Tensor) -> Tensor:
    a = F.relu(h, inplace=True)
    return a - 0.5 + h


def _relu_method_inplace(net: Between, h: Tensor) -> Tensor:
    b = h + 0.0
    h.relu_()
    return b + h


def _iadd_alias(net: Between, h: Tensor) -> Tensor:
    """out += is visible through every name of the tensor."""
    g = h
    h += F.relu(net.conv.bias.view(2, 1, 1) * 0 + 1)
    return g.relu() + h


def _iadd_activation_alias(net: Between, h: Tensor) -> Tensor:
    a = torch.relu(h)
    b = h
    h += a
    return b + a


def _derived_constant(net: Between, h: Tensor) -> Tensor:
    """A number computed from the parameters while tracing is another one for every member."""
    return h.relu() * next(iter(net.parameters())).detach().abs().max()


EXPRESSIONS = {
    "constant derived from parameters": (_derived_constant, 18),
    "batch size arithmetic": (lambda n, h: h.relu() / h.size(0), 18),
    "buffer that widens the activation": (lambda n, h: (F.adaptive_avg_pool2d(h, 1) + n.grid).relu(), 18),
    "buffer product that widens": (lambda n, h: (F.adaptive_avg_pool2d(h, 1) * n.grid).relu(), 18),
    "sum that broadcasts": (lambda n, h: (h + F.adaptive_avg_pool2d(h.relu(), 1)).relu(), 18),
    "sum that broadcasts, other way round": (lambda n, h: F.adaptive_avg_pool2d(h.relu(), 1) + h, 18),
    "constant made in forward": (lambda n, h: (h + torch.tensor([[0.5], [-0.5], [0.1]])).relu(), 18),
    "pool of a wide window": (lambda n, h: F.avg_pool2d(h.relu(), 3, stride=1, padding=1), 18),
    "in-place relu of a reused value": (_relu_then_add, 18),
    "functional in-place relu": (_functional_inplace, 18),
    "relu_": (_relu_method_inplace, 18),
    "in-place sum with a constant": (_iadd_alias, 18),
    "in-place sum under two names": (_iadd_activation_alias, 18),
    "torch.add with alpha": (lambda n, h: torch.add(h, h.relu(), alpha=-0.5), 18),
    "add method with alpha": (lambda n, h: h.add(h.relu(), alpha=2), 18),
    "add_": (lambda n, h: h.add_(1.0).relu(), 18),
    "difference of activations": (lambda n, h: h.relu() - 0.5 * h, 18),
    "reversed difference": (lambda n, h: 1.0 - h.relu(), 18),
    "negative": (lambda n, h: (-h).relu(), 18),
    "scalar product": (lambda n, h: (h * -2.0).relu() * 0.5, 18),
    "scalar left product": (lambda n, h: 3 * h.relu(), 18),
    "scalar quotient": (lambda n, h: h.relu() / 4, 18),
    "reciprocal": (lambda n, h: 1.0 / (h.relu() + 1.0), 18),
    "learned scale": (lambda n, h: (h * n.scale).relu(), 18),
    "learned scale left": (lambda n, h: (n.scale * h).relu(), 18),
    "learned offset": (lambda n, h: (h + n.scale).relu(), 18),
    "buffer offset": (lambda n, h: (h - n.offset).relu(), 18),
    "buffer minus value": (lambda n, h: (n.offset - h).relu(), 18),
    "buffer product": (lambda n, h: (h * n.offset).relu(), 18),
    "functional linear": (lambda n, h: F.linear(torch.flatten(h.relu(), 1), n.weight), 18),
    "matrix product with a parameter": (lambda n, h: torch.flatten(h.relu(), 1) @ n.weight, 18),
    "functional conv": (lambda n, h: F.conv2d(h.relu(), n.weight.view(2, 2, 9, 9)[:, :, :3, :3], padding=1), 18),
    "functional average pool": (lambda n, h: F.avg_pool2d(h.relu(), 2), 2),
    "functional adaptive pool": (lambda n, h: F.adaptive_avg_pool2d(h.relu(), 1), 2),
    "adaptive pool to two": (lambda n, h: F.adaptive_avg_pool2d(h.relu(), 2), 8),
    "mean over pixels": (lambda n, h: h.relu().mean((2, 3)), 2),
    "mean over channels": (lambda n, h: h.relu().mean(1), 9),
    "sum over pixels": (lambda n, h: h.relu().sum((2, 3)), 2),
    "concatenation": (lambda n, h: torch.cat([h.relu(), h], 1), 36),
    "slice": (lambda n, h: h.relu()[:, :1], 9),
    "transpose": (lambda n, h: h.relu().transpose(2, 3), 18),
    "permute": (lambda n, h: h.relu().permute(0, 2, 3, 1), 18),
    "view that mixes the batch": (lambda n, h: h.relu().view(-1, 9).view(-1, 18), 18),
    "view(-1, n)": (lambda n, h: h.relu().view(-1, 18), 18),
    "reshape(batch, n)": (lambda n, h: h.relu().reshape(h.size(0), 18), 18),
    "flatten from 2": (lambda n, h: h.relu().flatten(2), 18),
    "contiguous": (lambda n, h: h.relu().contiguous(), 18),
    "clone": (lambda n, h: h.relu().clone(), 18),
    "detach": (lambda n, h: h.relu().detach(), 18),
    "pad": (lambda n, h: F.pad(h.relu(), (1, 0, 0, 1)), 32),
    "pad with ones": (lambda n, h: F.pad(h.relu(), (1, 0, 0, 1), value=1.0), 32),
    "dropout of eval mode": (lambda n, h: F.dropout(h.relu(), 0.5, training=n.training), 18),
    "dropout by default": (lambda n, h: F.dropout(h.relu()), 18),
    "clamp(min=0)": (lambda n, h: h.clamp(min=0), 18),
    "clamp(min=1)": (lambda n, h: h.clamp(min=1), 18),
    "maximum with zero": (lambda n, h: torch.maximum(h, torch.zeros_like(h)), 18),
    "upsample": (lambda n, h: F.interpolate(h.relu(), scale_factor=2), 72),
    "cast": (lambda n, h: h.relu().float(), 18),
    "unused branch": (lambda n, h: (torch.sigmoid(h), h.relu())[1], 18),
    "shape arithmetic": (lambda n, h: h.relu() * h.shape[2], 18),
}

MODULES = {
    "padding same": nn.Conv2d(1, 2, 3, padding="same"),
    "padding valid": nn.Conv2d(1, 2, 3, padding="valid"),
    "padding same, even kernel": nn.Conv2d(1, 2, 2, padding="same"),
    "padding same, dilated": nn.Conv2d(1, 2, 3, padding="same", dilation=2),
    "circular padding": nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"),
    "replicate padding of none": nn.Conv2d(1, 2, 3, padding_mode="replicate"),
    "transposed convolution": nn.ConvTranspose2d(1, 2, 2, stride=2),
    "pool without counting the padding": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "pool with ceil mode": nn.AvgPool2d(2, 2, ceil_mode=True),
    "pool with a divisor": nn.AvgPool2d(2, divisor_override=3),
    "adaptive pool to one by two": nn.AdaptiveAvgPool2d((1, 2)),
    "adaptive pool that keeps an axis": nn.AdaptiveAvgPool2d((1, None)),
    "flatten of two axes": nn.Flatten(1, 2),
    "unflatten": nn.Unflatten(1, (1, 1)),
    "linear on the last of several axes": nn.Linear(5, 3),
    "zero padding": nn.ZeroPad2d(1),
    "constant padding": nn.ConstantPad2d(1, 0.5),
    "batch norm with momentum None": nn.BatchNorm2d(1, momentum=None),
    "spectral norm": parametrizations.spectral_norm(nn.Conv2d(1, 2, 3)),
    "weight norm": parametrizations.weight_norm(nn.Conv2d(1, 2, 3)),
    "pruned": prune.l1_unstructured(nn.Conv2d(1, 2, 3), "weight", amount=0.5),
    "pixel unshuffle": nn.PixelUnshuffle(5),
    "upsample": nn.Upsample(scale_factor=2),
    "channel dropout": nn.Dropout2d(0.5),
    "alpha dropout": nn.AlphaDropout(0.5),
    "threshold": nn.Threshold(0.0, 0.0),
    "threshold elsewhere": nn.Threshold(0.1, 20.0),
}


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class CustomLinear(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2 + 1


class CustomReLU(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - 0.5)


def subclassed() -> nn.Module:
    return nn.Sequential(nn.Flatten(), CustomLinear(25, 6), CustomReLU(), nn.Linear(6, 3))


def parametrized() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(25, 6), nn.ReLU(), nn.Linear(6, 3))
    parametrize.register_parametrization(net[1], "weight", Double())
    return net


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(25, 6), nn.ReLU(), nn.Linear(6, 3))
    net[1].register_forward_hook(lambda module, args, output: 2 * output)
    return net


def hooked_before() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(25, 6), nn.ReLU(), nn.Linear(6, 3))
    net.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    return net


def replaced_forward() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(25, 6), nn.ReLU(), nn.Linear(6, 3))
    layer = net[1]
    layer.forward = lambda x: F.linear(x, layer.weight * 2)
    return net


def relu_twice_at_the_end() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(25, 3, bias=False), nn.ReLU(), nn.ReLU())


class InPlaceOnTheInput(nn.Module):
    """Changes the caller's images."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(25, 3)

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        return self.fc(torch.flatten(x, 1))


def input_in_place() -> nn.Module:
    return InPlaceOnTheInput()


def relu_of_the_input_in_place() -> nn.Module:
    return nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(25, 3))


def single_class_twice() -> nn.Module:
    """One module object under two names: its parameters count once."""
    layer = nn.Linear(25, 25)
    return nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(25, 3))


WHOLE = {f.__name__: f for f in (subclassed, parametrized, hooked, hooked_before, replaced_forward, single_class_twice)}
WHOLE |= {f.__name__: f for f in (input_in_place, relu_of_the_input_in_place)}
WHOLE["relu_twice_at_the_end"] = relu_twice_at_the_end


def after(layer: nn.Module) -> nn.Module:
    """layer, ReLU, flatten, Linear of the right size, on 1x5x5."""
    layer.eval()
    with torch.no_grad():
        size = layer(torch.zeros(1, 1, 5, 5)).numel()
    return nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(size, 3))


def check(module: nn.Module) -> None:
    """Refused, or right."""
    module = module.eval()
    try:
        net = gls_es.Network(module, (1, 5, 5))
    except UnsupportedNetworkError:
        return
    generator = torch.Generator().manual_seed(1)
    x = torch.rand((4, 1, 5, 5), generator=generator)
    params = population(module, 2)
    members = [copy.deepcopy(module).eval() for _ in params]
    for held, vector in zip(members, params, strict=True):
        nn.utils.vector_to_parameters(vector, held.parameters())
    with torch.no_grad():
        expected = torch.stack([held(x.clone()) for held in members])
        before = x.clone()
        torch.testing.assert_close(net.logits(x, params), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(x, before, rtol=0, atol=0)
        lower, upper = (x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1)
        labels = torch.tensor([0, 1, 2, 0])
        results = {m: bounds.margins(net, lower, upper, labels, method=m, params=params) for m in ("ibp", "crown")}
        for _ in range(50):
            point = lower + (upper - lower) * torch.rand(x.shape, generator=generator).round()
            for p, held in enumerate(members):
                logits = held(point.clone())
                for i, label in enumerate(labels.tolist()):
                    for result in results.values():
                        assert (result[p, i] <= margins_of(logits[i], label) + 1e-4).all()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_are_refused_or_right(name: str) -> None:
    expression, features = EXPRESSIONS[name]
    module = Between(expression, features)
    randomise(module, torch.Generator().manual_seed(0))
    check(module)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", MODULES)
def test_modules_are_refused_or_right(name: str) -> None:
    torch.manual_seed(0)
    check(after(MODULES[name]))


@pytest.mark.parametrize("name", WHOLE)
def test_networks_are_refused_or_right(name: str) -> None:
    torch.manual_seed(0)
    check(WHOLE[name]())


def test_parameters_that_only_part_of_the_module_uses_keep_their_place() -> None:
    """The vector holds every parameter of the module, used or not, in its order."""
    torch.manual_seed(0)
    module = Between(lambda n, h: h.relu())
    net = gls_es.Network(module, (1, 5, 5))
    assert net.num_parameters == sum(p.numel() for p in module.parameters())
    check(module)


def _hook_for_large_values(layer: nn.Module) -> None:
    layer.register_forward_hook(lambda module, args, output: output.clamp(-50, 50))


def _forward_for_large_values(layer: nn.Module) -> None:
    layer.forward = lambda x: F.linear(x, layer.weight, layer.bias).clamp(-50, 50)


def _pre_hook_for_large_values(layer: nn.Module) -> None:
    layer.register_forward_pre_hook(lambda module, args: (args[0].clamp(max=20),))


@pytest.mark.parametrize(
    "change", [_hook_for_large_values, _forward_for_large_values, _pre_hook_for_large_values], ids=lambda f: f.__name__
)
def test_changes_that_one_test_image_does_not_show_are_refused_or_right(change: object) -> None:
    """Comparing logits once, on small values, is not enough to trust a module that tracing cannot look into."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(25, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    change(module[3])
    try:
        net = gls_es.Network(module, (1, 5, 5))
    except UnsupportedNetworkError:
        return
    x = torch.rand(2, 1, 5, 5)
    params = 1000 * net.parameter_vector()
    nn.utils.vector_to_parameters(params, module.parameters())
    torch.testing.assert_close(net.logits(x, params[None])[0].detach(), module(x).detach(), rtol=1e-4, atol=1e-4)


SIZES = [(52, {"size": 22, "mode": "nearest-exact"}), (60, {"size": 29, "mode": "nearest-exact"}), (2, {"size": 82})]


@pytest.mark.parametrize(("n", "options"), SIZES, ids=str)
def test_neighbours_that_float32_chooses_otherwise_are_refused(n: int, options: dict[str, Any]) -> None:
    """PyTorch's own choice, which rounds: where it is the same in float64 the graph has it."""
    places = torch.arange(n, dtype=torch.float64)[None, None]
    same = torch.equal(F.interpolate(places, **options), F.interpolate(places.float(), **options).double())
    module = nn.Sequential(nn.Upsample(**options), nn.Flatten(), nn.Linear(options["size"], 2))
    if same:
        gls_es.Network(module, (1, n))
    else:
        with pytest.raises(UnsupportedNetworkError, match="other values in float32"):
            gls_es.Network(module, (1, n))


def test_some_of_these_sizes_do_differ() -> None:
    given = [(torch.arange(n, dtype=torch.float64)[None, None], options) for n, options in SIZES]
    assert any(
        not torch.equal(F.interpolate(x, **options), F.interpolate(x.float(), **options).double())
        for x, options in given
    )


def test_sizes_without_a_whole_factor_pass_where_both_formats_agree() -> None:
    module = nn.Sequential(nn.Upsample(7), nn.Flatten(), nn.Linear(7, 2))
    net = gls_es.Network(module, (1, 5))
    x = torch.rand(3, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(net.logits(x, net.parameter_vector().double()[None])[0], module.double()(x))


@torch.jit.script
def _by_numbers(x: Tensor) -> Tensor:
    """Reads numbers in native code, and goes by them."""
    rows: list[list[float]] = x.tolist()
    for row in rows:
        if row[0] > 0.71 and row[0] < 0.7105:
            x = -x
    return x


@torch.jit.script
def _doubled(x: Tensor) -> Tensor:
    return x * float(x.stride(1) + 1)


class Scripted(nn.Module):
    """Calls a compiled function."""

    def __init__(self, by_numbers: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.by_numbers = by_numbers

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(_by_numbers(x) if self.by_numbers else _doubled(x))
        return found


def test_compiled_functions_that_read_numbers_are_refused_and_others_pass() -> None:
    call = torch.jit.ScriptFunction.__call__
    with pytest.raises(UnsupportedNetworkError, match="takes numbers out of PyTorch"):
        gls_es.Network(Scripted(True), (4,))
    module, x = Scripted(False), torch.rand(3, 4)
    torch.testing.assert_close(gls_es.Network(module, (4,)).logits(x)[0], module(x))
    assert torch.jit.ScriptFunction.__call__ is call, "PyTorch is left as it was"


class Layouts(nn.Module):
    """Goes by how its values lie in memory: the second reads them there."""

    def __init__(self, asking: bool) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 3, 2), nn.Linear(12, 2)
        self.asking = asking

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.conv(x))
        if self.asking:
            h = h if h.is_contiguous() else h.permute(0, 2, 3, 1)
            return self.fc(h.flatten(1))  # type: ignore[no-any-return]
        return self.fc(h.as_strided((len(x), 12), (12, 1)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("last", [False, True], ids=["rows", "channels last"])
@pytest.mark.parametrize("asking", [False, True])
def test_what_goes_by_the_order_in_memory_is_computed_as_given_or_refused(asking: bool, last: bool) -> None:
    torch.manual_seed(0)
    module = Layouts(asking).eval()
    if last:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(4, 2, 3, 3)
    try:
        net = gls_es.Network(module, (2, 3, 3))
    except UnsupportedNetworkError:
        return
    expected = module(x)
    torch.testing.assert_close(net.logits(x)[0], expected)
    torch.testing.assert_close(net.module()(x), expected)
    torch.testing.assert_close(net.module(net.parameter_vector())(x), expected)


class Beside(nn.Module):
    """One logit goes by the number of images, another is ten orders larger."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * torch.tensor([1e10, 1.0 if len(x) > 1 else 0.0, 1.0])  # type: ignore[no-any-return]


def test_a_large_logit_hides_no_other() -> None:
    with pytest.raises(UnsupportedNetworkError, match="something else on one image"):
        gls_es.Network(Beside(), (2,))


def test_buffers_of_another_format_are_refused_for_they_would_be_rounded() -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    module.register_buffer("times", torch.tensor([1e9, 1e9 + 1], dtype=torch.float64))
    with pytest.raises(
        UnsupportedNetworkError, match=r"'times': it is torch\.float64 beside weights of torch\.float32"
    ):
        gls_es.Network(module, (2,))
    gls_es.Network(module.double(), (2,))


class Counted(nn.Module):
    """Counts in a buffer that stands behind a large table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = [(i, i + 1) for i in range(60_000)]
        self.inner = nn.BatchNorm1d(2)
        self.inner.register_buffer("calls", torch.tensor(0))
        self.fc = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.inner.calls = self.inner.calls + 1
        return self.fc(torch.where(self.inner.calls > 1000, torch.zeros_like(x), x))  # type: ignore[no-any-return]


def test_a_large_table_hides_no_state() -> None:
    with pytest.raises(UnsupportedNetworkError, match=r"forward changes 'inner\.calls'"):
        gls_es.Network(Counted(), (2,))


class Early(nn.Module):
    """Takes a view of NumPy while a tensor holds zeros, and looks at it later."""

    def __init__(self, out: bool) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(2, 2), out

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.zeros(x.shape, dtype=x.dtype)
        seen = kept.numpy()
        if self.out:
            torch.mul(x.detach(), 1.0, out=kept)
        else:
            kept.copy_(x.detach())
        return self.fc(x * 0.0 if (seen[:, 0] > 7).any() else x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("out", [False, True])
def test_memory_that_numpy_sees_is_refused_when_it_is_filled(out: bool) -> None:
    with pytest.raises(UnsupportedNetworkError, match="takes numbers out of PyTorch"):
        gls_es.Network(Early(out), (2,))
