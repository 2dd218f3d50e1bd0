"""What a run is: everything that is settled before it begins, from what was asked for and what the problem brings."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import torch

from gls_es.basics.checks import existing_device
from gls_es.basics.durations import Running, seconds_in
from gls_es.basics.suggestions import named
from gls_es.basics.version import __version__
from gls_es.bounds import method_named
from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.options import problem_options, split_overrides
from gls_es.problem.recipe import Recipe
from gls_es.problem.registry import registered_name, resolve
from gls_es.searchers.others import OWN, searcher_fields
from gls_es.searchers.table import DEFAULTS, SEARCHERS
from gls_es.training.actors import Actors
from gls_es.training.bookkeeping import BEST, Bookkeeping, needed
from gls_es.training.stretching import PHASES as PHASES
from gls_es.training.stretching import stretched as stretched
from gls_es.training.timing import Planned, fitted
from gls_es.training.warmstart import read_start

ProblemLike = str | type[CertifiedTrainingProblem] | CertifiedTrainingProblem
"""A registered name or "module:Class", a problem class, or a problem object."""


@dataclass(frozen=True)
class Settings:
    """A resolved run: enough to build it again.

    Attributes:
        problem: the name the problem is found by.
        arguments: of the problem's constructor.
        searcher: a key of ``gls_es.searchers.table.SEARCHERS``.
        recipe: hyper-parameters.
        bookkeeping: what is kept, and how often; no field is None.
        tf32: whether CUDA may compute in TF32.
        init: the file of the initial weights, with its digest; None: random ones.
        ray_address: of the Ray cluster that holds the actors; no part of what is saved.
        planned: how the recipe was made to fit a budget, if it was; no part of what is saved.
    """

    problem: str
    arguments: dict[str, Any]
    searcher: str
    recipe: Recipe
    bookkeeping: Bookkeeping
    init: str | None = None
    tf32: bool = False
    ray_address: str | None = None
    planned: Planned | None = None


def prepared(
    problem: ProblemLike,
    searcher: str,
    *,
    init: str | Path | None,
    tf32: bool,
    budget: float | str | None = None,
    **options: Any,
) -> tuple[CertifiedTrainingProblem, Settings]:
    """The problem object and everything that is settled about the run; see ``gls_es.train`` for the arguments.

    Raises:
        ConfigError: an argument that makes no sense.
        CheckpointError: ``init`` cannot be read, or does not fit.
    """
    began = budget.since if isinstance(budget, Running) else time.perf_counter()
    seconds = None if budget is None else seconds_in("budget", budget)
    if seconds is not None and options["generations"] is not None:
        raise ConfigError("budget and generations both say how long to train; give one of them.")
    for name in set(options["bookkeeping"].log) - {"csv"}:
        needed(name)  # before there is a run folder
    start = None if init is None else read_start(init)
    made, settings = _made(problem, searcher, **options)
    if tf32 and torch.device(made.aux_device).type != "cuda":
        raise ConfigError(f"tf32 is for CUDA, not for the device {str(made.device)!r}.")
    settings = dataclasses.replace(settings, tf32=tf32)
    if start is not None:
        made.network = start.network(made.network)
        settings = dataclasses.replace(settings, init=start.source)
    check_keep(made, settings.bookkeeping)
    if seconds is not None:
        planned = fitted(made, searcher, settings.recipe, seconds, began=began)
        settings = dataclasses.replace(settings, recipe=planned.recipe, planned=planned)
    return made, settings


def check_keep(problem: CertifiedTrainingProblem, bookkeeping: Bookkeeping) -> None:
    """Refuse to choose a best checkpoint by test images.

    Raises:
        ConfigError: the best one is to be kept, and there is no validation split.
    """
    if bookkeeping.keep == BEST and problem.data.validation is None:
        raise ConfigError(
            'keep = "best" chooses by validation images, and there are none: take some from the training images with '
            "--set validation=500 (validation=500 of the problem). Test images never choose."
        )


def _made(
    problem: ProblemLike,
    searcher: str,
    *,
    generations: int | None,
    overrides: Mapping[str, Any] | None,
    bookkeeping: Bookkeeping,
    actors: Actors,
    **options: Any,
) -> tuple[CertifiedTrainingProblem, Settings]:
    named(SEARCHERS, searcher, "unknown searcher")
    check_device(options["device"])
    cls = _class_of(problem)
    if not issubclass(cls, CertifiedTrainingProblem):
        raise ConfigError(f"problem must be a name or a gls_es.CertifiedTrainingProblem, not {problem!r}.")
    recipe = usual_recipe(cls, searcher)
    if generations is not None:
        recipe = stretched(recipe, generations)
    changes, own = split_overrides(cls, overrides or {})
    asked = options["method"] if isinstance(problem, (str, type)) else problem.arguments.get("method")
    if asked is not None or changes.get("loss", recipe.loss) != "robust":  # other losses have a usual method of theirs
        recipe = recipe.replaced(main_method="")
    recipe = recipe.replaced(**changes)
    if searcher == "grad":
        recipe = recipe.replaced(popsize=1, stdev_init=0.0)
    for method in filter(None, (recipe.warmup_method, recipe.main_method, recipe.stand_in)):
        method_named(method)
    if not isinstance(problem, (str, type)):
        if actors.count:
            raise ConfigError("actors are settled by the problem object; make it with num_actors=... instead.")
        return _of_object(cast(CertifiedTrainingProblem, problem), searcher, recipe, bookkeeping, overrides, options)
    root = options["data_root"]
    arguments = {
        "eps": options["eps"],
        "method": options["method"],
        "seed": options["seed"],
        "device": options["device"],
        "data_root": None if root is None else str(Path(root).resolve()),
        "loss": recipe.loss,
        "initial_weights": recipe.initial_weights,
        "batch_size": recipe.batch_size,
        "natural_weight": recipe.natural_weight,
        "l1": recipe.l1,
        **own,
        **actors.arguments(options["device"]),
    }
    name = problem if isinstance(problem, str) else registered_name(cls)
    settings = Settings(name, arguments, searcher, recipe, bookkeeping, ray_address=actors.address)
    return cls(**arguments), settings


def _of_object(
    made: CertifiedTrainingProblem,
    searcher: str,
    recipe: Recipe,
    bookkeeping: Bookkeeping,
    overrides: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> tuple[CertifiedTrainingProblem, Settings]:
    """The run of a problem object, which has settled some things itself."""
    for name in ("eps", "method"):
        if options[name] is not None:
            raise ConfigError(f"{name} is settled by the problem object; make it with {name}=... instead.")
    own = {name: getattr(made, name) for name in ("loss", "initial_weights", "batch_size", "natural_weight", "l1")}
    for name in (own.keys() | problem_options(type(made)).keys()) & dict(overrides or {}).keys():
        raise ConfigError(f"recipe: {name} is settled by the problem object; make it with {name}=... instead.")
    name = registered_name(type(made))
    return made, Settings(name, made.arguments, searcher, recipe.replaced(**own), bookkeeping)


def usual_recipe(cls: type[CertifiedTrainingProblem], searcher: str) -> Recipe:
    """The recipe that a problem brings for a searcher, or the searcher's own.

    For one of EvoTorch's other searchers the phases, minibatches and losses are those of the problem's PGPE recipe.

    Args:
        cls: the problem.
        searcher: a key of ``searchers.table.SEARCHERS``.
    """
    if searcher in cls.recipes or searcher not in OWN or "pgpe" not in cls.recipes:
        return cls.recipes.get(searcher, DEFAULTS[searcher])
    return cls.recipes["pgpe"].replaced(**searcher_fields(searcher))


def _class_of(problem: ProblemLike) -> type[CertifiedTrainingProblem]:
    if isinstance(problem, str):
        return resolve(problem)
    return cast(type[CertifiedTrainingProblem], problem if isinstance(problem, type) else type(problem))


def check_device(device: str) -> None:
    """Refuse a device that this PyTorch does not have.

    Raises:
        ConfigError: it does not.
    """
    existing_device(device)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "evotorch", "numpy")}
    return {"gls-es": __version__, **found, "python": platform.python_version()}


def plan_table(problem: CertifiedTrainingProblem, settings: Settings) -> dict[str, Any]:
    """What the run will do and what that costs, as plain values."""
    recipe = settings.recipe
    members = recipe.popsize
    return {
        "problem": settings.problem,
        "searcher": settings.searcher,
        "method": recipe.method_after_warmup(problem.method),
        "eps": problem.eps,
        "parameters": problem.network.num_parameters,
        "generations": recipe.generations,
        "popsize": members,
        "fitness": recipe.fitness,
        "batch_size": recipe.batch_size,
        "seed": problem.run_seed,
        "device": str(problem.device),
        "actors": problem.num_actors,
        "init": settings.init,
        "tf32": settings.tf32,
        "evaluations": recipe.generations * members * min(recipe.batch_size, len(problem.data.train)),
        "population_bytes": 4 * (members + 12) * problem.network.num_parameters,  # and center, σ, optimizer, gradient
        **settings.bookkeeping.as_dict(),
        **_planned(settings),
        "options": _given_options(problem, settings),
        "recipe": recipe.as_dict(),
    }


def _planned(settings: Settings) -> dict[str, Any]:
    planned = settings.planned
    return {} if planned is None else {"budget_seconds": planned.budget, "seconds_each": planned.each}


def config_table(problem: CertifiedTrainingProblem, settings: Settings) -> dict[str, Any]:
    """The settings as ``config.toml`` holds them; ``gls-es train --config`` takes them back."""
    return {
        "problem": settings.problem,
        "searcher": settings.searcher,
        "eps": _given_eps(problem, settings),
        "method": problem.method,
        "seed": problem.run_seed,
        "device": str(problem.device),
        "data": problem.data_root,
        "init": settings.init,
        "tf32": settings.tf32,
        **settings.bookkeeping.as_dict(),
        "options": _given_options(problem, settings),
        "recipe": settings.recipe.as_dict(),
        "versions": versions(),
    }


def _given_eps(problem: CertifiedTrainingProblem, settings: Settings) -> Any:
    """The radius, or where there is one for each channel or pixel all of them: a number would be another run."""
    if problem.perturbation.weights is None:
        return problem.eps
    given = settings.arguments.get("eps")
    radii = problem.perturbation.radii(problem.eps) if given is None else given
    return torch.as_tensor(radii, dtype=torch.float64).tolist()


def _given_options(problem: CertifiedTrainingProblem, settings: Settings) -> dict[str, Any]:
    """The problem's own options that were given."""
    return {name: settings.arguments[name] for name in problem_options(type(problem)) if name in settings.arguments}


def default_folder(settings: Settings) -> Path:
    """A folder in ``runs`` named after problem, searcher and time."""
    name = settings.problem.rpartition(":")[2].lower()
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{name}-{settings.searcher}-{stamp}"
