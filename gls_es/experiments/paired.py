"""Differences between two cells that trained with the same seeds and were certified on the same images.

What two runs have in common, the seed's minibatches and the images' difficulty, cancels in a difference of the two on
the same image, so that far smaller differences can be told from chance than by two separate means.

* The interval is a percentile bootstrap over both, seeds and images: each resample draws seeds with replacement, and
  images with replacement, and takes the mean difference of every drawn image under every drawn seed (the pigeonhole
  bootstrap, Owen 2007, Annals of Applied Statistics 1(2), conservative for crossed samples). With one seed it says
  nothing of what another seed would give, with few seeds little.
* The p-value is McNemar's, exact: of the images on which the two differ, each is as likely to be in favour of one as
  of the other. With several seeds, an image is in favour of the cell under which more seeds have it; images on which
  they are level do not count. An image counts once, because its seeds are not independent of each other. It is about
  the networks that were trained, not about others that the same recipe would give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from gls_es.basics.seeding import derived_seed
from gls_es.experiments.tables import Table

RESAMPLES = 4000
"""Of the bootstrap: the ends of an interval are then uncertain by about a hundredth of its width."""
CONFIDENCE = 0.95
_HELD: Mapping[str, str] = {"certified": "c", "natural": "cfu"}
"""The verdicts, by their first letters, with which an image counts as right."""


@dataclass(frozen=True)
class Difference:
    """An accuracy of a cell minus the reference's, as fractions.

    Attributes:
        mean: over seeds and images.
        low: lower end of the interval.
        high: upper end of it.
        ahead: images that the cell has under more seeds.
        behind: images that the reference has under more seeds.
        p: of McNemar's exact test, two-sided.
    """

    mean: float
    low: float
    high: float
    ahead: int
    behind: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """A cell beside the reference.

    Attributes:
        cell: its name.
        reference: the name of the cell that it is compared with.
        seeds: those that both have.
        images: certified by both, under each of them.
        certified: the difference in certified accuracy.
        natural: the difference in natural accuracy.
    """

    cell: str
    reference: str
    seeds: tuple[int, ...]
    images: int
    certified: Difference
    natural: Difference

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values."""
        return asdict(self)


def compare(table: Table, results: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """Every cell that has results beside the best cell with gradients, in the table's order.

    The best is that of the highest mean certified accuracy among the cells of the searcher "grad", without those of
    other losses and what starts from other cells. Results without ``outcomes``, of older versions, are left out.

    Args:
        table: whose cells.
        results: as :func:`gls_es.experiments.read_results` gives them.

    Returns:
        The comparisons; none if there is no cell with gradients, or no other one with seeds in common.
    """
    runs: dict[str, dict[int, str]] = {name: {} for name in table.cell_names}
    for result in results:
        if result["cell"] in runs and isinstance(result.get("outcomes"), str):
            runs[result["cell"]][result["seed"]] = result["outcomes"]
    best = _reference(table, runs)
    found = [_comparison(name, best, runs) for name in table.cell_names if best and name != best]
    return [comparison for comparison in found if comparison is not None]


def _reference(table: Table, runs: Mapping[str, Mapping[int, str]]) -> str:
    """The best cell with gradients; empty if there is none with results."""
    means = {
        cell.name: _mean_certified(runs[cell.name])
        for cell in table.cells
        if cell.searcher == "grad" and "loss" not in cell.settings and not cell.start and runs[cell.name]
    }
    return max(means, key=lambda name: means[name], default="")


def _mean_certified(runs: Mapping[int, str]) -> float:
    return sum(outcomes.count("c") / len(outcomes) for outcomes in runs.values()) / len(runs)


def _comparison(cell: str, reference: str, runs: Mapping[str, Mapping[int, str]]) -> Comparison | None:
    own, other = runs[cell], runs[reference]
    seeds = tuple(sorted(own.keys() & other.keys()))
    if not seeds:
        return None
    images = min(len(of[seed]) for of in (own, other) for seed in seeds)
    found = {
        name: difference(
            *(torch.tensor([[letter in held for letter in of[seed][:images]] for seed in seeds]) for of in (own, other))
        )
        for name, held in _HELD.items()
    }
    return Comparison(cell, reference, seeds, images, **found)


def difference(own: Tensor, other: Tensor) -> Difference:
    """Two cells' outcomes compared.

    Args:
        own: whether a run has an image, bool (S, N): S seeds, N images.
        other: the reference's, of the same seeds and images.
    """
    values = own.double() - other.double()
    lead = values.sum(0)
    ahead, behind = int((lead > 0).sum()), int((lead < 0).sum())
    low, high = interval(values)
    return Difference(float(values.mean()), low, high, ahead, behind, mcnemar(ahead, behind))


def mcnemar(ahead: int, behind: int) -> float:
    """The exact two-sided p-value: twice the smaller tail of a binomial with probability one half, at most 1."""
    count, fewer = ahead + behind, min(ahead, behind)
    tail = sum(math.comb(count, k) for k in range(fewer + 1))
    return min(1.0, 2.0 * (tail / (1 << count)))  # whole numbers until here: nothing overflows


def interval(values: Tensor, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The percentile interval of the mean of ``values``, (S, N), seeds and images drawn anew.

    The same resamples for everything of the same shape, whatever was computed before.
    """
    tail = (1.0 - confidence) / 2
    means = bootstrap_means(values, resamples)
    low, high = torch.quantile(means, torch.tensor([tail, 1.0 - tail], dtype=means.dtype)).tolist()
    return low, high


def bootstrap_means(values: Tensor, resamples: int) -> Tensor:
    """The means of resampled ``values``, (S, N) -> (resamples,).

    Images that are alike under every seed are drawn together, by how many of them there are.
    """
    seeds, images = values.shape
    kinds, counts = torch.unique(values, dim=1, return_counts=True)  # (S, D), (D,)
    draw = numpy.random.default_rng(derived_seed(0, "bootstrap"))
    of_images = torch.from_numpy(draw.multinomial(images, counts.double().numpy() / images, resamples))
    of_seeds = torch.from_numpy(draw.multinomial(seeds, numpy.full(seeds, 1 / seeds), resamples))
    means = torch.matmul(of_images.double() / images, kinds.double().T)  # (resamples, S)
    return (of_seeds.double() / seeds * means).sum(1)
