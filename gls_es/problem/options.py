"""What can be set on a problem besides what every run sets: the keyword arguments that its class adds.

``gls-es train --set width=16`` reaches a recipe's field or one of these; both are kept in the checkpoint.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from gls_es.basics.suggestions import ending
from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe

_ELSEWHERE = {
    "lr": "center_learning_rate",
    "learning_rate": "center_learning_rate",
    "sigma": "stdev_init",
    "std": "stdev_init",
    "stdev": "stdev_init",
    "population": "popsize",
}
"""Names that other libraries have for a recipe's keys."""
_COMMON = ("validation", "norm")  # arguments of every problem that no flag and no recipe sets


def problem_options(cls: type[CertifiedTrainingProblem]) -> dict[str, Any]:
    """Names and defaults of a problem class' own options.

    Args:
        cls: the class; its constructors' named arguments count, from the class itself up to
            :class:`CertifiedTrainingProblem`. A default of None means the class attribute of the same name, if any.
    """
    common = inspect.signature(CertifiedTrainingProblem.__init__).parameters
    taken = {field.name for field in dataclasses.fields(Recipe)} | common.keys()
    defaults = {name: common[name].default for name in _COMMON}
    found = {name: getattr(cls, name) if default is None else default for name, default in defaults.items()}
    for ancestor in reversed(cls.__mro__[: cls.__mro__.index(CertifiedTrainingProblem)]):
        init = vars(ancestor).get("__init__")
        parameters = inspect.signature(init).parameters if init is not None else {}
        for name, parameter in parameters.items():
            if name not in taken and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                own = getattr(cls, name, None) if parameter.default is None else parameter.default
                found[name] = own
    return found


def split_overrides(
    cls: type[CertifiedTrainingProblem], overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Overrides of a run, apart: fields of the recipe, and options of the problem.

    Raises:
        ConfigError: a name that is neither, with the closest one that is.
    """
    fields = [field.name for field in dataclasses.fields(Recipe)]
    options = problem_options(cls)
    for name in overrides:
        if name not in fields and name not in options:
            otherwise = f"; this problem's options are {', '.join(options)}."
            if name in _ELSEWHERE:
                raise ConfigError(f"recipe: unknown key {name!r}; here it is {_ELSEWHERE[name]!r}.")
            raise ConfigError(f"recipe: unknown key {name!r}{ending(name, [*fields, *options], otherwise)}")
    return (
        {name: value for name, value in overrides.items() if name in fields},
        {name: value for name, value in overrides.items() if name not in fields},
    )
