"""The networks of the named problems as base classes: CNN3, CNN5 and CNN7, with their sizes as options.

A named problem derives from one of these and from one of :mod:`gls_es.problems.sets`. The sizes are constructor
arguments, with class attributes as defaults (like eps), so that they are kept in checkpoints.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem

from . import nets

LARGEST = 4096
"""The most channels or hidden units: more is a slip, and would fill the memory before anybody could say so."""


class _Family(CertifiedTrainingProblem):
    image: ClassVar[nets.ImageFormat]


class CNN3(_Family):
    """Two strided convolutions and a linear layer.

    Args:
        width: channels of the first convolution.
        options: see :class:`gls_es.CertifiedTrainingProblem`.
    """

    width: int = 8
    growth: ClassVar[int] = 1
    """Channels of the second convolution over those of the first."""

    def __init__(self, *, width: int | None = None, **options: Any) -> None:
        self.width = _size(self, "width", width)
        super().__init__(**options)

    def make_network(self) -> nn.Module:
        """See :func:`gls_es.problems.nets.cnn3`."""
        return nets.cnn3(self.image, width=self.width, growth=self.growth)


class CNN5(_Family):
    """Three convolutions and two linear layers.

    Args:
        width: channels of the first convolution; the third has twice as many.
        hidden: units of the first linear layer.
        batch_norm: BatchNorm after every layer but the last.
        options: see :class:`gls_es.CertifiedTrainingProblem`.
    """

    width: int = 16
    hidden: int = 512
    batch_norm: bool = False

    def __init__(
        self,
        *,
        width: int | None = None,
        hidden: int | None = None,
        batch_norm: bool | None = None,
        **options: Any,
    ) -> None:
        self.width = _size(self, "width", width)
        self.hidden = _size(self, "hidden", hidden)
        self.batch_norm = _switch(self, "batch_norm", batch_norm)
        super().__init__(**options)

    def make_network(self) -> nn.Module:
        """See :func:`gls_es.problems.nets.cnn5`."""
        return nets.cnn5(self.image, width=self.width, hidden=self.hidden, batch_norm=self.batch_norm)


class CNN7(CNN5):
    """Five convolutions and two linear layers, with BatchNorm: the network of the state of the art.

    Args:
        width: channels of the first two convolutions; the others have twice as many.
        hidden: units of the first linear layer; by default 8 width, which is the literature's 512 at width 64.
        batch_norm: BatchNorm after every layer but the last.
        options: see :class:`gls_es.CertifiedTrainingProblem`.
    """

    width = 64
    batch_norm = True
    last_stride: ClassVar[int] = 1
    """Stride of the fifth convolution; 2 for 64x64 images."""

    def __init__(self, *, width: int | None = None, hidden: int | None = None, **options: Any) -> None:
        width = _size(self, "width", width)
        super().__init__(width=width, hidden=8 * width if hidden is None else hidden, **options)

    def make_network(self) -> nn.Module:
        """See :func:`gls_es.problems.nets.cnn7`."""
        sizes = {"width": self.width, "hidden": self.hidden, "last_stride": self.last_stride}
        return nets.cnn7(self.image, **sizes, batch_norm=self.batch_norm)


def _size(problem: CertifiedTrainingProblem, name: str, value: Any) -> int:
    """The value given, or the class' own."""
    if value is None:
        own: int = getattr(type(problem), name)
        return own
    if type(value) is not int or not 1 <= value <= LARGEST:
        raise ConfigError(f"{name} must be a whole number between 1 and {LARGEST}, not {value!r}.")
    return value


def _switch(problem: CertifiedTrainingProblem, name: str, value: Any) -> bool:
    if value is None:
        own: bool = getattr(type(problem), name)
        return own
    if type(value) is not bool:
        raise ConfigError(f"{name} must be true or false, not {value!r}.")
    return value
