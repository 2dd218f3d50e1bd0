"""Images of each verdict, as PNG data inside the page; a falsified one with its counterexample and the perturbation."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gls_es.certification.report import Verdict

KINDS = ("certified", "falsified", "unknown", "misclassified")


@dataclass(frozen=True)
class Exhibit:
    """One image of the gallery.

    Attributes:
        verdict: what was found.
        pictures: titles and data URIs: the image, and for a falsified one the counterexample and the perturbation,
            scaled so that eps is black or white.
    """

    verdict: Verdict
    pictures: tuple[tuple[str, str], ...]


def gallery(verdicts: Sequence[Verdict], images: Tensor, eps: float, *, each: int) -> dict[str, list[Exhibit]]:
    """The first ``each`` images of every verdict.

    Args:
        verdicts: by image.
        images: (N, C, H, W), in [0, 1], at least as many as the largest index + 1.
        eps: the radius, in pixel units.
        each: images per verdict.
    """
    chosen = {kind: [v for v in verdicts if v.verdict == kind and v.index < len(images)][:each] for kind in KINDS}
    return {
        kind: [Exhibit(v, _pictures(v, images[v.index], eps)) for v in found] for kind, found in chosen.items() if found
    }


def _pictures(verdict: Verdict, image: Tensor, eps: float) -> tuple[tuple[str, str], ...]:
    shown = [("image", data_uri(image))]
    if verdict.counterexample is not None:
        change = verdict.counterexample - image
        scaled = 0.5 + change / (2 * eps) if eps > 0 else torch.full_like(change, 0.5)
        shown += [("counterexample", data_uri(verdict.counterexample)), ("perturbation", data_uri(scaled))]
    return tuple(shown)


def data_uri(image: Tensor) -> str:
    """An image (C, H, W) with 1 or 3 channels in [0, 1] as a data URI."""
    from matplotlib.image import imsave

    pixels = image.detach().cpu().float().clamp(0, 1).permute(1, 2, 0)  # (H, W, C)
    pixels = pixels.expand(-1, -1, 3) if pixels.shape[2] == 1 else pixels[..., :3]
    target = io.BytesIO()
    imsave(target, pixels.contiguous().numpy(), format="png")
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode("ascii")
