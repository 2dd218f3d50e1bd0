"""What a searcher of EvoTorch that is no Gaussian one gives to a training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from gls_es.errors import ConfigError


class Holding(ABC):
    """Where such a searcher is, how it is saved, and what a schedule can set."""

    _popsize: int
    """Members that a generation evaluates."""
    step_count: int

    @abstractmethod
    def place(self) -> Tensor:
        """The weights it would hand out now, (L,)."""

    @abstractmethod
    def spread(self) -> Tensor:
        """Standard deviation of the noise of each weight, (L,)."""

    @abstractmethod
    def held(self) -> dict[str, Any]:
        """All that has to be saved after a generation, as tensors."""

    @abstractmethod
    def hold(self, saved: dict[str, Any]) -> None:
        """Take over a saved state."""

    @abstractmethod
    def set_rate(self, rate: float) -> None:
        """Let the next steps of the center have relative size ``rate``."""

    @abstractmethod
    def set_spread(self, stdev: float) -> None:
        """Give every weight the noise ``stdev``."""

    def ask(self) -> Tensor:
        """Refused: what it learns from is drawn and evaluated within a step.

        Raises:
            ConfigError: always.
        """
        name = type(self).__name__
        raise ConfigError(f"{name} has step() only; ask() and tell() are those of pgpe, rgs, grad, snes, xnes and cem.")

    def tell(self, *_losses: Any) -> None:
        """Refused as :meth:`ask` is.

        Args:
            _losses: of members that nobody could ask for.

        Raises:
            ConfigError: always.
        """
        self.ask()
