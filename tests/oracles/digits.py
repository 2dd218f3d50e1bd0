"""Trained weights for the digits net, from drawn digits and a few seconds of plain PyTorch.

Random networks hide mistakes that trained ones show (adaptive slopes that flip, layers where nearly every neuron is
dead), so the bounds are also compared on these. Nothing here comes from gls_es.
"""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.oracles.nets import Case
from tests.oracles.zoo_conv import digits_net

# 6x5 strokes, one letter block per digit, drawn for this file.
_STROKES = (
    ".###. #...# #...# #...# #...# .###.",
    "..#.. .##.. ..#.. ..#.. ..#.. .###.",
    ".###. #...# ...#. ..#.. .#... #####",
    "####. ....# .###. ....# ....# ####.",
    "#..#. #..#. #..#. ##### ...#. ...#.",
    "##### #.... ####. ....# ....# ####.",
    ".##.. #.... ####. #...# #...# .###.",
    "##### ....# ...#. ..#.. ..#.. ..#..",
    ".###. #...# .###. #...# #...# .###.",
    ".###. #...# .#### ....# ....# .##..",
)


def drawn_digits(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(count, 1, 8, 8) images in [0, 1] and their labels: strokes, shifted, of varying darkness, with noise."""
    generator = torch.Generator().manual_seed(seed)
    glyphs = torch.tensor([[[c == "#" for c in row] for row in text.split()] for text in _STROKES]).float()
    labels = torch.arange(count) % 10
    images = torch.zeros(count, 1, 8, 8)
    tops = torch.randint(0, 3, (count,), generator=generator).tolist()
    lefts = torch.randint(1, 3, (count,), generator=generator).tolist()
    for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        images[i, 0, top : top + 6, left : left + 5] = glyphs[labels[i]]
    ink = 0.7 + 0.3 * torch.rand((count, 1, 1, 1), generator=generator)
    noise = 0.1 * torch.randn(images.shape, generator=generator)
    return (images * ink + noise).clamp(0, 1), labels


def _interval_margins(net: nn.Sequential, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Interval lower bounds of f_y - f_j for all j (0 at j = y), by hand for conv, relu, conv, relu, flatten, fc."""
    lower, upper = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    for conv in (net[0], net[2]):
        center, radius = (upper + lower) / 2, (upper - lower) / 2
        center = F.conv2d(center, conv.weight, conv.bias, conv.stride, conv.padding)
        radius = F.conv2d(radius, conv.weight.abs(), None, conv.stride, conv.padding)
        lower, upper = F.relu(center - radius), F.relu(center + radius)
    weight = net[5].weight[y][:, None] - net[5].weight
    bias = net[5].bias[y][:, None] - net[5].bias
    center, radius = (upper + lower).flatten(1) / 2, (upper - lower).flatten(1) / 2
    return torch.einsum("bkn,bn->bk", weight, center) + bias - torch.einsum("bkn,bn->bk", weight.abs(), radius)


@cache
def _trained_state(certified: bool, steps: int = 800, eps: float = 0.1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    module = digits_net()
    with torch.no_grad():
        for p in module.parameters():
            fan_in = p[0].numel() if p.dim() > 1 else 1
            p.copy_(torch.randn(p.shape, generator=generator) * fan_in**-0.5 if p.dim() > 1 else torch.zeros(p.shape))
    images, labels = drawn_digits(1000, seed=1)
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
    for step in range(steps):
        index = torch.randint(0, len(images), (100,), generator=generator)
        x, y = images[index], labels[index]
        if certified:
            loss = torch.logsumexp(-_interval_margins(module.body, x, y, eps * min(1.0, 2 * step / steps)), -1).mean()
        else:
            loss = F.cross_entropy(module(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _trained_net(certified: bool) -> nn.Module:
    module = digits_net()
    module.load_state_dict(_trained_state(certified))
    return module


IBP_TRAINED = Case("digits_ibp_trained", partial(_trained_net, True), (1, 8, 8), 0.1, trained=True)
NATURALLY_TRAINED = Case("digits_naturally_trained", partial(_trained_net, False), (1, 8, 8), 0.1, trained=True)
TRAINED = [IBP_TRAINED, NATURALLY_TRAINED]
