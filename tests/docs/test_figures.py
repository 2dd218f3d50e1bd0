"""The pictures of the pages are those that docs/make_figures.py makes, and show what the pages say of them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from gls_es import bounds
from tests.docs.markdown import PAGES, ROOT, images

FOLDER = ROOT / "docs" / "figures"
Make = Callable[[str], ModuleType]
CONCEPTS = ROOT / "docs" / "concepts.md"


@pytest.fixture(scope="module")
def make() -> Iterator[Callable[[str], ModuleType]]:
    """The script and the modules of docs/pictures by name, imported as the script imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVOTORCH_VERBOSE_LEVEL", "0")
        patch.syspath_prepend(ROOT / "docs")
        yield importlib.import_module


def test_images_are_there_and_are_described() -> None:
    for page in PAGES:
        for text, target in images(page):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"
            assert len(text) > 40, f"{page.name}: {target} needs a text that says what it shows"


@pytest.mark.slow
def test_the_script_makes_the_files_that_the_pages_show(make: Make, tmp_path: Path) -> None:
    made = make("make_figures").main(tmp_path / "new")
    shown = {(page.parent / target).resolve() for page in PAGES for _, target in images(page)}
    shown = {path for path in shown if path.parent != ROOT / "benchmarks" / "results"}  # drawn by gls-es reproduce
    assert {path.name for path in made} == {path.name for path in (tmp_path / "new").iterdir()}
    assert {FOLDER / path.name for path in made} == set(FOLDER.iterdir()) == shown
    for path in (*made, *FOLDER.iterdir()):
        assert path.stat().st_size < 60_000
        text = path.read_text(encoding="utf-8")
        assert "<dc:date>" not in text
        assert text.startswith("<?xml")
    assert "σ = 0.003" in (tmp_path / "new" / "landscape.svg").read_text(encoding="utf-8")  # text is not rounded


# -- relaxations ------------------------------------------------------------------------------------------------------


def test_the_lines_enclose_relu(make: Make) -> None:
    picture = make("pictures.relaxations")
    for shown in picture.enclosures():
        z = torch.linspace(shown.lower, shown.upper, 1001, dtype=torch.float64)
        below, above = (slope * z + offset for slope, offset in (shown.below, shown.above))
        assert bool((below <= z.relu() + 1e-12).all())
        assert bool((z.relu() <= above + 1e-12).all())
        assert shown.area == pytest.approx(float(torch.trapezoid(above - below, z)))


def test_what_the_page_says_of_the_lines(make: Make) -> None:
    picture = make("pictures.relaxations")
    box, on, off, parallel = picture.enclosures()
    assert on.area == off.area < parallel.area < box.area
    assert on.upper > -on.lower
    assert on.below == (1, 0)
    assert off.upper < -off.lower
    assert off.below == (0, 0)
    assert parallel.below[0] == parallel.above[0]
    # the switch: at once for crown, gradual for deepz
    ends = (1 - 1e-9, 1 + 1e-9)
    crown = [picture.enclosure("", -1.0, u, picture.adaptive).below[0] for u in ends]
    deepz = [picture.enclosure("", -1.0, u, picture.same).below[0] for u in ends]
    assert crown == [0, 1]
    assert abs(deepz[1] - deepz[0]) < 1e-8


# -- tightness --------------------------------------------------------------------------------------------------------


def test_every_bound_lies_below_every_value(make: Make) -> None:
    picture = make("pictures.tightness")
    shown = picture.tightness()
    least = shown.image.amin((0, 1))
    for method, corner in shown.corners.items():
        assert all(bound <= float(value) + 1e-9 for bound, value in zip(corner, least, strict=True)), method
        assert bool((shown.bounds[method] <= shown.least + 1e-9).all()), method


def test_what_the_page_says_of_tightness(make: Make) -> None:
    picture = make("pictures.tightness")
    shown = picture.tightness()
    for place in (0, 1):
        values = {method: corner[place] for method, corner in shown.corners.items()}
        assert min(values, key=values.__getitem__) == "ibp"
        assert max(values, key=values.__getitem__) == "best"
    assert float(shown.radii[shown.bounds["ibp"] > 0].max()) == pytest.approx(0.12, abs=0.008)
    between = (shown.radii > 0.093) & (shown.radii < 0.172)
    assert ((shown.bounds["deepz"] > shown.bounds["crown"]) == between).all()
    for method in ("ibp", "crown-ibp", "crown"):
        assert (shown.bounds["best"] >= shown.bounds[method] - 1e-12).all()
    at = int((shown.radii - 0.1).abs().argmin())
    assert shown.bounds["deepz"][at] > shown.bounds["best"][at]


