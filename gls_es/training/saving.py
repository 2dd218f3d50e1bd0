"""Writing the state of a run: ``checkpoint.pt``, and numbered copies of the latest ones."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gls_es.basics.atomic import write_atomically
from gls_es.errors import CheckpointError
from gls_es.searchers.table import searcher_state
from gls_es.training.checkpoint import save_checkpoint
from gls_es.training.names import BEST
from gls_es.training.settings import Settings, versions

if TYPE_CHECKING:
    from gls_es.training.loop import Loop

_NUMBERED = re.compile(r"checkpoint-(\d{7,})\.pt")


@dataclass(frozen=True)
class Saver:
    """Writes the checkpoint of a loop's current state when called.

    Attributes:
        path: the checkpoint's file; the numbered ones lie beside it.
        settings: what the run is.
    """

    path: Path
    settings: Settings

    def __call__(self, loop: Loop) -> None:
        """Save.

        Raises:
            CheckpointError: the state cannot be written; the checkpoint that was there is intact.
        """
        save_checkpoint(self.path, content(loop, self.settings))
        kept = self.settings.bookkeeping.keep
        if kept:
            try:
                if isinstance(kept, int):
                    self._keep(loop.done, kept)
                elif loop.is_best:
                    _link(self.path, self.path.with_name(BEST))
            except OSError as error:
                raise CheckpointError(
                    f"{self.path.parent}: no numbered copy could be kept ({error.strerror or error}); "
                    f"{self.path.name} is saved."
                ) from error

    def _keep(self, generation: int, count: int) -> None:
        """Give the checkpoint a second name that stays, and remove the oldest of such names."""
        _link(self.path, self.path.with_name(f"checkpoint-{generation:07}.pt"))
        numbered = [p for p in self.path.parent.iterdir() if _NUMBERED.fullmatch(p.name)]
        for path in sorted(numbered, key=_generation)[:-count]:
            path.unlink(missing_ok=True)


def content(loop: Loop, settings: Settings) -> dict[str, Any]:
    """Everything that a checkpoint holds, as plain data.

    ``center`` is the result so far, the average if there is one; the searcher's own center is in ``searcher_state``.
    """
    problem = loop.problem
    return {
        "problem": settings.problem,
        "problem_args": settings.arguments,
        "searcher": settings.searcher,
        "recipe": loop.recipe.as_dict(),
        "bookkeeping": settings.bookkeeping.as_dict(),
        "init": settings.init,
        "tf32": settings.tf32,
        "generation": loop.done,
        "elapsed_seconds": loop.elapsed,
        "eps": problem.eps,
        "method": problem.method,
        "input_shape": list(problem.network.input_shape),
        "center": loop.center.detach().cpu().clone(),
        "parameters": {name: list(shape) for name, shape in problem.network.parameter_shapes().items()},
        "averaged": loop.average.count,
        "buffers": {name: b.cpu() for name, b in problem.network.buffers().items()},
        "searcher_state": searcher_state(loop.searcher),
        "data_digest": problem.data.digest(),
        "versions": versions(),
        **({"best": list(loop.best)} if loop.keeps_best else {}),
        "history": {k: v for k, v in loop.last_row.items() if k.endswith("_accuracy")},
    }


def _generation(path: Path) -> int:
    found = _NUMBERED.fullmatch(path.name)
    return int(found[1]) if found else -1


def _link(path: Path, other: Path) -> None:
    """Let ``other`` be what ``path`` is now, in one step: by a link, or a copy where there are no links."""
    temporary = other.with_name(f".{other.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        os.link(path, temporary)
    except OSError:
        write_atomically(other, path.read_bytes())
        return
    try:
        os.replace(temporary, other)
    finally:
        with contextlib.suppress(OSError):  # replacing one name of a file by another of the same leaves both
            temporary.unlink()
