"""The text of a VNN-LIB specification as nested lists of words, for both versions of the language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

_DEEPEST = 40
_TOKEN = re.compile(r';[^\n]*|"([^"]*)"|([()])|(\[[^\[\]()";]*\])|([^\s();"\[\]]+|[\[\]"])')
_SPACES = re.compile(r"\s*([\[\],])\s*")
_NUMBER = re.compile(r"[+-]?(\d{1,60}\.?\d{0,200}|\.\d{1,200})([eE][+-]?\d{1,3})?", re.ASCII)

Expression = Any
"""A word, or a list of expressions. Brackets [...] belong to the word before them, without spaces."""


class Wrong(Exception):
    """What is wrong with a specification."""


def commands(text: str) -> Iterator[Expression]:
    """The top-level expressions; a byte-order mark in front is no part of them.

    Raises:
        Wrong: brackets do not match, are nested too deeply, or something stands outside of them.
    """
    stack: list[list[Expression]] = []
    for match in _TOKEN.finditer(text.removeprefix("\ufeff")):
        string, bracket, index, word = match.groups()
        if bracket == "(":
            if len(stack) >= _DEEPEST:
                raise Wrong("its brackets are nested too deeply")
            stack.append([])
        elif bracket == ")":
            if not stack:
                raise Wrong("a bracket is closed that was not opened")
            done = stack.pop()
            if stack:
                stack[-1].append(done)
            else:
                yield done
        elif index:
            _attach(stack, _SPACES.sub(r"\1", index))
        elif word or string is not None:
            if not stack:
                raise Wrong(f"{(word or string)[:40]!r} stands outside of brackets")
            stack[-1].append(word if string is None else f'"{string}"')
    if stack:
        raise Wrong("it ends within brackets")


def _attach(stack: list[list[Expression]], index: str) -> None:
    before = stack[-1][-1] if stack and stack[-1] else None
    if not isinstance(before, str) or before.endswith(("]", '"')):
        raise Wrong(f"{index[:40]!r} follows no name")
    stack[-1][-1] = before + index


def number_of(word: str) -> Fraction | None:
    """The exact number that a word is; None if it is none."""
    return Fraction(word) if _NUMBER.fullmatch(word) else None
