"""IBP initialisation: its distribution, and that intervals keep their width through many layers."""

import math

import pytest
import torch
from torch import Tensor, nn

from gls_es import bounds
from gls_es.network import Network
from gls_es.network.initialisation import INITIALISATIONS, initialise


def deep(depth: int = 8, width: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 3))


def mean_widths(module: nn.Module) -> Tensor:
    """Mean width of every layer's intervals, relative to the input's."""
    net = Network(module, (1, 8, 8))
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(4, 1, 8, 8, generator=generator)
    found = bounds.preactivations(net, images - 0.1, images + 0.1, "ibp")
    return torch.stack([(upper - lower).mean() for lower, upper in found]) / 0.2


def test_intervals_keep_their_width_with_depth() -> None:
    torch.manual_seed(0)
    widths = mean_widths(initialise(deep(), "ibp"))
    # the first layer doubles them, as no ReLU has halved them before
    assert bool((widths > 1).all() and (widths < 4).all()), widths
    torch.manual_seed(0)
    assert mean_widths(deep())[-1] > 50 * widths[-1]  # torch's own: each layer widens by sqrt(fan_in / 12)


def test_weights_have_the_stated_spread_and_biases_are_zero() -> None:
    torch.manual_seed(0)
    module = initialise(nn.Sequential(nn.Conv2d(8, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 50)), "ibp")
    for layer, fan_in in ((module[0], 72), (module[3], 400)):  # type: ignore[index]
        weight = layer.weight.detach()
        assert float(weight.std()) * fan_in == pytest.approx(math.sqrt(2 * math.pi), rel=4 / math.sqrt(weight.numel()))
        assert float(weight.mean()) * fan_in == pytest.approx(0.0, abs=4 * 2.51 / math.sqrt(weight.numel()))
        assert not layer.bias.any()


def test_the_last_layer_can_be_left_alone_and_so_can_all() -> None:
    changed = {}
    for init in INITIALISATIONS:
        module = deep(2)
        own = [parameter.clone() for parameter in module.parameters()]
        initialise(module, init)
        changed[init] = [not torch.equal(a, b) for a, b in zip(own, module.parameters(), strict=True)]
    assert changed == {"default": [False] * 6, "ibp": [True] * 6, "ibp-hidden": [True] * 4 + [False] * 2}


def test_normalisation_layers_stay_and_layers_need_no_bias() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU())
    initialise(module, "ibp")
    assert module[1].weight.tolist() == [1.0, 1.0]  # type: ignore[operator]
