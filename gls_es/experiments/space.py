"""What a search for hyper-parameters may choose from: a few dimensions around a problem's recipe."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gls_es.basics.suggestions import ending
from gls_es.errors import ConfigError
from gls_es.problem.recipe import Recipe

SHARES = {"natural_share": "natural_until", "ramp_share": "ramp_until"}
"""Dimensions that stand for the end of a phase, because a trial's generations are not known beforehand: the share of
natural training in a run, and that of the ramp in what follows it."""

_RANGE = re.compile(r"([^:|]+):([^:|]+)")
_OF_LOSSES: Mapping[str, tuple[str, ...]] = {
    "sabr": ("sabr_lambda",),
    "mtl-ibp": ("mtl_ibp_alpha",),
    "cc-ibp": ("cc_ibp_alpha",),
    "exp-ibp": ("exp_ibp_alpha",),
    "taps": ("taps_alpha",),
    "staps": ("taps_alpha", "sabr_lambda"),
    "crown-ibp": ("crown_ibp_beta_end",),
    "crown-ibp-fused": ("crown_ibp_beta_end",),
}
_COPIES = {"rgs": (1, 2, 4, 8), "pgpe": (16, 32, 64, 128)}


@dataclass(frozen=True)
class Dimension:
    """One hyper-parameter.

    Attributes:
        name: a field of the recipe, or a key of :data:`SHARES`.
        low: its least value, where it is a range.
        high: its largest value.
        log: whether factors count, not differences.
        whole: whether only whole numbers of the range are meant.
        choices: the values, where it is none.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def nearest(self, value: Any) -> Any:
        """The value that it can take next to one of a recipe."""
        if not self.choices:
            inside = min(self.high, max(self.low, float(value)))
            return round(inside) if self.whole else inside
        if value in self.choices or isinstance(value, str | bool):
            return value if value in self.choices else self.choices[0]
        return min(self.choices, key=lambda choice: abs(choice - value))

    def to_json(self) -> dict[str, Any]:
        """The dimension as plain values."""
        return {**asdict(self), "choices": list(self.choices)}


def usual_space(searcher: str, recipe: Recipe) -> tuple[Dimension, ...]:
    """What is searched if nothing else is said.

    The ranges are wide ones around the recipe's values; those of the radius, of κ, of L1 and of the coefficients are
    the usual ones of the literature's own searches.

    Args:
        searcher: whose noise is searched, too.
        recipe: where the search begins; its loss decides on the coefficients.
    """
    rate = recipe.center_learning_rate
    found = [
        Dimension("center_learning_rate", rate / 5, rate * 5, log=True),
        Dimension("batch_size", choices=(32, 64, 128)),
        Dimension("natural_share", 0.0, 0.2),
        Dimension("ramp_share", 0.1, 0.8),
        Dimension("eps_factor", 1.0, 1.5),
        Dimension("natural_weight", 0.0, 0.5),
        Dimension("l1", 1e-8, 1e-4, log=True),
    ]
    if searcher in _COPIES:
        found += [Dimension("stdev_init", 0.003, 0.3, log=True), Dimension("popsize", choices=_COPIES[searcher])]
    found += [Dimension(name, 0.01, 1.0) for name in _OF_LOSSES.get(recipe.loss, ())]
    return tuple(found)


def space_of(
    searcher: str, recipe: Recipe, *, settings: Mapping[str, Any], search: Sequence[str] = ()
) -> tuple[Dimension, ...]:
    """The dimensions of a search: the usual ones, without what is settled, and those asked for over them.

    Args:
        searcher: see :func:`usual_space`.
        recipe: see there; settings are part of it.
        settings: fields of the recipe that are settled.
        search: dimensions as :func:`parsed` reads them; if there are any, no others are searched.

    Raises:
        ConfigError: one that makes no sense, or is settled, or none is left.
    """
    asked = [parsed(text) for text in search]
    for dimension in asked:
        field = SHARES.get(dimension.name, dimension.name)
        if field in settings:
            raise ConfigError(f"{dimension.name} is both searched and set; leave --set {field}=... out, or --search.")
    settled = set(settings)
    free = [d for d in usual_space(searcher, recipe) if SHARES.get(d.name, d.name) not in settled]
    space = tuple(asked or free)
    if not space:
        raise ConfigError("every hyper-parameter is set, nothing is left to search; leave a --set out.")
    if len({dimension.name for dimension in space}) < len(space):
        raise ConfigError("a hyper-parameter is searched twice; leave one --search out.")
    return space


def parsed(text: str) -> Dimension:
    """A dimension from NAME=LOW:HIGH, or NAME=A|B|C; a range over a factor of ten or more is one of factors.

    Raises:
        ConfigError: it is not of that form, or no recipe has such a field or such values.
    """
    name, equals, values = (part.strip() for part in text.partition("="))
    name = name.replace("-", "_")
    known = [*Recipe().as_dict(), *SHARES]
    if not equals:
        raise ConfigError(f"--search {text}: write NAME=LOW:HIGH, stdev_init=0.01:0.1 say, or NAME=A|B|C.")
    if name not in known or name == "generations":
        raise ConfigError(f"--search {text}: no hyper-parameter that can be searched{ending(name, known)}")
    found = _RANGE.fullmatch(values)
    if found is None:
        dimension = Dimension(name, choices=tuple(_plain(part) for part in values.split("|")))
    else:
        low, high = (_plain(part) for part in found.groups())
        if not all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high)) or not low < high:
            raise ConfigError(f"--search {text}: a range needs two numbers, the smaller one first.")
        whole = type(Recipe().as_dict().get(name)) is int
        dimension = Dimension(name, low, high, log=low > 0 and high / low >= 10, whole=whole)
    for value in dimension.choices or (dimension.low, dimension.high):
        _check(name, value)
    return dimension


def _plain(text: str) -> Any:
    """A whole number, a number, or the text itself."""
    for kind in (int, float):
        try:
            return kind(text.strip())
        except ValueError:
            continue
    return text.strip()


def _check(name: str, value: Any) -> None:
    """Refuse a value that no recipe can have."""
    if name in SHARES:
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigError(f"--search {name}: a share lies between 0 and 1, not {value!r}.")
        return
    Recipe.check({name: value})


def start_of(space: Sequence[Dimension], recipe: Recipe) -> dict[str, Any]:
    """The recipe as a point of the space, or the nearest one."""
    length = recipe.generations
    shares = {
        "natural_share": recipe.natural_until / length,
        "ramp_share": max(0, recipe.ramp_until - recipe.natural_until) / max(1, length - recipe.natural_until),
    }
    own = recipe.as_dict() | shares
    return {dimension.name: dimension.nearest(own[dimension.name]) for dimension in space}


def changes(params: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Fields of a recipe for a point of the space; ``recipe`` has the run's length, and what is not searched."""
    found = {name: value for name, value in params.items() if name not in SHARES}
    natural, length = recipe.natural_until, recipe.generations
    if "natural_share" in params:
        natural = found["natural_until"] = round(params["natural_share"] * length)
    if "ramp_share" in params:
        found["ramp_until"] = natural + round(params["ramp_share"] * (length - natural))
    return found
