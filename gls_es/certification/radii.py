"""The largest radius at which each image is certified, by bisection on a grid of radii.

The grid is 0, t, 2t, ... with the tolerance t, so a reported radius is one at which ``certify`` itself said
"certified". Verdicts are monotone in the radius: what is certified at one is certified below it, what is falsified at
one is falsified above it. Bisection treats "unknown" as "not certified"; so a radius is exact up to t for images whose
smallest falsified radius is one step above it, and else a lower limit.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gls_es.basics.checks import as_real, shown
from gls_es.basics.intervals import wilson_interval
from gls_es.basics.modes import ordinary_modes
from gls_es.basics.version import versions
from gls_es.certification import inputs
from gls_es.certification.attack import AttackOptions
from gls_es.certification.certifier import certify
from gls_es.certification.identity import DIGEST, data_digest, network_digest
from gls_es.certification.radius_log import RadiusLog, Step
from gls_es.certification.report import Verdict
from gls_es.certification.stages import STAGES
from gls_es.errors import ConfigError

LARGEST_GRID = 2**20
"""Radii that a grid may have at most."""
TIMEOUT = 2.0
"""Seconds that the search may take for one image at one radius, unless something else is said: bisection may meet
several radii at which it decides nothing."""
FAST = tuple(name for name in STAGES if name != "bab")
"""The stages by default. Branch and bound, ten times as slow on small networks, widens a radius by a few per cent."""
_AT_ONCE = 64


@dataclass(frozen=True)
class ImageRadius:
    """What bisection found for one image.

    Attributes:
        index: position of the image in the images given.
        label: the class that must be kept.
        radius: the largest radius at which the image was certified; None if it was at none, not even 0.
        stage: the stage that certified it there.
        margin: the margin certified there.
        uncertified: the smallest radius tried at which it was not certified; None if it is certified at the largest.
        falsified: the smallest radius tried at which a counterexample was found (0: misclassified as it is), or None.
    """

    index: int
    label: int
    radius: float | None
    stage: str | None
    margin: float | None
    uncertified: float | None
    falsified: float | None


@dataclass(frozen=True, eq=False)
class RadiusReport:
    """The certified radii of a set of images.

    Attributes:
        images: one per image, in the images' order.
        tolerance: distance of neighbouring radii of the grid.
        largest: the largest radius of the grid.
        checkpoint: digest of the file that the network comes from, if there is one.
        network: SHA-256 of the network's structure and weights.
        seconds: spent on all images, those of a resumed run included.
    """

    images: tuple[ImageRadius, ...]
    tolerance: float
    largest: float
    checkpoint: str | None
    network: str
    seconds: float

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.images)

    def certified_at(self, eps: float) -> int:
        """How many images are certified at a radius."""
        return sum(image.radius is not None and image.radius >= eps for image in self.images)

    def standing_at(self, eps: float) -> int:
        """How many images have no known counterexample at a radius; those certified there among them."""
        return sum(image.falsified is None or image.falsified > eps for image in self.images)

    def to_json(self) -> dict[str, Any]:
        """The report as plain values; accuracies are fractions."""
        known = [image.radius if image.radius is not None else 0.0 for image in self.images]
        natural = sum(image.falsified != 0 for image in self.images)
        return {
            "n": self.n,
            "tolerance": self.tolerance,
            "largest": self.largest,
            "natural_accuracy": natural / self.n,
            "natural_accuracy_95": list(wilson_interval(natural, self.n)),
            "mean_radius": statistics.fmean(known),
            "median_radius": statistics.median(known),
            "seconds": self.seconds,
            "checkpoint": self.checkpoint,
            "network": self.network,
            "versions": versions(),
            "images": [asdict(image) for image in self.images],
        }


@dataclass
class _Search:
    """One image's interval: certified at grid point ``low`` (-1: at none), not at ``high`` (past the grid: at all)."""

    high: int
    low: int = -1
    falsified: int | None = None
    certificate: Step | None = None

    @property
    def next(self) -> int | None:
        """The grid point to try, or None."""
        return (self.low + self.high) // 2 if self.high - self.low > 1 else None

    @property
    def left(self) -> int:
        """How many grid points are still to be tried, at most."""
        return (self.high - self.low - 1).bit_length()

    def learn(self, step: Step) -> None:
        """Take a verdict in."""
        if step.verdict == "certified":
            self.low, self.certificate = step.point, step
            return
        self.high = step.point
        if step.verdict == "falsified":
            self.falsified = step.point
        elif step.verdict == "misclassified":
            self.high = self.falsified = 0


