"""What a run writes beside its result, and how often; nothing of it changes what is computed."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from gls_es.errors import ConfigError


@dataclass(frozen=True)
class Bookkeeping:
    """How often a run saves, and what it keeps; None leaves a field to the default or, on resuming, to the run.

    Attributes:
        save_every: seconds of training between two checkpoints; 0 saves after every generation.
        keep: how many numbered copies of the latest checkpoints stay besides ``checkpoint.pt``.
    """

    save_every: float | None = None
    keep: int | None = None

    def __post_init__(self) -> None:
        if self.save_every is not None and not 0 <= self.save_every < math.inf:
            raise ConfigError(f"save_every must be a number of seconds >= 0, not {self.save_every!r}.")
        if self.keep is not None and self.keep < 0:
            raise ConfigError(f"keep must be a number of checkpoints >= 0, not {self.keep!r}.")

    def over(self, other: Bookkeeping) -> Bookkeeping:
        """These fields, and those of ``other`` where they are None."""
        own = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(other, **own)

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return dataclasses.asdict(self)


DEFAULT = Bookkeeping(save_every=30.0, keep=0)
"""What holds where nothing is said; half a minute is what a killed process loses at most."""
