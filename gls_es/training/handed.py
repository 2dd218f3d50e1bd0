"""``gls_es.train``: a problem by name or class as ever, or a module and data that somebody hands over."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gls_es.errors import ConfigError
from gls_es.problem.own import owned
from gls_es.problem.recipe import Recipe
from gls_es.training import runs
from gls_es.training.bookkeeping import Bookkeeping
from gls_es.training.loop import TrainingInterrupted
from gls_es.training.names import BEST
from gls_es.training.progress import Progress
from gls_es.training.trained import load_trained


@dataclass(frozen=True)
class TrainedModule:
    """What training a module that was handed over gives.

    Attributes:
        module: the trained module, a copy in eval mode on the CPU; the one that was handed over is as it was.
        natural_accuracy: of the first held-out images, a fraction.
        certified_accuracy: of these, at eps, an estimate without rounding guards; ``gls_es.certify`` certifies.
        eps: the radius.
        generations: updates of the weights.
        checkpoint: the file that ``module`` comes from.
        run: the run folder.
    """

    module: nn.Module
    natural_accuracy: float
    certified_accuracy: float
    eps: float
    generations: int
    checkpoint: Path
    run: Path

    def __str__(self) -> str:
        return (
            f"trained for eps {self.eps:.4g}, {self.generations} generations: natural "
            f"{100 * self.natural_accuracy:.1f} %, certified {100 * self.certified_accuracy:.1f} % "
            f"(estimates on held-out images); run folder {self.run}"
        )


def train(problem: Any, *arguments: Any, **options: Any) -> Any:
    """Train a problem, or a module on data.

    Args:
        problem: a problem, with the further arguments of ``gls_es.training.train``; or an nn.Module, with those of
            :func:`train_module`: ``gls_es.train(module, data, eps=0.1, budget="10m")``.
        arguments: see there.
        options: see there.

    Returns:
        Of a problem, the path of the checkpoint; of a module, a :class:`TrainedModule`.

    Raises:
        ConfigError: an argument that makes no sense.
        DataError: the data cannot be read, or are missing or damaged.
        TrainingError: training cannot go on.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved, and the message says how to go on.
    """
    if isinstance(problem, nn.Module):
        try:
            taken = inspect.signature(train_module).bind(problem, *arguments, **options)
        except TypeError as error:
            recipe = [name for name in options if name in Recipe.__dataclass_fields__]
            hint = f"; hyper-parameters go into overrides={{{recipe[0]!r}: ...}}" if recipe else ""
            raise ConfigError(f"gls_es.train(module, data, eps=...): {error}{hint}.") from error
        try:
            return train_module(*taken.args, **taken.kwargs)
        except TrainingInterrupted as stopped:
            raise stopped.with_traceback(None) from None  # its message says all; frames from within would bury it
    return runs.train(problem, *arguments, **options)


def train_module(
    module: nn.Module,
    data: Any,
    *,
    eps: Any,
    norm: str | None = None,
    searcher: str = "rgs",
    held_out: Any = None,
    budget: float | str | None = None,
    generations: int | None = None,
    method: str | None = None,
    validation: int = 0,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    overrides: Mapping[str, Any] | None = None,
    bookkeeping: Bookkeeping | None = None,
    progress: Progress | bool | None = None,
) -> TrainedModule:
    """Train a module that somebody has, on data that somebody has, and leave a run folder as the command does.

    Args:
        module: from images in [0, 1] to logits, with the weights to begin with.
        data: a :class:`gls_es.Dataset`; (images, labels) as tensors or NumPy arrays; a dataset of (image, label) pairs,
            torchvision's for instance; or a DataLoader. Bytes or floats in [0, 1]; channels first or last.
        eps: radius of the L∞ ball, in pixels from 0 to 1; or radii per channel or pixel, a list, an array or a tensor.
        norm: "linf", or "l2" for Euclidean balls.
        searcher: a name of ``gls_es.searchers.SEARCHERS``.
        held_out: other images to look at during training; None: the last tenth of ``data``, at most 1000, which are
            then not trained on.
        budget: time to train, seconds or "10m".
        generations: instead of a budget; None: 1000.
        method: relaxation; None: "crown-ibp".
        validation: last training images that are kept out of training as a validation split; then the best checkpoint
            by these is kept, and is the result.
        out: the run folder; None: a new one in ``runs``, named after the module's class.
        seed: of minibatches and noise.
        device: torch device.
        overrides: fields of the recipe to change.
        bookkeeping: how often to save, and what to keep.
        progress: what is told of every generation; True: lines on stderr; None: nothing.

    Raises:
        ConfigError: an argument that makes no sense.
        DataError: the data cannot be read.
        UnsupportedNetworkError: the module holds something without bounds.
    """
    cls = owned(module, data, held_out)
    if out is None:
        out = Path("runs") / f"{type(module).__name__.lower()}-{searcher}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    own = {"validation": validation} | ({} if norm is None else {"norm": norm})
    kept = bookkeeping or Bookkeeping(keep="best" if validation else None)
    checkpoint = runs.train(
        cls, searcher, out=out, seed=seed, eps=eps, method=method, generations=generations, budget=budget,
        device=device, overrides={**(overrides or {}), **own}, bookkeeping=kept, progress=progress,
    )  # fmt: skip
    best = checkpoint.with_name(BEST)
    return _result(best if best.exists() else checkpoint, owned(module))


def _result(checkpoint: Path, cls: Any) -> TrainedModule:
    trained = load_trained(checkpoint, problem=cls)
    history = trained.content["history"]
    if not history:
        raise ConfigError(f"{checkpoint}: was never evaluated.")
    center: torch.Tensor = trained.network.parameter_vector()
    return TrainedModule(
        module=trained.network.module(center),
        natural_accuracy=history["natural_accuracy"],
        certified_accuracy=history["certified_accuracy"],
        eps=trained.eps,
        generations=trained.content["generation"],
        checkpoint=checkpoint,
        run=checkpoint.parent,
    )