@ordinary_modes()
def certified_radii(
    network_or_checkpoint: Any,
    images: Tensor,
    labels: Tensor | Sequence[int],
    *,
    tolerance: float = 1 / 1024,
    largest: float = 0.5,
    records: str | Path | None = None,
    progress: Callable[[int, int, dict[str, int]], None] | bool | None = None,
    **options: Any,
) -> RadiusReport:
    """Find for every image the largest radius of a grid at which it is certified.

    Args:
        network_or_checkpoint: as for :func:`~gls_es.certification.certify`.
        images: (n, *input_shape).
        labels: (n,).
        tolerance: the grid's step, in pixel units, > 0.
        largest: the grid ends at the last multiple of ``tolerance`` that is not above it, in (0, 1].
        records: a JSON Lines file that receives each verdict as it is reached; a file of the same run is resumed.
        progress: called after each step with images done, images in all, and how many of those are certified somewhere,
            radii that were tried, and radii that are left to try at most; True writes lines to standard error.
        options: what ``certify`` takes besides; for each radius. By default here ``stages`` are :data:`FAST`, without
            branch and bound, and ``timeout`` is 2.

    Raises:
        ConfigError: an option makes no sense.
        DataError: images or labels make no sense, or the records belong to another run or cannot be written.
    """
    tolerance, points = _grid(tolerance, largest)
    told = inputs.check_records(records, progress)
    options = _limited(options)
    network, checkpoint = inputs.resolve_network(network_or_checkpoint, images, execution=options.get("execution"))
    x = inputs.check_images(images, network, clip=bool(options.get("clip", True)))
    y = inputs.check_labels(labels, n=len(x), num_classes=network.num_classes)
    about = {"network": (digest := network_digest(network)), "checkpoint": checkpoint, "data": data_digest(x, y)}
    identity = _identity(options, **about, n=len(x), tolerance=tolerance, points=points)
    searches = [_Search(high=points + 1) for _ in range(len(x))]
    seconds, tried = 0.0, 0
    with ExitStack() as stack:
        log = None if records is None else stack.enter_context(closing(RadiusLog(Path(records), identity)))
        for step in log.steps if log is not None else []:
            searches[step.index].learn(step)
            seconds += step.seconds
            tried += 1
        for point, chosen in _rounds(searches):
            found = certify(network, x[chosen], y[chosen], point * tolerance, **options).verdicts
            steps = [_step(index, point, verdict) for index, verdict in zip(chosen, found, strict=True)]
            if log is not None:
                log.write(steps)
            for step in steps:
                searches[step.index].learn(step)
                seconds += step.seconds
            tried += len(steps)
            if told is not None:
                told(*_done(searches, tried))
    radii = tuple(_image(i, int(y[i]), search, tolerance, points) for i, search in enumerate(searches))
    return RadiusReport(radii, tolerance, points * tolerance, checkpoint, digest, seconds)


def _identity(options: dict[str, Any], **about: Any) -> dict[str, Any]:
    """Everything that the radii depend on; the header of a file of records."""
    plain = {name: _plain(value) for name, value in sorted(options.items())}
    return {"network_digest": DIGEST, "options": plain, "versions": versions(), **about}


def _limited(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with the fast stages and a limit of time if none are given; refuses the radius."""
    if "eps" in options:
        raise ConfigError("eps is what certified_radii() looks for; give tolerance and largest instead")
    options = {"stages": FAST, **options}
    given = options.get("timeout") is not None or options.get("max_domains") is not None
    return options if given else {**options, "timeout": TIMEOUT}


def _grid(tolerance: float, largest: float) -> tuple[float, int]:
    """The step, and the number of the grid's last point."""
    tolerance, largest = _radius("tolerance", tolerance), _radius("largest", largest)
    points = int(min(largest / tolerance, 1e15))  # the quotient may overflow
    while points * tolerance > largest:
        points -= 1
    if not 1 <= points <= LARGEST_GRID:
        raise ConfigError(
            f"tolerance {tolerance:g} divides {largest:g} into {points:,} steps; 1 to {LARGEST_GRID:,} do"
        )
    return tolerance, points


def _radius(name: str, value: float) -> float:
    number = as_real(value)
    if number is None or not 0 < number <= 1:
        raise ConfigError(f"{name} must be a number in (0, 1], in pixel units, not {shown(value)}")
    return number


def _rounds(searches: list[_Search]) -> Iterator[tuple[int, list[int]]]:
    """What to certify next, until nothing is left: a grid point, and images of one block that are there now.

    Blocks of images are fixed, so that a resumed run asks in the same way as one that was not stopped.
    """
    for start in range(0, len(searches), _AT_ONCE):
        block = range(start, min(start + _AT_ONCE, len(searches)))
        while True:
            waiting: dict[int, list[int]] = {}
            for index in block:
                point = searches[index].next
                if point is not None:
                    waiting.setdefault(point, []).append(index)
            if not waiting:
                break
            point = min(waiting)
            yield point, waiting[point]


def _done(searches: list[_Search], tried: int) -> tuple[int, int, dict[str, int]]:
    """Images done, images in all, how many of those done are certified somewhere, and radii tried and left."""
    done = [search for search in searches if search.next is None]
    left = sum(search.left for search in searches)
    counts = {"certified somewhere": sum(search.low >= 0 for search in done), "radii tried": tried, "radii left": left}
    return len(done), len(searches), counts


def _step(index: int, point: int, verdict: Verdict) -> Step:
    return Step(index, point, verdict.verdict, verdict.stage, verdict.margin, verdict.seconds)


def _image(index: int, label: int, search: _Search, tolerance: float, points: int) -> ImageRadius:
    certificate = search.certificate
    return ImageRadius(
        index=index,
        label=label,
        radius=None if certificate is None else search.low * tolerance,
        stage=None if certificate is None else certificate.stage,
        margin=None if certificate is None else certificate.margin,
        uncertified=None if search.high > points else search.high * tolerance,
        falsified=None if search.falsified is None else search.falsified * tolerance,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, AttackOptions):
        return {name: _plain(part) for name, part in asdict(value).items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
