"""Small networks, and oracles independent of gls_es: closed forms, NumPy in float64, exact rationals."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from gls_es.certification import AttackOptions


def linear_net(weight: object, bias: object) -> nn.Sequential:
    """A flat linear classifier with the given weight (K, D) and bias (K,)."""
    w, b = torch.as_tensor(weight, dtype=torch.float32), torch.as_tensor(bias, dtype=torch.float32)
    layer = nn.Linear(w.shape[1], w.shape[0])
    with torch.no_grad():
        layer.weight.copy_(w)
        layer.bias.copy_(b)
    return nn.Sequential(nn.Flatten(), layer)


def random_linear(seed: int, *, pixels: int, classes: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, pixels, generator=generator) / pixels**0.5
    return linear_net(weight, 0.1 * torch.randn(classes, generator=generator))


def relu_net(seed: int, sizes: tuple[int, ...]) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layer = nn.Linear(before, after)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(after, before, generator=generator) * (2 / before) ** 0.5)
            layer.bias.copy_(0.3 * torch.randn(after, generator=generator))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def numpy_logits(net: nn.Sequential, points: np.ndarray) -> np.ndarray:
    """Logits (N, K) of flat points (N, D), in float64, of a Flatten/Linear/ReLU network."""
    values = points.astype(np.float64)
    for layer in net:
        if isinstance(layer, nn.Linear):
            values = values @ layer.weight.detach().numpy().astype(np.float64).T + layer.bias.detach().numpy()
        elif isinstance(layer, nn.ReLU):
            values = np.maximum(values, 0.0)
    return values


def numpy_least_margin(net: nn.Sequential, points: np.ndarray, label: int) -> np.ndarray:
    """min_j f_y - f_j per point, (N,)."""
    logits = numpy_logits(net, points)
    return logits[:, label] - np.delete(logits, label, axis=1).max(axis=1)


def exact_linear_margin(net: nn.Sequential, image: Tensor, label: int, eps: float, *, clip: bool = True) -> Fraction:
    """The exact minimum over the ball of the least margin of a linear classifier, in rationals."""
    weight = [[Fraction(float(w)) for w in row] for row in net[1].weight.detach()]
    bias = [Fraction(float(b)) for b in net[1].bias.detach()]
    pixels, radius = [Fraction(float(p)) for p in image.flatten()], Fraction(eps)
    lower = [p - radius for p in pixels]
    upper = [p + radius for p in pixels]
    if clip:
        lower, upper = [max(p, Fraction(0)) for p in lower], [min(p, Fraction(1)) for p in upper]
    least = []
    for other in range(len(weight)):
        if other != label:
            total = bias[label] - bias[other]
            for a, b, low, high in zip(weight[label], weight[other], lower, upper, strict=True):
                total += (a - b) * (low if a > b else high)
            least.append(total)
    return min(least)


def in_exact_ball(point: Tensor, image: Tensor, eps: float, *, clip: bool = True) -> bool:
    """Whether a point lies in the real ball, in rationals."""
    for p, x in zip(point.flatten().tolist(), image.flatten().tolist(), strict=True):
        if abs(Fraction(p) - Fraction(x)) > Fraction(eps) or (clip and not 0 <= p <= 1):
            return False
    return True


def grid_of_ball(image: Tensor, eps: float, *, steps: int) -> np.ndarray:
    """A regular grid over the clipped ball of a two-pixel image, (steps², 2), float64."""
    x = image.flatten().double().numpy()
    axes = [np.linspace(max(p - eps, 0.0), min(p + eps, 1.0), steps) for p in x]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


QUICK = AttackOptions(steps=10, restarts=2)


def random_images(seed: int, n: int, *shape: int) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def linear_problem(seed: int = 0, n: int = 40) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A linear classifier of 4x4 images, every tenth of which has a wrong label."""
    net = random_linear(seed, pixels=16, classes=4)
    images = random_images(seed + 1, n, 1, 4, 4)
    labels = net(images).argmax(dim=1)
    labels[::10] = (labels[::10] + 1) % 4
    return net, images, labels
