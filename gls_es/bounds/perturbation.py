"""What may be done to an image: a radius for all pixels or one for each, in the L∞ or the L2 norm.

With radii e_i, one a pixel, the L∞ region around x is the box |z_i - x_i| <= e_i; the L2 region is the ball
||z - x||_2 <= e. A pixel with radius 0 stays as it is, which makes masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gls_es.basics.checks import is_plain, radius, vanishes
from gls_es.basics.modes import usable
from gls_es.bounds.box import Box
from gls_es.errors import ConfigError

NORMS = ("linf", "l2")
"""What ``norm=`` takes."""


@dataclass(frozen=True, eq=False)
class Perturbation:
    """The shape of the region around every image; its size is a radius eps, given when it is asked for.

    Attributes:
        norm: one of :data:`NORMS`.
        weights: the pixels' radii relative to eps, in [0, 1], of a shape that broadcasts to an image; None: all 1.
    """

    norm: str = "linf"
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ConfigError(f"unknown norm {self.norm!r}: choose one of {', '.join(NORMS)}.")
        if self.norm != "linf" and self.weights is not None:
            raise ConfigError("an L2 ball has one radius; a tensor of radii needs norm='linf'.")

    @property
    def plain(self) -> bool:
        """Whether it is the L∞ ball with one radius."""
        return self.norm == "linf" and self.weights is None

    def radii(self, eps: float) -> float | Tensor:
        """The radius for all pixels, or each pixel's in float64."""
        return eps if self.weights is None else self.weights.double() * eps

    def reach(self, images: Tensor, eps: float) -> float | Tensor:
        """The same with the images' dtype, on their device."""
        return eps if self.weights is None else self.weights.to(images) * eps

    def ends(self, images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """Lower and upper ends of the smallest boxes in [0, 1] that hold the regions, (B, *input_shape) each."""
        reach = self.reach(images, eps)
        return (images - reach).clamp(min=0.0), (images + reach).clamp(max=1.0)

    def around(self, images: Tensor, eps: float) -> Box:
        """The regions as bounds read them: boxes cut off at 0 and 1, or whole L2 balls, (1, B, *input_shape)."""
        if self.norm == "linf":
            return Box.between(*self.ends(images, eps))
        return Box(images[None], torch.full_like(images, eps)[None], round=True)


def split_radii(value: Any, shape: Sequence[int], *, norm: Any = "linf") -> tuple[float, Tensor | None]:
    """A radius as a number, and where it was a tensor, an array or a list, the pixels' radii.

    Args:
        value: a number in [0, 1] or a text such as "8/255"; or radii in [0, 1] of a shape that broadcasts to an image.
            (C,) for images (C, H, W) means a radius for each channel. Radii of L2 balls reach sqrt(d) for d pixels.
        shape: of an image.
        norm: a name from :data:`NORMS`.

    Returns:
        The largest radius, and the radii as float64 of the image's number of axes; None for a number.

    Raises:
        ConfigError: a value that is no radius, or a shape that does not fit.
    """
    most = math.sqrt(math.prod(shape)) if norm == "l2" else 1.0
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0) > 0:  # a tensor, or an array
        if isinstance(value, Tensor) and (not is_plain(value) or value.is_quantized or value.is_complex()):
            raise ConfigError("eps as a tensor must be a dense one that holds real numbers; to_dense() makes one.")
        try:
            radii = torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()
            radii = usable(radii)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise ConfigError(f"eps must be a number or a tensor of radii, not {type(value).__name__}.") from None
        if isinstance(value, list | tuple) and any(map(vanishes, _numbers(value))):
            raise ConfigError("eps: a radius is not 0 and less than any float is; give 0, or more.")
        return _checked(radii, tuple(shape), most)
    return radius(value, most=most), None


def _numbers(value: Any) -> Iterator[Any]:
    """The single numbers in lists of lists."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)
    else:
        yield value


def _checked(radii: Tensor, shape: tuple[int, ...], most: float) -> tuple[float, Tensor]:
    if len(shape) == 3 and tuple(radii.shape) == shape[:1]:
        radii = radii[:, None, None]
    found = tuple(radii.shape)
    fits = len(found) <= len(shape) and all(a in (1, b) for a, b in zip(found[::-1], shape[::-1], strict=False))
    if not fits:
        raise ConfigError(
            f"eps of shape {found} does not fit images of shape {shape}; give a number, one radius a channel, or one "
            "a pixel."
        )
    if radii.numel() == 0 or not bool(((radii >= 0) & (radii <= most)).all()):
        raise ConfigError(f"every radius in eps must be between 0 and {most:.4g}, in pixel units before normalisation.")
    return float(radii.max()), radii.reshape(*[1] * (len(shape) - len(found)), *found).contiguous()


def perturbation_of(value: Any, norm: Any, shape: Sequence[int]) -> tuple[float, Perturbation]:
    """The largest radius and the shape of the region, of what a user gave for ``eps`` and ``norm``.

    Args:
        value: as for :func:`split_radii`.
        norm: a name from :data:`NORMS`.
        shape: of an image.

    Raises:
        ConfigError: a value that is no radius, a shape that does not fit, or another norm.
    """
    eps, radii = split_radii(value, shape, norm=norm)
    weights = None if radii is None else radii / eps if eps > 0 else radii
    return eps, Perturbation(norm if isinstance(norm, str) else repr(norm), weights)
