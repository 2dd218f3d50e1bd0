"""EvoTorch's genetic algorithm with Gaussian mutation: parents and children are judged on the same minibatch."""

from __future__ import annotations

from typing import Any

import torch
from evotorch.algorithms import GeneticAlgorithm
from evotorch.operators import GaussianMutation
from torch import Tensor

from gls_es.basics.seeding import generator
from gls_es.searchers.holding import Holding


class GA(GeneticAlgorithm, Holding):  # type: ignore[misc]
    """Half of the members are parents, half are their mutants; the better half of all become parents.

    Parents are evaluated again in every generation, since each has its own minibatch and ε. The result is the best
    parent. No crossover: the order of a layer's neurons is arbitrary, so mixing two networks rarely gives one.

    Args:
        problem: a :class:`gls_es.CertifiedTrainingProblem`.
        popsize: members that a generation evaluates; even.
        stdev_init: σ of the mutation, and of the first parents around the center.
        center_init: (L,), the first parent.
    """

    def __init__(self, problem: Any, *, popsize: int, stdev_init: float, center_init: Tensor) -> None:
        mutation = GaussianMutation(problem, stdev=stdev_init)
        super().__init__(problem, operators=[mutation], popsize=popsize // 2, re_evaluate=True)
        self._mutation = mutation
        values = self._population.access_values()
        noise = torch.randn(values.shape, generator=generator(problem.run_seed, "parents")).to(values)
        noise[0] = 0.0
        values.copy_(center_init + stdev_init * noise)

    def place(self) -> Tensor:
        """The best parent of the last generation."""
        best: Tensor = self._population.access_values(keep_evals=True)[0]
        return best

    def spread(self) -> Tensor:
        """σ of the mutation."""
        return torch.full_like(self.place(), self._mutation._stdev)

    def held(self) -> dict[str, Any]:
        """The parents, the best one first, and σ."""
        parents = self._population.access_values(keep_evals=True)
        return {"parents": parents.clone(), "stdev": torch.tensor(self._mutation._stdev, dtype=torch.float64)}

    def hold(self, saved: dict[str, Any]) -> None:
        """Take over a saved state."""
        self._population.access_values().copy_(saved["parents"])
        self.set_spread(float(saved["stdev"]))

    def set_rate(self, rate: float) -> None:
        """Nothing: there are no steps whose size could be set."""

    def set_spread(self, stdev: float) -> None:
        """σ of the mutation."""
        self._mutation._stdev = stdev
