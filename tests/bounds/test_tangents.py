"""The two lines of every curve: they enclose it, and the least area between them is nearly reached."""

import pytest
import torch
from torch import Tensor

from gls_es.bounds import pieces
from gls_es.bounds.relaxation import Lines
from gls_es.bounds.tangents import enclosing_lines, lines_of_slopes
from gls_es.network.activations.curve import Curve
from gls_es.network.activations.table import curve
from tests.network.test_activations import CASES

POINTS = 801


@pytest.fixture(autouse=True)
def _sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in large layers, intervals are sorted by the pieces that they meet."""
    monkeypatch.setattr(pieces, "_FEW", 0)


def intervals(f: Curve, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Narrow, wide and degenerate intervals, at all places that a curve names and between them."""
    generator = torch.Generator().manual_seed(5)
    named = torch.tensor([0.0, *f.turns, *f.kinks, *(bow.stop for bow in f.bows if bow.stop < 100)])
    centre = torch.cat([6 * torch.randn(300, generator=generator), named, 40 * torch.randn(40, generator=generator)])
    widths = 10.0 ** (4 * torch.rand(len(centre), generator=generator) - 3)
    share = torch.rand(len(centre), generator=generator)
    share[300 : 300 + len(named)] = torch.tensor([0.0, 0.5, 1.0, 0.3]).repeat(len(named))[: len(named)]
    widths[::17] = 0.0
    lower = (centre - share * widths).to(dtype)
    return lower[None], (centre + (1 - share) * widths).to(dtype)[None]


def sides(lines: Lines, z: Tensor) -> tuple[Tensor, Tensor]:
    """The lines' values at z, below and above."""
    middle, half = lines.mean * z + lines.mean_offset, lines.half * z + lines.half_offset
    return middle - half, middle + half


def envelope(f: Curve, lower: Tensor, upper: Tensor, place: float, sign: float) -> Tensor:
    """An envelope of a curve at lower + place (upper - lower): the best chord between any two of many points."""
    z = lower + (upper - lower) * torch.linspace(0, 1, POINTS, dtype=lower.dtype)[:, None, None]
    at = lower + place * (upper - lower)
    value, best = sign * f.value(z), sign * f.value(at)
    split = round(place * (POINTS - 1))
    left, right = (z[: split + 1], value[: split + 1]), (z[split:], value[split:])
    for x, y in zip(*left, strict=True):
        share = (at - x) / (right[0] - x).clamp_min(1e-300)
        best = torch.maximum(best, (y + (right[1] - y) * share).amax(0))
    return sign * best


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0, None])
@pytest.mark.parametrize(("kind", "constants"), CASES)
def test_lines_enclose(kind: str, constants: tuple[float, ...], place: float | None, dtype: torch.dtype) -> None:
    f = curve(kind, constants)
    lower, upper = intervals(f, dtype)
    z = lower + (upper - lower) * torch.linspace(0, 1, 3001, dtype=dtype)[:, None, None]
    below, above = (side.double() for side in sides(enclosing_lines(f, lower, upper, None, place), z))
    value = f.value(z.double())
    size = 1 + f.largest(lower, upper) + f.steepest * torch.maximum(lower.abs(), upper.abs())
    rounding = 64 * torch.finfo(dtype).eps * size
    assert (below <= value + rounding).all()
    assert (above >= value - rounding).all()


