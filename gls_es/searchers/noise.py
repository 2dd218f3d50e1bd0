"""Noise per layer: its scale where σ is relative, and how large it is against the weights."""

from __future__ import annotations

import math

import torch
from evotorch.algorithms.searchalgorithm import SearchAlgorithm
from torch import Tensor

from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.searchers.state import position, spread


def layers(problem: CertifiedTrainingProblem) -> dict[str, dict[str, slice]]:
    """Parameters grouped by the module that holds them: layer -> own name of the parameter -> place in θ."""
    groups: dict[str, dict[str, slice]] = {}
    for name, place in problem.network.named_slices().items():
        module, _, own = name.rpartition(".")
        groups.setdefault(module or own, {})[own] = place
    return groups


def layer_scale(problem: CertifiedTrainingProblem, weights: Tensor) -> Tensor:
    """What relative noise is relative to: the root mean square of the layer's weight tensor, for its bias as well.

    The root mean square and not the standard deviation, which is 0 for the scales of a BatchNorm layer. It belongs
    to the weights a run starts from: a σ that followed the weights would change the objective L_σ with its argument,
    and the estimators would no longer give its gradient.

    Args:
        problem: gives the layers.
        weights: (L,) at the start.

    Returns:
        (L,).

    Raises:
        ConfigError: a layer's weights are all 0.
    """
    scale = torch.empty_like(weights)
    for layer, places in layers(problem).items():
        measured = [places["weight"]] if "weight" in places else list(places.values())
        rms = float(torch.cat([weights[place] for place in measured]).square().mean().sqrt())
        if rms == 0.0:
            raise ConfigError(
                f"layer {layer!r} starts with all weights 0, so noise relative to them is none; use "
                'stdev_mode = "absolute".'
            )
        for place in places.values():
            scale[place] = rms
    return scale


def layer_noise(searcher: SearchAlgorithm) -> dict[str, dict[str, float | None]]:
    """How much noise each layer gets.

    Args:
        searcher: on a :class:`gls_es.CertifiedTrainingProblem`.

    Returns:
        By layer: ``stdev``, the root mean square of σ, and ``noise_to_weights``, the expected length of the noise
        relative to that of the weights (None for weights of length 0).
    """
    sigma, center = spread(searcher), position(searcher)
    found: dict[str, dict[str, float | None]] = {}
    for layer, places in layers(searcher.problem).items():
        squares = [float(sum(x[place].double().square().sum() for place in places.values())) for x in (sigma, center)]
        count = sum(place.stop - place.start for place in places.values())
        noise, weights = map(math.sqrt, squares)
        found[layer] = {"stdev": noise / math.sqrt(count), "noise_to_weights": noise / weights if weights else None}
    return found