def test_the_step_of_crown_is_a_switch(make: Make) -> None:
    picture = make("pictures.tightness")
    """It is still there after fifty halvings."""
    net, center, label = picture.small_network()

    def least(eps: float) -> float:
        return float(bounds.margins(net, center - eps, center + eps, label, method="crown").min())

    low, high = 0.0859, 0.0938
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if least(low) - least(middle) < least(middle) - least(high) else (low, middle)
    assert least(low) - least(high) > 0.05


# -- landscape --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_the_page_says_of_the_landscape(make: Make) -> None:
    picture = make("pictures.landscape")
    shown = picture.roughness()
    ibp, crown = shown.statistics["ibp"], shown.statistics["crown"]
    assert (ibp.jumps, ibp.minima) == (0, 1)
    assert crown.jumps > 1
    assert crown.largest_jump == pytest.approx(0.14, abs=0.005)
    near = shown.close["crown"]
    assert float(near[0] - near[-1]) == pytest.approx(crown.largest_jump, abs=1e-6)
    assert int((near.diff() < 0).sum()) == 1  # one step down, and up on both sides of it
    assert float(shown.near[-1] - shown.near[0]) < 3e-9
    assert float(shown.close["ibp"].abs().max()) < 1e-6
    assert shown.size == pytest.approx(0.85, abs=0.005)
    middle = len(shown.steps) // 2
    assert shown.losses["crown"][middle] > shown.losses["ibp"][middle]
    assert picture.way_back(shown.losses["crown"]) > 0.1
    assert picture.way_back(shown.losses["ibp"]) == 0
    assert picture.way_back(shown.smoothed[0.01]) < 0.002
    assert picture.way_back(shown.smoothed[0.03]) < 0.01
    assert float(shown.smoothed[0.03].min() - shown.losses["crown"].min()) == pytest.approx(0.2, abs=0.03)


# -- estimators -------------------------------------------------------------------------------------------------------


def test_the_closed_form_is_that_of_the_loss(make: Make) -> None:
    picture = make("pictures.estimators")
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    noise = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    weights = (-noise.square() / 2).exp()
    weights /= weights.sum()
    smooth, gradient = picture.smoothed_toy(x, 0.3)
    direct = torch.stack([(weights * picture.toy_loss(place + 0.3 * noise)).sum() for place in x])
    assert torch.allclose(smooth, direct, atol=1e-4)
    step = 1e-5
    slope = (picture.smoothed_toy(x + step, 0.3)[0] - picture.smoothed_toy(x - step, 0.3)[0]) / (2 * step)
    assert torch.allclose(gradient, slope, atol=1e-8)


def test_what_the_page_says_of_the_estimators(make: Make) -> None:
    picture = make("pictures.estimators")
    shown = picture.estimates()
    assert (shown.popsize, shown.pgpe.shape[1]) == (64, 20)
    for values, true in (
        (shown.pgpe, picture.smoothed_toy(shown.centers, shown.sigma)[1]),
        (shown.rgs, shown.centers + 0.5),
    ):
        error = values.std(1) / values.shape[1] ** 0.5
        assert bool(((values.mean(1) - true).abs() < 4 * error).all())
    assert bool((2 * shown.rgs.std(1) < shown.pgpe.std(1)).all())
    rising = shown.gradient > 0
    assert int(rising.diff().sum()) == 1  # a single zero
    assert float(shown.x[rising][0]) == pytest.approx(0.30, abs=0.01)
    between = (shown.x > -0.49) & (shown.x < 0.29)
    assert bool((shown.gradient[between] < 0).all() & (shown.mean_gradient[between] > 0).all())


@pytest.mark.parametrize(("searcher", "rest"), [("pgpe", 0.3), ("rgs", -0.5)])
@pytest.mark.parametrize("start", [-1.0, 1.0])
def test_searchers_come_to_rest_where_the_picture_says(make: Make, searcher: str, rest: float, start: float) -> None:
    picture = make("pictures.estimators")
    problem = picture.Toy()
    assert picture.walk(problem, searcher, start, 0.3, 64, rate=0.1, steps=100) == pytest.approx(rest, abs=0.1)


# -- rooms ------------------------------------------------------------------------------------------------------------


def test_the_picture_of_the_rooms_shows_who_imports_whom(make: Make) -> None:
    """The committed file: what its arrows reach is what the imports reach."""
    rooms = make("pictures.rooms")
    text = (FOLDER / "rooms.svg").read_text(encoding="utf-8")
    arrows: dict[str, frozenset[str]] = {}
    for room, target in re.findall(r'id="(\w+)--(\w+)"', text):
        arrows[room] = arrows.get(room, frozenset()) | {target}
    imports = {r: targets - rooms.EVERYWHERE for r, targets in rooms.imports().items() if r not in rooms.EVERYWHERE}
    shown, true = ({r: t for r, t in rooms.closure(a).items() if t} for a in (arrows, imports))
    assert shown == true, "imports have changed: run docs/make_figures.py"
    for room in imports:
        assert f">{room}<" in text
