"""The networks that the benchmarks time, and weights for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gls_es.benchmark.subject import Subject, population, random_images
from gls_es.bounds import preactivations
from gls_es.data import load_digits, load_mnist
from gls_es.fitness import Minibatch, Stage, mean_gradient
from gls_es.network import Network


@dataclass(frozen=True)
class Net:
    """A network by name: its layers, the shape of its images, and the radius of the boxes."""

    layers: tuple[nn.Module, ...]
    shape: tuple[int, ...]
    eps: float

    def network(self, seed: int = 0) -> Network:
        """The network with PyTorch's initial weights for this seed."""
        torch.manual_seed(seed)
        for layer in self.layers:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        return Network(nn.Sequential(*self.layers), self.shape)


def digits_cnn3() -> Net:
    """The network of the problem ``digits-cnn3``, 1,258 parameters."""
    convs = (nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 2, 2), nn.ReLU())
    return Net((*convs, nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8), 0.1)


def cnn3_small() -> Net:
    """The CNN3 of the method's paper, 5,170 parameters."""
    convs = (nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU())
    return Net((*convs, nn.Flatten(), nn.Linear(392, 10)), (1, 28, 28), 0.1)


def cnn3() -> Net:
    """Two strided convolutions and two linear layers, 89,606 parameters."""
    convs = (nn.Conv2d(1, 16, 4, 2), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU())
    dense = (nn.Flatten(), nn.Linear(800, 100), nn.ReLU(), nn.Linear(100, 10))
    return Net((*convs, *dense), (1, 28, 28), 0.1)


def cnn7(width: int = 64, hidden: int = 512) -> Net:
    """Five 3x3 convolutions, the third with stride 2, and two linear layers, on 3x32x32 images.

    Width 64 is the published network with 17 M parameters; its BatchNorm folds into the convolutions and is left out.
    """
    w = width
    layers: list[nn.Module] = []
    for channels, out, stride in ((3, w, 1), (w, w, 1), (w, 2 * w, 2), (2 * w, 2 * w, 1), (2 * w, 2 * w, 1)):
        layers += [nn.Conv2d(channels, out, 3, stride, 1), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(2 * w * 16 * 16, hidden), nn.ReLU(), nn.Linear(hidden, 10)]
    return Net(tuple(layers), (3, 32, 32), 2 / 255)


def ladder(depth: int, width: int) -> Net:
    """``depth`` convolutions of ``width`` channels on 1x16x16 images, the first with stride 2, and a linear layer."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, 2, 1), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Conv2d(width, width, 3, 1, 1), nn.ReLU()]
    return Net((*layers, nn.Flatten(), nn.Linear(width * 64, 10)), (1, 16, 16), 0.05)


def random_subject(net: Net, members: int, batch: int, *, sigma: float = 0.01) -> Subject:
    """Members around PyTorch's initial weights, on random images."""
    network = net.network()
    images, labels = random_images(net.shape, batch, classes=network.num_classes)
    params = population(network.parameter_vector(), members, sigma=sigma)
    return Subject.around(network, images, labels, eps=net.eps, params=params)


def trained_subject(
    net: Net, members: int, batch: int, *, data: Path | None = None, sigma: float = 0.01, steps: int = 1000
) -> Subject:
    """Members around weights that Adam trained under ``ibp``.

    The images are MNIST's, from the folder ``data``; without one, the built-in digits, enlarged to the network's size.
    """
    network = net.network()
    train = (load_digits() if data is None else load_mnist(data)).train
    images, labels = train.batch(slice(0, min(len(train), 20_000)), dtype=torch.float32)
    images = F.interpolate(images, net.shape[1:], mode="bilinear").expand(-1, net.shape[0], -1, -1).contiguous()
    center = _train(network, images, labels, eps=net.eps, steps=steps)
    params = population(center, members, sigma=sigma)
    return Subject.around(network, images[:batch], labels[:batch], eps=net.eps, params=params)


def unstable_fraction(subject: Subject) -> float:
    """How many of the first member's ReLUs intervals leave undecided, on average over the images."""
    first = subject.first_members(1)
    found = preactivations(first.net, first.lower, first.upper, "ibp", first.params)
    return float(torch.cat([((low < 0) & (up > 0)).float().flatten() for low, up in found]).mean())


def _train(net: Network, images: Tensor, labels: Tensor, *, eps: float, steps: int) -> Tensor:
    center = net.parameter_vector()
    optimizer = torch.optim.Adam([center], 5e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        chosen = torch.randint(0, len(labels), (64,), generator=generator)
        stage = Stage(eps * min(1.0, step / (0.5 * steps)), 0.0, "ibp")
        batch = Minibatch.prepare(net, images[chosen], labels[chosen], stage)
        center.grad = mean_gradient(net, batch, center[None])[1]
        optimizer.step()
    return center.detach()
