"""What a run writes beside its result, and how often; nothing of it changes what is computed."""

from __future__ import annotations

import dataclasses
import importlib
import math
from dataclasses import dataclass
from typing import Any

from gls_es.errors import ConfigError

LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")
"""What ``--log`` takes."""


BEST = "best"
"""What ``keep`` takes besides numbers."""


@dataclass(frozen=True)
class Bookkeeping:
    """How often a run saves, and what it keeps; None leaves a field to the default or, on resuming, to the run.

    Attributes:
        save_every: seconds of training between two checkpoints; 0 saves after every generation.
        keep: how many numbered copies of the latest checkpoints stay besides ``checkpoint.pt``; or "best": besides it,
            ``best.pt`` is the state of the evaluation with the largest certified accuracy on validation images.
        log: where the metrics go besides ``metrics.jsonl``: names of :data:`LOGGERS`.
    """

    save_every: float | None = None
    keep: int | str | None = None
    log: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.save_every is not None and not 0 <= self.save_every < math.inf:
            raise ConfigError(f"save_every must be a number of seconds >= 0, not {self.save_every!r}.")
        number = type(self.keep) is int and self.keep >= 0
        if not (self.keep is None or self.keep == BEST or number):
            raise ConfigError(f'keep must be a number of checkpoints >= 0, or "best", not {self.keep!r}.')
        if self.log is not None:
            object.__setattr__(self, "log", tuple(dict.fromkeys(self.log)))
            for name in self.log:
                if name not in LOGGERS:
                    raise ConfigError(f"log must name some of {', '.join(LOGGERS)}, not {name!r}.")

    def over(self, other: Bookkeeping) -> Bookkeeping:
        """These fields, and those of ``other`` where they are None."""
        own = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(other, **own)

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return dataclasses.asdict(self) | {"log": None if self.log is None else list(self.log)}


DEFAULT = Bookkeeping(save_every=30.0, keep=0, log=())
"""What holds where nothing is said; half a minute is what a killed process loses at most."""


def needed(package: str) -> Any:
    """Import what a logger needs.

    Raises:
        ConfigError: it is not installed; the message says how to install it.
    """
    module = {"tensorboard": "torch.utils.tensorboard"}.get(package, package)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f'--log {package} needs the package {package}, which is not installed: pip install "gls-es[{package}]"'
        ) from error
