"""Every activation by the name that graphs use: what makes its curve from its constants."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from gls_es.network.activations.absolute import absolute
from gls_es.network.activations.clamp import clamp
from gls_es.network.activations.curve import Curve
from gls_es.network.activations.elu import elu
from gls_es.network.activations.erf import erf
from gls_es.network.activations.gelu import gelu
from gls_es.network.activations.gelu_tanh import gelu_tanh
from gls_es.network.activations.hard_sigmoid import hard_sigmoid
from gls_es.network.activations.hard_swish import hard_swish
from gls_es.network.activations.sigmoid import sigmoid
from gls_es.network.activations.silu import silu
from gls_es.network.activations.softplus import softplus
from gls_es.network.activations.tanh import tanh

CURVES: dict[str, Callable[..., Curve]] = {
    "abs": absolute,
    "clamp": clamp,
    "elu": elu,
    "erf": erf,
    "gelu": gelu,
    "gelu-tanh": gelu_tanh,
    "hard-sigmoid": hard_sigmoid,
    "hard-swish": hard_swish,
    "sigmoid": sigmoid,
    "silu": silu,
    "softplus": softplus,
    "tanh": tanh,
}


@lru_cache(maxsize=256)
def curve(kind: str, constants: tuple[float, ...]) -> Curve:
    """The curve called ``kind`` with these constants."""
    return CURVES[kind](*constants)
