"""Slips in names and values, refused before anything is imported that they do not need: evotorch takes seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gls_es.problem.recipe import Recipe


def check_slips(methods: Iterable[str] = (), overrides: Mapping[str, Any] | None = None) -> None:
    """Refuse unknown names and values that no recipe can have, without torch first, then without evotorch.

    Args:
        methods: names of relaxations.
        overrides: fields of the recipe, and options of a problem, which only the problem can judge.

    Raises:
        ConfigError: something is refused.
    """
    given = overrides or {}
    Recipe.check(given)
    names = list(methods)
    if names:
        from gls_es.bounds import method_named

        for name in names:
            method_named(name)
    if "loss" in given:
        from gls_es.fitness import loss_named

        loss_named(given["loss"])
