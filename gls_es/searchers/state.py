"""What a training loop does to any searcher: a whole generation, a schedule's values, saving and restoring."""

from __future__ import annotations

from typing import Any

import torch
from evotorch.algorithms.searchalgorithm import SearchAlgorithm
from torch import Tensor

from gls_es.searchers.holding import Holding
from gls_es.searchers.rgs import RGS

_SAVED = {"center": "mu", "stdev": "sigma", "noise_scale": "scale", "stdev_inverse": "sigma_inv"}
"""Names in a checkpoint and in a distribution."""


def position(searcher: SearchAlgorithm) -> Tensor:
    """The weights where a searcher is, (L,)."""
    found: Tensor = searcher.place() if isinstance(searcher, Holding) else searcher._distribution.mu
    return found


def spread(searcher: SearchAlgorithm) -> Tensor:
    """The noise of each weight, (L,)."""
    if isinstance(searcher, Holding):
        return searcher.spread()
    sigma: Tensor = searcher._distribution.sigma
    return sigma if sigma.dim() == 1 else torch.linalg.vector_norm(sigma, dim=1)  # x = mu + A z


def finish_generation(searcher: SearchAlgorithm) -> None:
    """Apply the update that EvoTorch postpones to the next step, so that the center is the generation's result.

    In local mode a Gaussian searcher follows the gradient of a population only when the next one is drawn. Doing it at
    once draws no random numbers and gives the same centers; afterwards the population is no part of the state.
    """
    if isinstance(searcher, RGS | Holding) or searcher._first_iter or searcher._population is None:
        return
    population = searcher._population
    gradients = searcher._distribution.compute_gradients(
        population.access_values(keep_evals=True),
        population.access_evals()[:, 0],
        objective_sense=searcher.problem.senses[0],
        ranking_method=searcher._ranking_method,
    )
    searcher._update_distribution(gradients)
    searcher._first_iter = True


def run_generation(searcher: SearchAlgorithm) -> None:
    """One whole generation, up to the center's update."""
    searcher.step()
    finish_generation(searcher)


def set_learning_rate(searcher: SearchAlgorithm, rate: float) -> None:
    """Let the optimizer's next steps have size ``rate``; without an optimizer, those of the center itself."""
    if isinstance(searcher, Holding):
        searcher.set_rate(rate)
    elif searcher.optimizer is None:
        searcher._center_learning_rate = rate
    else:
        for group in searcher.optimizer.param_groups:
            if "max_speed" in group:  # ClipUp's speed limit goes with its step size
                group["max_speed"] = 2.0 * rate
            group["lr"] = rate


def set_stdev(searcher: SearchAlgorithm, stdev: float) -> None:
    """Give every weight the noise ``stdev``, or where noise is relative, this multiple of its layer's scale."""
    if isinstance(searcher, Holding):
        searcher.set_spread(stdev)
        return
    distribution = searcher._distribution
    scale = distribution.parameters.get("scale")
    sigma = torch.full_like(distribution.sigma, stdev) if scale is None else stdev * scale
    searcher._distribution = distribution.modified_copy(sigma=sigma)


def mean_loss(searcher: SearchAlgorithm) -> float:
    """Mean fitness of the last population, wherever it was evaluated; of a genetic algorithm, of its parents."""
    return float(searcher.status["mean_eval"])


def searcher_state(searcher: SearchAlgorithm) -> dict[str, Any]:
    """All that has to be saved of a searcher after :func:`finish_generation`, as tensors and plain values."""
    if isinstance(searcher, Holding):
        return {**searcher.held(), "steps": int(searcher.step_count)}
    distribution = searcher._distribution
    optimizer = searcher.optimizer
    if optimizer is None:
        saved = {}
    elif isinstance(optimizer, torch.optim.Optimizer):
        saved = {name: torch.as_tensor(v).clone() for name, v in _slot(optimizer).items() if v is not None}
    else:
        saved = {"velocity": optimizer._velocity.clone()}
    given = distribution.parameters
    held = {key: given[name].clone() for key, name in _SAVED.items() if given.get(name) is not None}
    return held | {"optimizer": saved, "steps": int(searcher.step_count)}


def restore_searcher(searcher: SearchAlgorithm, saved: dict[str, Any]) -> None:
    """Put a freshly built searcher into a saved state; it goes on bit for bit."""
    searcher._steps_count = saved["steps"]
    if isinstance(searcher, Holding):
        searcher.hold(saved)
        return
    distribution = searcher._distribution
    held = {name: saved[key].to(distribution.mu) for key, name in _SAVED.items() if key in saved}
    searcher._distribution = distribution.modified_copy(**held)
    optimizer = searcher.optimizer
    if isinstance(optimizer, torch.optim.Optimizer):
        for name, value in saved["optimizer"].items():  # torch keeps step counts, which are scalars, on the CPU
            _slot(optimizer)[name] = value.to(held["mu"], copy=True) if value.dim() else value.clone()
    elif optimizer is not None:
        optimizer._velocity = saved["optimizer"]["velocity"].to(held["mu"])
    searcher._first_iter = True
    searcher._population = None


def _slot(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a torch optimizer remembers of the one vector it moves."""
    slot: dict[str, Any] = optimizer.state[optimizer.param_groups[0]["params"][0]]
    return slot
