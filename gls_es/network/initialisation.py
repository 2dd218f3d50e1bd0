"""Initial weights, where those that torch gives are not wanted."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

INITIALISATIONS = ("default", "ibp", "ibp-hidden")
"""What ``initial_weights=`` takes: the module's own, or IBP initialisation of all layers, or of all but the last."""


@torch.no_grad()
def initialise(module: nn.Module, kind: str) -> nn.Module:
    """Overwrite a module's weights as ``kind`` says, from torch's global generator; everything else stays.

    IBP initialisation (Shi et al. 2021, arXiv 2103.17268, section 4.1) draws the weights of linear and convolutional
    layers from N(0, 2π / fan_in²) and makes their biases zero. An affine layer multiplies the mean radius of intervals
    by fan_in E|w| = 2 then, and a ReLU about halves it: intervals neither grow nor shrink with depth.

    Args:
        module: the network, changed in place.
        kind: a name from :data:`INITIALISATIONS`.

    Returns:
        The module.
    """
    layers = [m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    chosen = {"default": [], "ibp": layers, "ibp-hidden": layers[:-1]}[kind]
    for layer in chosen:
        weight: Tensor = layer.weight
        weight.normal_(0.0, math.sqrt(2.0 * math.pi) / weight[0].numel())
        if layer.bias is not None:
            layer.bias.zero_()
    return module
