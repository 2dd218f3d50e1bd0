"""The plain loop: the same bounds and gradients as gls_es.bounds, by code that shares nothing with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gls_es import bounds
from gls_es.benchmark import plain
from gls_es.benchmark.plain import PlainLoop
from gls_es.benchmark.plain_net import PlainNet
from gls_es.benchmark.windows import Windows, spread, view
from gls_es.errors import ConfigError
from gls_es.fitness import Minibatch, Stage, mean_gradient
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.network import Network, Normalize
from tests.oracles.nets import BY_NAME, randomise

NETS = {
    "cnn3": (nn.Conv2d(1, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, 3, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)),
    "deep": (
        *(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 2, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(98, 6), nn.ReLU(), nn.Linear(6, 5)),
    ),
    "no biases": (nn.Conv2d(1, 3, 5, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(75, 5, bias=False)),
    "odd windows": (
        *(nn.Conv2d(1, 4, (3, 2), (2, 1), (1, 0), 1), nn.ReLU(), nn.Conv2d(4, 4, 2, 3, 2, 2, groups=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(112, 5)),
    ),
    "global": (nn.Conv2d(1, 3, 4, 4, 0), nn.ReLU(), nn.Conv2d(3, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 5)),
    "normalised": (Normalize([0.3], [0.5]), nn.Conv2d(1, 3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(75, 5)),
    "dense": (nn.Flatten(), nn.Linear(324, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5)),
}
SHAPE = (1, 18, 18)


def question(name: str, dtype: torch.dtype = torch.float32) -> tuple[Network, Tensor, Tensor, Tensor, Tensor]:
    """Network, boxes, labels and members."""
    module = nn.Sequential(*NETS[name])
    randomise(module, torch.Generator().manual_seed(1))
    net = Network(module, SHAPE)
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(3, *SHAPE, generator=generator, dtype=dtype)
    params = net.parameter_vector().to(dtype) + 0.05 * torch.randn(2, net.num_parameters, generator=generator).to(dtype)
    return net, (x - 0.05).clamp(0, 1), (x + 0.05).clamp(0, 1), torch.tensor([0, 4, 2]), params


@pytest.mark.parametrize("method", plain.METHODS)
@pytest.mark.parametrize("name", NETS)
def test_margins_equal_those_of_the_bounds(name: str, method: str) -> None:
    net, lower, upper, labels, params = question(name)
    wanted = bounds.margins(net, lower, upper, labels, method, params)
    found = PlainLoop(PlainNet(net), method).margins(lower, upper, labels, params)
    assert found.shape == wanted.shape == (2, 3, 4)
    assert torch.allclose(found, wanted, atol=1e-4, rtol=1e-4)
    assert wanted.std() > 0.1  # there is something to compare


@pytest.mark.parametrize("method", plain.METHODS)
@pytest.mark.parametrize("name", NETS)
def test_in_float64_they_are_the_same_to_rounding(name: str, method: str) -> None:
    net, lower, upper, labels, params = question(name, torch.float64)
    wanted = bounds.margins(net, lower, upper, labels, method, params)
    found = PlainLoop(PlainNet(net), method).margins(lower, upper, labels, params)
    assert torch.allclose(found, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("method", plain.METHODS)
def test_chunks_change_nothing(method: str) -> None:
    net, lower, upper, labels, params = question("deep", torch.float64)
    one, all_ = (PlainLoop(PlainNet(net), method, size) for size in (1, 1 << 40))
    assert torch.allclose(*(loop.margins(lower, upper, labels, params) for loop in (one, all_)), atol=1e-12)
    assert torch.allclose(*(loop.mean_gradient(lower, upper, labels, params)[1] for loop in (one, all_)), atol=1e-12)


@pytest.mark.parametrize("method", plain.METHODS)
@pytest.mark.parametrize("name", ["cnn3", "normalised", "dense"])
def test_losses_and_gradients(name: str, method: str) -> None:
    net, lower, upper, labels, params = question(name, torch.float64)
    loop = PlainLoop(PlainNet(net), method)
    box = bounds.entry_box(net, bounds.Box.between(lower, upper))
    batch = Minibatch((lower + upper) / 2, labels, box, Stage(0.05, 0.0, method))
    losses, gradient = loop.mean_gradient(lower, upper, labels, params)
    wanted_losses, wanted_gradient = mean_gradient(net, batch, params)
    assert torch.allclose(losses, wanted_losses)
    assert torch.allclose(gradient, wanted_gradient, atol=1e-10)
    assert gradient.abs().max() > 1e-3
    assert torch.allclose(loop.losses(lower, upper, labels, params), losses)
    margins = loop.margins(lower, upper, labels, params)
    assert torch.allclose(robust_cross_entropy(margins).mean(1), losses)


@pytest.mark.parametrize(
    "name", ["residual_dense", "pool_plain", "batch_norm_2d", "consecutive_linear", "relu_first", "relu_last"]
)
def test_networks_that_are_no_plain_sequence_are_refused(name: str) -> None:
    case = BY_NAME[name]
    with pytest.raises(ConfigError, match="the plain loop bounds sequences of layers only, and stops at"):
        PlainNet(Network(case.build(), case.input_shape))


def test_other_methods_are_refused() -> None:
    with pytest.raises(ConfigError, match="knows ibp, crown-ibp, crown, not 'crown-zero'"):
        PlainLoop(PlainNet(question("dense")[0]), "crown-zero")


def test_windows_see_what_spreading_undoes(generator: torch.Generator) -> None:
    """⟨rows on windows, what the windows see⟩ = ⟨rows spread on the map, the map⟩."""
    windows = Windows((3, 2), (4, 3), (2, 3), (1, 2))
    values = torch.randn(2, 3, 6, 5, generator=generator, dtype=torch.float64)
    rows = torch.randn(2, 6, 4, 3, 4, 3, generator=generator, dtype=torch.float64)
    seen = torch.einsum("nlschw,nlchw->nls", rows, view(values, windows))
    whole = torch.einsum("nlschw,nchw->ns", spread(rows, windows, (3, 6, 5)), values)
    assert torch.allclose(seen.flatten(1), whole)


@pytest.mark.parametrize("name", NETS)
def test_the_count_of_coefficients_is_what_is_held(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, lower, upper, labels, params = question(name)
    held: dict[int, int] = {}
    original = plain._Member._relu

    def relu(self, a, windows, *, place, images):
        after, constant = original(self, a, windows, place=place, images=images)
        held[0] = max(held.get(0, 0), after.numel())
        return after, constant

    monkeypatch.setattr(plain._Member, "_relu", relu)
    loop = PlainLoop(PlainNet(net), "crown", 1)
    loop.margins(lower[:1], upper[:1], labels[:1], params[:1])
    counted = max(loop.net.image_numbers(index) for index in loop.net.passes("crown"))
    assert 0 < held[0] <= counted
