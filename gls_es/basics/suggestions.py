"""What may have been meant by a name that is none: the one place that words it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name that is spelled most alike, if one is alike at all."""
    return next(iter(difflib.get_close_matches(str(name), list(known), 1)), None)


def question(name: object, known: Iterable[str]) -> str:
    """Goes before a list of what there is: "did you mean 'crown'? ", or nothing."""
    found = nearest(name, known)
    return "" if found is None else f"did you mean {found!r}? "


def ending(name: object, known: Iterable[str], otherwise: str = ".") -> str:
    """Ends a sentence: "; did you mean 'crown'?", or ``otherwise``."""
    found = nearest(name, known)
    return otherwise if found is None else f"; did you mean {found!r}?"
