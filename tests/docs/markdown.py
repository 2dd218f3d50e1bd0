"""The pieces of a Markdown page that tests look at: code blocks, sections, tables, links, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page for folder in (ROOT, ROOT / "docs") for page in folder.glob("*.md"))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced code block: its language, its text, and the line its text begins on."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = [(m.group(1), m.group(2), text.count("\n", 0, m.start(2)) + 1) for m in _FENCE.finditer(text)]
    assert text.count("\n```") == 2 * len(found), f"{page.name}: a code fence is not closed"
    return [Block(*each) for each in found]


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def section(page: Path, heading: str) -> str:
    """What stands under a heading, up to the next heading of any level."""
    parts = re.split(r"^(#+ .*)$", prose(page), flags=re.MULTILINE)
    titles = [part.lstrip("# ") for part in parts[1::2]]
    assert titles.count(heading) == 1, f"{page.name}: {titles.count(heading)} headings {heading!r}"
    return parts[2 * titles.index(heading) + 2]


def first_column(text: str) -> list[str]:
    """The code names in the first column of the tables in ``text``."""
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def links(page: Path) -> list[str]:
    """Targets of the links, those to other machines left out."""
    return [target for target in _LINK.findall(prose(page)) if "://" not in target]


def images(page: Path) -> list[tuple[str, str]]:
    """Texts and targets of the pictures."""
    return _IMAGE.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that headings make, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
