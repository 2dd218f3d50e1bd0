"""Light as a network's input: what the layer computes, and certificates against a scan of all settings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gls_es
from gls_es.errors import ConfigError

IMAGE = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_the_middle_is_the_image_and_the_corners_are_cut_off() -> None:
    layer = gls_es.Lighting(IMAGE, brightness=0.3, contrast=0.5)
    settings = torch.tensor([[0.5, 0.5], [1.0, 0.5], [0.5, 0.0], [0.0, 1.0]])
    wanted = [IMAGE, IMAGE + 0.3, IMAGE - 0.5 * (IMAGE - 0.5), IMAGE - 0.3 + 0.5 * (IMAGE - 0.5)]
    assert torch.allclose(layer(settings), torch.stack(wanted).clamp(0, 1), atol=1e-6)


def test_verdicts_agree_with_a_scan_of_all_light() -> None:
    side = torch.linspace(0, 1, 41)
    scan = torch.cartesian_prod(side, side)
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3)).requires_grad_(False)
        lit = nn.Sequential(gls_es.Lighting(IMAGE, brightness=0.2, contrast=0.4), network)
        label = int(network(IMAGE[None]).argmax())
        found = gls_es.certify(lit, torch.full((1, 2), 0.5), [label], 0.5).verdicts[0].verdict
        kept = bool((lit(scan).argmax(1) == label).all())
        assert kept or found != "certified"
        seen.add((found, kept))
    assert {("certified", True), ("falsified", False)} <= seen


@pytest.mark.parametrize(
    ("image", "options"),
    [(IMAGE * 2, {}), (IMAGE.numpy(), {}), (IMAGE, {"brightness": -0.1}), (IMAGE, {"contrast": 2.0})],
)
def test_light_that_makes_no_sense(image: object, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        gls_es.Lighting(image, **options)
