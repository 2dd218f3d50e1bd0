"""PGPE on a loss that no gradient can follow: the share of images that are not certified.

    python examples/minimise_certified_error.py

The certified error is a step function of the weights. Its gradient is zero wherever there is one, so that gradient
training cannot begin, and RGS, which averages gradients, cannot either. Its Gaussian smoothing has a gradient, and
PGPE estimates that from the values alone. Takes about fifteen seconds.
"""

from __future__ import annotations

import torch
from evotorch.algorithms import PGPE
from torch import Tensor, nn

import gls_es
from gls_es.data import Dataset, load_digits


class Digits(gls_es.CertifiedTrainingProblem):
    """Two convolutions on the built-in digits, with the usual loss."""

    def make_network(self) -> nn.Module:
        """Images (1, 8, 8) to ten logits."""
        first, second = nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.Conv2d(8, 16, 2, stride=2)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))

    def make_data(self) -> Dataset:
        """No download."""
        return load_digits()


class CertifiedError(Digits):
    """The same with the certified error itself as the fitness."""

    def losses(self, values: Tensor) -> Tensor:
        """The share of the minibatch that is not certified, for members (n, L): (n,), multiples of 1 / images."""
        return self.certified_error(values, self.minibatch.images, self.minibatch.labels)

    def certified_error(self, values: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The share of images x (B, 1, 8, 8) with a margin that is not proved positive, (n,)."""
        lower, upper = (x - self.eps).clamp(min=0), (x + self.eps).clamp(max=1)
        params = values.as_subclass(Tensor)  # a searcher's status holds EvoTorch's read-only kind
        margins = gls_es.bounds.margins(self.network, lower, upper, y, method=self.method, params=params)
        return (margins <= 0).any(2).to(values.dtype).mean(1)


def main(generations: int = 100, popsize: int = 32, natural_steps: int = 200) -> dict[str, float]:
    """Train naturally, then on the certified error alone; that error of the held-out images before and after."""
    torch.set_num_threads(1)  # the network is too small for more to pay
    natural = gls_es.RGS(Digits(eps=0.0), popsize=1, center_learning_rate=0.005, stdev_init=0.0)  # plain gradients
    natural.run(natural_steps)
    start = natural.status["center"].clone()
    problem = CertifiedError(eps=0.05, method="crown-ibp", batch_size=128, seed=0)
    searcher = PGPE(
        problem,
        popsize=popsize,
        center_learning_rate=0.01,
        stdev_learning_rate=0.0,
        stdev_init=0.03,
        optimizer="adam",
        ranking_method="raw",
        center_init=start,
    )
    searcher.run(generations)
    x, y = problem.data.test.batch()
    errors = {}
    for when, weights in (("before", start), ("after", searcher.status["center"])):
        errors[when] = float(problem.certified_error(weights[None], x, y))
        print(f"{when:<7} {errors[when]:.1%} of {len(x)} held-out images are not certified")
    return errors


if __name__ == "__main__":
    main()