@pytest.mark.parametrize(("kind", "constants"), CASES)
def test_whatever_the_slopes_the_lines_enclose_and_touch(kind: str, constants: tuple[float, ...]) -> None:
    """Slopes that are optimised may be any; a line that is moved towards the curve by a little does not bound it."""
    f = curve(kind, constants)
    lower, upper = intervals(f)
    generator = torch.Generator().manual_seed(6)
    slopes = [3 * torch.randn(lower.shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    z = lower + (upper - lower) * torch.linspace(0, 1, 8001, dtype=torch.float64)[:, None, None]
    below, above = sides(lines_of_slopes(f, lower, upper, None, (slopes[0], slopes[1])), z)
    value = f.value(z)
    scale = 1 + torch.maximum(lower.abs(), upper.abs())
    missed = (f.steepest + 9) * (upper - lower) / 8000
    for gap in (value - below, above - value):
        assert (gap >= -1e-14 * scale * 10).all()
        assert (gap.amin(0) <= missed + 1e-13 * scale).all()


@pytest.mark.parametrize(("kind", "constants"), CASES)
def test_the_area_between_is_nearly_the_least(kind: str, constants: tuple[float, ...]) -> None:
    """A line's area is its value in the middle, and no line is nearer to the curve there than the envelope is."""
    f = curve(kind, constants)
    lower, upper = intervals(f)
    lines = enclosing_lines(f, lower, upper, None, 0.5)
    below, above = sides(lines, (lower + upper) / 2)
    best = envelope(f, lower, upper, 0.5, -1.0), envelope(f, lower, upper, 0.5, 1.0)
    room = best[1] - best[0]
    slack = 1e-13 * (1 + torch.maximum(lower.abs(), upper.abs()))
    assert (above - below <= 1.01 * room + slack).all()
    assert (above - below >= room - slack).all()


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0, None])
@pytest.mark.parametrize(("kind", "constants"), CASES)
def test_gradients_of_lines_are_those_of_differences(
    kind: str, constants: tuple[float, ...], place: float | None
) -> None:
    f = curve(kind, constants)
    ends = [end.clone().requires_grad_() for end in intervals(f)]
    wide = (ends[1] - ends[0]).detach() > 1e-2

    def parts(lower: Tensor, upper: Tensor) -> Tensor:
        lines = enclosing_lines(f, lower, upper, None, place)
        return torch.stack([lines.mean, lines.half, lines.mean_offset, lines.half_offset])

    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(4, 1, 1, generator=generator, dtype=torch.float64)
    steps = [1e-6 * torch.randn(ends[0].shape, generator=generator, dtype=torch.float64) for _ in ends]
    gradients = torch.autograd.grad((parts(*ends) * weights).sum(), ends)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    with torch.no_grad():
        forward, backward = (parts(*(e + k * s for e, s in zip(ends, steps, strict=True))) for k in (1, -1))
        found = ((forward - backward) * weights).sum(0) / 2
    expected = sum(g * s for g, s in zip(gradients, steps, strict=True))
    scale = 1 + torch.maximum(ends[0].abs(), ends[1].abs())
    off = (found - expected).abs() > 1e-5 * 1e-6 * scale * (1 + sum(g.abs() for g in gradients))
    # steps across a kink, or to another piece
    assert int((off & wide).sum()) <= 3


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0, None])
@pytest.mark.parametrize(("kind", "constants"), CASES)
def test_intervals_that_are_sorted_by_pieces_get_the_whole_curves_lines(
    kind: str, constants: tuple[float, ...], place: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = curve(kind, constants)
    lower, upper = intervals(f)
    at = torch.lerp(lower, upper, 0.5 if place is None else min(max(place, 1 / 64), 63 / 64))
    alone = sides(enclosing_lines(f, lower, upper, None, place), at)
    monkeypatch.setattr(pieces, "_FEW", 1 << 30)
    whole = sides(enclosing_lines(f, lower, upper, None, place), at)
    slack = 1e-13 * (1 + f.largest(lower, upper) + f.steepest * torch.maximum(lower.abs(), upper.abs()))
    room = 0.01 * (whole[1] - whole[0]) + slack  # searches from other starting points
    assert (alone[0] >= whole[0] - room).all()
    assert (alone[1] <= whole[1] + room).all()


@pytest.mark.parametrize(("kind", "constants"), CASES)
def test_offsets_of_given_slopes_do_not_depend_on_the_pieces_that_an_interval_misses(
    kind: str, constants: tuple[float, ...]
) -> None:
    f = curve(kind, constants)
    lower, upper = intervals(f)
    slope = 3 * torch.randn(lower.shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)

    def found(piece: Curve, low: Tensor, up: Tensor, slopes: Tensor) -> tuple[Tensor, ...]:
        return lines_of_slopes(piece, low, up, None, (slopes, slopes)).parts

    slack = 1e-9 * (1 + f.largest(lower, upper) + (f.steepest + 9) * torch.maximum(lower.abs(), upper.abs()))
    for alone, whole in zip(
        pieces.by_pieces(f, (lower, upper, slope), found), found(f, lower, upper, slope), strict=True
    ):
        assert ((alone - whole).abs() <= slack).all()
