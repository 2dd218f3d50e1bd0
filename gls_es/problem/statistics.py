"""BatchNorm's running statistics on top of generations: they follow the center between them, or are computed anew."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from gls_es.basics.seeding import derived_seed, minibatch_indices
from gls_es.data import Split
from gls_es.fitness import Minibatch
from gls_es.network import Network
from gls_es.network.batchnorm import has_statistics, precise_statistics, updated_statistics
from gls_es.problem.population import PopulationProblem

_BATCH = 256  # images whose activations are in memory at a time


class NormalizedProblem(PopulationProblem):
    """The part of :class:`gls_es.CertifiedTrainingProblem` that keeps a network's statistics."""

    network: Network

    @property
    @abstractmethod
    def minibatch(self) -> Minibatch:
        """The current generation's images and boxes."""

    @property
    @abstractmethod
    def _training_images(self) -> Split:
        """The training split on the device that evaluates."""

    def update_statistics(self, center: Tensor) -> None:
        """Let BatchNorm's statistics follow the center, by one clean forward pass on the current minibatch.

        A training loop calls it between generations; within one they stay, so that the fitness is a function of the
        weights. Without BatchNorm it does nothing.

        Args:
            center: (L,).

        Raises:
            ConfigError: the minibatch is a single image.
        """
        if has_statistics(self.network):
            self.network.load_buffers(updated_statistics(self.network, center, self.minibatch.images))

    def settle_statistics(self, center: Tensor, *, images: int) -> None:
        """Replace BatchNorm's running statistics by those of the center over the training set.

        Args:
            center: (L,).
            images: at most so many training images, chosen by the seed and not augmented.
        """
        if not has_statistics(self.network):
            return
        train = self._training_images
        rows = minibatch_indices(derived_seed(self.run_seed, "statistics"), 0, size=images, total=len(train))

        def batches() -> Iterator[Tensor]:
            for part in rows.split(_BATCH):
                yield train.batch(part, device=str(self.aux_device), dtype=torch.float32)[0]

        self.network.load_buffers(precise_statistics(self.network, center, batches))
