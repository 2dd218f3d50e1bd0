"""A problem made of a module and of data that somebody has: for one call, without a class of its own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gls_es.data import Dataset
from gls_es.data.intake import as_dataset
from gls_es.errors import ConfigError
from gls_es.network.copies import true_copy
from gls_es.problem.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe


class ModuleProblem(CertifiedTrainingProblem):
    """A module and data that were handed over; a checkpoint of it needs them again, see :func:`owned`."""

    method = "crown-ibp"
    recipes: ClassVar[dict[str, Recipe]] = {
        "pgpe": Recipe(natural_until=100, learning_rate_end=0.05, stdev_init=0.03),
        "rgs": Recipe(popsize=8, natural_until=50, center_learning_rate=0.005, learning_rate_end=0.05, stdev_init=0.01),
        "grad": Recipe(popsize=1, natural_until=50, center_learning_rate=0.005, learning_rate_end=0.05, stdev_init=0.0),
    }
    module: ClassVar[nn.Module | None] = None
    given: ClassVar[tuple[Any, Any] | None] = None

    @property
    def held_out_given(self) -> bool:
        """Whether held-out images were handed over besides the data, which whoever goes on has to do again."""
        return self.given is not None and self.given[1] is not None

    def make_network(self) -> nn.Module:
        """The module, as it was handed over."""
        if self.module is None:
            raise ConfigError(
                "it was trained by gls_es.train(module, data, ...), whose module is not in the file; give the module "
                "again: gls_es.load(run, module), to certify gls_es.certify(gls_es.load(run, module), loader, eps=...),"
                " to go on training gls_es.training.resume(run, problem=gls_es.training.owned(module, data))."
            )
        return true_copy(self.module)

    def make_data(self) -> Dataset:
        """The data, as they were handed over."""
        if self.given is None:
            raise ConfigError("the data were not given: gls_es.training.owned(module, data) takes them.")
        data, held_out = self.given
        return as_dataset(data, held_out, takes=self._takes)

    def _takes(self, batch: Tensor) -> bool:
        """Whether the module takes a batch of one image, to one row of logits."""
        assert self.module is not None
        parameter = next(self.module.parameters(), None)
        device = "cpu" if parameter is None else parameter.device
        training = self.module.training
        try:
            with torch.no_grad():
                out = self.module.eval()(batch.to(device))
        except Exception:  # whatever a module raises on a shape that it was not made for
            return False
        finally:
            self.module.train(training)
        return isinstance(out, Tensor) and out.ndim == 2 and len(out) == 1


def owned(module: nn.Module, data: Any = None, held_out: Any = None) -> type[ModuleProblem]:
    """The problem class of a module and data that somebody has.

    Args:
        module: from images in [0, 1] to logits, with the weights to begin with; it is copied, not changed.
        data: what to train on (see :func:`gls_es.data.intake.as_split`), or a :class:`gls_es.Dataset`; None to load a
            checkpoint only.
        held_out: other images to look at during training; None: the last tenth of ``data``.

    Raises:
        ConfigError: the module is none.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(f"module must be an nn.Module, not {type(module).__name__}.")
    contents = {"module": module, "given": None if data is None else (data, held_out)}
    named = {"__module__": ModuleProblem.__module__, "__qualname__": ModuleProblem.__qualname__}
    return type(ModuleProblem.__name__, (ModuleProblem,), contents | named | {"__doc__": ModuleProblem.__doc__})
