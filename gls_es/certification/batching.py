"""How many images to work on at once, from the sizes of the network's layers and a stated memory budget."""

from __future__ import annotations

import math

from gls_es.certification.stages import Specification

MEMORY_BUDGET = 2**30
"""Bytes that a batch of the default size is estimated to need at most, the weights not counted."""
MOST_IMAGES = 100
"""Images of a default batch at most: what a killed run loses."""
MOST_SPLIT = 25
"""The same where branch and bound, which may take seconds an image, is one of the stages."""


def default_batch_size(spec: Specification) -> int:
    """The batch size whose estimated need stays under ``MEMORY_BUDGET``, at least 1, and at most as said above.

    The attack keeps the input, about two values per neuron, and their gradients in float32 for all its runs at once.
    The bounds keep about sixteen float64 numbers per pixel and neuron; the coefficients of their backward passes have a
    budget of their own (``gls_es.bounds.Plan``). The larger of the two counts.
    """
    network = spec.network
    pixels = math.prod(network.input_shape)
    neurons = sum(math.prod(shape) for shape in network.relu_shapes)
    runs = spec.attack.restarts * len(spec.attack.objectives(network.num_classes)) if "attack" in spec.stages else 1
    attack = 4 * 2 * runs * (pixels + 2 * neurons)
    bounds = 8 * 16 * (pixels + 2 * neurons)
    most = MOST_SPLIT if "bab" in spec.stages else MOST_IMAGES
    return max(1, min(most, MEMORY_BUDGET // max(attack, bounds)))
