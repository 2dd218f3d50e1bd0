"""Brightness and contrast as a layer in front of a network: what is bounded are then two numbers, not pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gls_es.basics.checks import dense_numbers, real_number
from gls_es.errors import ConfigError


class Lighting(nn.Module):
    """One image, with its brightness and contrast as inputs (u, v) in [0, 1]; (1/2, 1/2) is the image as it is.

    The pixels x become x + b (2u - 1) + c (2v - 1) (x - 1/2), cut off at 0 and 1. So the L∞ ball of radius 1/2 around
    (1/2, 1/2) holds every brightness up to ±b together with every contrast up to a factor of 1 ± c:

        dimmed = nn.Sequential(gls_es.Lighting(image, brightness=0.1, contrast=0.2), network)
        gls_es.certify(dimmed, torch.full((1, 2), 0.5), [label], 0.5)

    Args:
        image: (C, H, W), or any other shape that the network takes; pixels in [0, 1].
        brightness: b, at most 1.
        contrast: c, at most 1.

    Raises:
        ConfigError: the image is no tensor of pixels in [0, 1], or b or c are not in [0, 1].
    """

    def __init__(self, image: Tensor, *, brightness: float = 0.0, contrast: float = 0.0) -> None:
        super().__init__()
        pixels = dense_numbers("pixels", image).detach().flatten()
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise ConfigError("the image's pixels must lie in [0, 1]; leave normalisation to a layer of the network.")
        b = real_number("brightness", brightness, "between 0 and 1", least=0, most=1)
        c = real_number("contrast", contrast, "between 0 and 1", least=0, most=1)
        self.mix = nn.Linear(2, len(pixels)).requires_grad_(False)
        self.mix.weight.copy_(torch.stack([torch.full_like(pixels, 2 * b), 2 * c * (pixels - 0.5)], dim=1))
        self.mix.bias.copy_(pixels - b - c * (pixels - 0.5))
        self.shape = nn.Unflatten(1, tuple(image.shape))

    def forward(self, settings: Tensor) -> Tensor:
        """(B, 2) -> (B, *shape of the image)."""
        pixels = self.shape(self.mix(settings))
        cut: Tensor = torch.relu(pixels) - torch.relu(pixels - 1.0)
        return cut
