"""The training loop: generations of one searcher on one problem, watched, logged, and stoppable at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from evotorch.algorithms.searchalgorithm import SearchAlgorithm

from gls_es.errors import GlsEsError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe
from gls_es.searchers.noise import layer_noise
from gls_es.searchers.state import finish_generation, mean_loss, position, set_learning_rate, set_stdev, spread
from gls_es.training.averaging import Average
from gls_es.training.evaluation import center_row
from gls_es.training.progress import Progress
from gls_es.training.schedules import Schedule
from gls_es.training.timing import Adviser


class Rows(Protocol):
    """A log of rows by generation."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row."""


class TrainingInterrupted(GlsEsError):
    """Training was stopped from outside; what is saved can go on, and the message says how.

    Args:
        message: for the user.
        at_once: whether a generation was broken off, so that threads may still be at work on it.
    """

    def __init__(self, message: str, *, at_once: bool = False) -> None:
        super().__init__(message)
        self.at_once = at_once


@dataclass
class Loop:
    """One run in memory.

    Attributes:
        problem: what is searched on; its schedule is set.
        searcher: freshly built or restored.
        schedule: everything that depends on the generation.
        save: writes the checkpoint of the current state.
        metrics: the log.
        progress: what a person sees.
        average: the mean of the centers, if there is to be one.
        save_every: seconds between two checkpoints.
        has_statistics: whether BatchNorm's statistics are those of trained weights from the start.
        done: generations completed so far.
        saved: generations completed when the state was last saved; None before.
        elapsed: seconds spent by earlier processes of this run.
        keeps_best: whether the best evaluation's state is kept.
        best: certified and natural accuracy of the best evaluation so far; empty before.
        is_best: whether the state is that of the best evaluation.
        adviser: points out slow generations.
    """

    problem: CertifiedTrainingProblem
    searcher: SearchAlgorithm
    schedule: Schedule
    save: Callable[[Loop], None]
    metrics: Rows
    progress: Progress
    average: Average = field(default_factory=lambda: Average(decay=0.0))
    save_every: float = 30.0
    has_statistics: bool = False
    done: int = 0
    saved: int | None = None
    elapsed: float = 0.0
    keeps_best: bool = False
    best: tuple[float, ...] = ()
    is_best: bool = False
    adviser: Adviser = field(default_factory=Adviser)
    last_row: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The run's hyper-parameters."""
        return self.schedule.recipe

    @property
    def center(self) -> torch.Tensor:
        """The trained weights so far, (L,): the average where there is one, else where the searcher is."""
        return self._position if self.average.center is None else self.average.center

    @property
    def _position(self) -> torch.Tensor:
        return position(self.searcher)

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's content; the searcher has its state already."""
        self.done = self.saved = saved["generation"]
        self.elapsed = saved["elapsed_seconds"]
        self.last_row.update(saved["history"])
        self.best = tuple(saved.get("best", ()))
        if saved["averaged"]:
            self.average.center = saved["center"].to(self._position)
            self.average.count = saved["averaged"]

    def run(self, stop_requested: Callable[[], bool]) -> None:
        """Run to the last generation, or until a stop is requested; the state is saved either way."""
        if self.saved is None:
            if not self.has_statistics:
                self._begin_statistics()
            self._save()  # from here on a killed run can go on
        began = last_save = time.monotonic()
        before, first = self.elapsed, self.done
        while self.done < self.recipe.generations and not stop_requested():
            row = self._generation()
            self._advise(before + time.monotonic() - began - self.elapsed)
            self.elapsed = before + time.monotonic() - began
            rate = (self.elapsed - before) / (self.done - first)
            row["elapsed_seconds"] = round(self.elapsed, 3)
            self.metrics.write(row)
            left = {"eta_seconds": rate * (self.recipe.generations - self.done), "seconds_each": rate}
            self.progress.update(row | left)
            self.last_row.update(row)
            self._judge(row)
            if self.is_best or time.monotonic() - last_save >= self.save_every:
                self._save()
                last_save = time.monotonic()
        if self.saved != self.done:
            self._save()

    def _advise(self, seconds: float) -> None:
        """Point out, once, that another relaxation would be cheaper, if generations take long."""
        hint = self.adviser.hint(self.problem.stage, seconds)
        if hint:
            self.progress.note(hint)

    def _judge(self, row: Mapping[str, Any]) -> None:
        """Note whether the state is the best one so far; the first of equals is."""
        reached = (row.get("certified_accuracy", -1.0), row.get("natural_accuracy", -1.0))
        self.is_best = self.keeps_best and "certified_accuracy" in row and reached > self.best
        if self.is_best:
            self.best = reached

    def _save(self) -> None:
        self.save(self)
        self.saved = self.done

    def _begin_statistics(self) -> None:
        if self.recipe.statistics == "follow":
            self.problem.update_statistics(self._position)
        else:
            self.problem.settle_statistics(self._position, images=self.recipe.statistics_images)

    def _follow_with_statistics(self) -> None:
        self.problem.update_statistics(self._position)
        if self.done == self.recipe.generations:
            self.problem.settle_statistics(self.center, images=self.recipe.statistics_images)

    def _generation(self) -> dict[str, Any]:
        generation = self.done
        self.problem.begin(generation)
        self.problem.choose_images(self._position)
        rate = self.schedule.learning_rate(generation)
        set_learning_rate(self.searcher, rate)
        if self.recipe.stdev_learning_rate == 0.0 and self.recipe.stdev_end != 1.0:
            set_stdev(self.searcher, self.schedule.stdev(generation))
        self.searcher.step()
        loss = mean_loss(self.searcher)
        finish_generation(self.searcher)
        self.done = generation + 1
        self.average.add(self._position, self.done)
        if self.recipe.statistics == "follow":
            self._follow_with_statistics()
        stage = self.problem.stage
        row = {
            "generation": self.done,
            "generations": self.recipe.generations,
            "eps": stage.eps,
            "method": stage.method,
            "fitness": self.recipe.fitness,
            "mean_loss": loss,
            "lr": rate,
            "stdev": float(spread(self.searcher).mean()),
            "nonfinite": int(self.problem.status.get("nonfinite", 0)),
        }
        if self.done % self.recipe.evaluate_every == 0 or self.done == self.recipe.generations:
            row |= center_row(self.problem, self.center, images=self.recipe.evaluate_images)
            row["noise"] = layer_noise(self.searcher)
        return row
