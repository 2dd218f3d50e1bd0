"""Starting and resuming runs: from a problem and a recipe to a run folder with a checkpoint."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import torch

from gls_es.bounds import method_named
from gls_es.errors import CheckpointError, ConfigError
from gls_es.memory import keep_freed_memory
from gls_es.problem import CertifiedTrainingProblem
from gls_es.recipe import Recipe
from gls_es.registry import registered_name, resolve
from gls_es.searchers.table import DEFAULTS, SEARCHERS, build, restore_searcher, searcher_state
from gls_es.threads import whole_operations
from gls_es.training.checkpoint import load_checkpoint, save_checkpoint
from gls_es.training.loop import Loop, StopSignals, TrainingInterrupted
from gls_es.training.progress import NullProgress, Progress
from gls_es.training.runfolder import MetricsWriter, RunFolder
from gls_es.training.schedules import Schedule
from gls_es.training.trained import trusted_problem

ProblemLike = str | type[CertifiedTrainingProblem] | CertifiedTrainingProblem


@dataclass(frozen=True)
class _Settings:
    """A resolved run: enough to build it again."""

    problem: str
    arguments: dict[str, Any]
    searcher: str
    recipe: Recipe


def train(
    problem: ProblemLike,
    searcher: str = "pgpe",
    *,
    out: str | Path | None = None,
    seed: int = 0,
    eps: float | None = None,
    method: str | None = None,
    generations: int | None = None,
    device: str = "cpu",
    data_root: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a network and leave its run folder: ``checkpoint.pt``, ``config.toml``, ``metrics.jsonl``.

    Args:
        problem: a registered name, "module:Class", a problem class, or a problem object (whose own eps, method, seed,
            device, batch_size, natural_weight and l1 then hold).
        searcher: "pgpe", "rgs" or "grad".
        out: the run folder; None: ``runs/<problem>-<searcher>-<time>``.
        seed: of initial weights, minibatches and noise.
        eps: radius; None: the problem's.
        method: relaxation; None: the problem's.
        generations: updates of the center; None: the recipe's. Phases of the recipe keep their share.
        device: torch device.
        data_root: folder of datasets.
        overrides: recipe fields to change.
        progress: what is told of every generation.

    Returns:
        The path of the checkpoint.

    Raises:
        ConfigError: an argument that makes no sense.
        DataError: the data are missing or damaged.
        TrainingError: training cannot go on.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    made, settings = _prepared(
        problem, searcher, seed=seed, eps=eps, method=method, device=device, data_root=data_root,
        generations=generations, overrides=overrides,
    )  # fmt: skip
    schedule = Schedule(settings.recipe, made.eps, made.method)
    search = build(searcher, made, settings.recipe)
    with RunFolder.create(_default_folder(settings) if out is None else out) as folder:
        folder.write_config(_config(settings, made))
        with MetricsWriter(folder.metrics) as metrics:
            loop = Loop(made, search, schedule, _saver(folder, settings), metrics, progress or NullProgress())
            return _run(loop, folder, settings)


def resume(
    run: str | Path,
    *,
    generations: int | None = None,
    data_root: str | Path | None = None,
    problem: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Go on with a run where its checkpoint left it, bit for bit as if it had never stopped.

    Args:
        run: the run folder.
        generations: a new total, for a run whose schedules are to be stretched; None: the run's own.
        data_root: where the data are now; None: where they were.
        problem: the problem's name, needed where the run names a file (see ``load_trained``).
        progress: what is told of every generation.

    Returns:
        The path of the checkpoint.

    Raises:
        CheckpointError: the folder holds no run that can go on.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    with RunFolder.open(run) as folder:
        saved = load_checkpoint(folder.checkpoint)
        if "searcher_state" not in saved:
            raise CheckpointError(f"{folder.checkpoint}: holds weights only, not a run that can go on.")
        recipe = Recipe().replaced(**saved["recipe"])
        if generations is not None:
            recipe = _stretched(recipe, generations)
        if recipe.generations < saved["generation"]:
            raise ConfigError(f"{folder.path}: has {saved['generation']} generations already, not {generations}.")
        moved = {} if data_root is None else {"data_root": str(Path(data_root).resolve())}
        settings = _Settings(saved["problem"], saved["problem_args"] | moved, saved["searcher"], recipe)
        _check_device(settings.arguments.get("device", "cpu"))
        made = trusted_problem(folder.checkpoint, settings.problem, problem).rebuilt(settings.arguments)
        if made.data.digest() != saved["data_digest"]:
            raise CheckpointError(f"{folder.path}: the data are not those the run began with; point --data at them.")
        search = build(settings.searcher, made, recipe)
        restore_searcher(search, saved["searcher_state"])
        schedule = Schedule(recipe, made.eps, made.method)
        with MetricsWriter(folder.metrics, after=saved["generation"]) as metrics:
            loop = Loop(made, search, schedule, _saver(folder, settings), metrics, progress or NullProgress())
            loop.done, loop.elapsed = saved["generation"], saved["elapsed_seconds"]
            loop.last_row.update(saved["history"])
            return _run(loop, folder, settings)


def plan(
    problem: ProblemLike,
    searcher: str = "pgpe",
    *,
    seed: int = 0,
    eps: float | None = None,
    method: str | None = None,
    generations: int | None = None,
    device: str = "cpu",
    data_root: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What :func:`train` would do, without doing it: the resolved settings and their cost, as plain values."""
    made, settings = _prepared(
        problem, searcher, seed=seed, eps=eps, method=method, device=device, data_root=data_root,
        generations=generations, overrides=overrides,
    )  # fmt: skip
    build(searcher, made, settings.recipe)
    return _plan(made, settings)


def _prepared(
    problem: ProblemLike,
    searcher: str,
    *,
    generations: int | None,
    overrides: Mapping[str, Any] | None,
    **options: Any,
) -> tuple[CertifiedTrainingProblem, _Settings]:
    """The problem object and everything that is settled about the run."""
    if searcher not in SEARCHERS:
        raise ConfigError(f"unknown searcher {searcher!r}: choose one of {', '.join(SEARCHERS)}.")
    _check_device(options["device"])
    cls = _class_of(problem)
    if not issubclass(cls, CertifiedTrainingProblem):
        raise ConfigError(f"problem must be a name or a gls_es.CertifiedTrainingProblem, not {problem!r}.")
    recipe = cls.recipes.get(searcher, DEFAULTS[searcher])
    if generations is not None:
        recipe = _stretched(recipe, generations)
    recipe = recipe.replaced(**dict(overrides or {}))
    if searcher == "grad":
        recipe = recipe.replaced(popsize=1, stdev_init=0.0)
    if recipe.warmup_method:
        method_named(recipe.warmup_method)
    if not isinstance(problem, (str, type)):
        for name in ("eps", "method"):
            if options[name] is not None:
                raise ConfigError(f"{name} is settled by the problem object; make it with {name}=... instead.")
        own = {name: getattr(problem, name) for name in ("batch_size", "natural_weight", "l1")}
        for name in own.keys() & dict(overrides or {}).keys():
            raise ConfigError(f"recipe: {name} is settled by the problem object; make it with {name}=... instead.")
        made = cast(CertifiedTrainingProblem, problem)
        return made, _Settings(registered_name(cls), made.arguments, searcher, recipe.replaced(**own))
    root = options["data_root"]
    arguments = {
        "eps": options["eps"],
        "method": options["method"],
        "seed": options["seed"],
        "device": options["device"],
        "data_root": None if root is None else str(Path(root).resolve()),
        "batch_size": recipe.batch_size,
        "natural_weight": recipe.natural_weight,
        "l1": recipe.l1,
    }
    name = problem if isinstance(problem, str) else registered_name(cls)
    return cls(**arguments), _Settings(name, arguments, searcher, recipe)


def _class_of(problem: ProblemLike) -> type[CertifiedTrainingProblem]:
    if isinstance(problem, str):
        return resolve(problem)
    return cast(type[CertifiedTrainingProblem], problem if isinstance(problem, type) else type(problem))


def _stretched(recipe: Recipe, generations: int) -> Recipe:
    """The recipe over another number of generations, its phases keeping their share."""
    if generations < 1:
        raise ConfigError(f"generations must be at least 1, not {generations}.")
    share = generations / recipe.generations
    return recipe.replaced(
        generations=generations,
        natural_until=round(recipe.natural_until * share),
        ramp_until=round(recipe.ramp_until * share),
        warmup_until=round(recipe.warmup_until * share),
    )


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"unknown device {device!r}: use cpu, cuda or cuda:N.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r}: this PyTorch finds no CUDA device; use --device cpu.")


def _run(loop: Loop, folder: RunFolder, settings: _Settings) -> Path:
    keep_freed_memory()
    loop.problem.stages = loop.schedule.stage
    loop.progress.start(_plan(loop.problem, settings))
    with StopSignals() as signals, whole_operations():
        loop.run(signals.requested)
    if loop.done < loop.recipe.generations:
        raise TrainingInterrupted(
            f"stopped at generation {loop.done} of {loop.recipe.generations}, saved; go on with "
            f"`gls-es train --resume {folder.path}`."
        )
    loop.progress.finish(loop.last_row | {"checkpoint": str(folder.checkpoint)})
    return folder.checkpoint


def _saver(folder: RunFolder, settings: _Settings) -> Any:
    def save(loop: Loop) -> None:
        problem = loop.problem
        accuracies = {k: v for k, v in loop.last_row.items() if k.endswith("_accuracy")}
        save_checkpoint(
            folder.checkpoint,
            {
                "problem": settings.problem,
                "problem_args": settings.arguments,
                "searcher": settings.searcher,
                "recipe": loop.recipe.as_dict(),
                "generation": loop.done,
                "elapsed_seconds": loop.elapsed,
                "eps": problem.eps,
                "method": problem.method,
                "input_shape": list(problem.network.input_shape),
                "center": loop.center.detach().cpu().clone(),
                "buffers": {name: b.cpu() for name, b in problem.network.buffers().items()},
                "searcher_state": searcher_state(loop.searcher),
                "data_digest": problem.data.digest(),
                "versions": versions(),
                "history": accuracies,
            },
        )

    return save


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "evotorch", "numpy")}
    from gls_es import __version__

    return {"gls-es": __version__, **found, "python": platform.python_version()}


def _plan(problem: CertifiedTrainingProblem, settings: _Settings) -> dict[str, Any]:
    recipe = settings.recipe
    members = recipe.popsize
    return {
        "problem": settings.problem,
        "searcher": settings.searcher,
        "method": problem.method,
        "eps": problem.eps,
        "parameters": problem.network.num_parameters,
        "generations": recipe.generations,
        "popsize": members,
        "batch_size": recipe.batch_size,
        "seed": problem.run_seed,
        "device": str(problem.device),
        "evaluations": recipe.generations * members * min(recipe.batch_size, len(problem.data.train)),
        "population_bytes": math.ceil(2.6 * 4 * members * problem.network.num_parameters),
        "recipe": recipe.as_dict(),
    }


def _config(settings: _Settings, problem: CertifiedTrainingProblem) -> dict[str, Any]:
    return {
        "problem": settings.problem,
        "searcher": settings.searcher,
        "eps": problem.eps,
        "method": problem.method,
        "seed": problem.run_seed,
        "device": str(problem.device),
        "data": problem.data_root,
        "recipe": settings.recipe.as_dict(),
        "versions": versions(),
    }


def _default_folder(settings: _Settings) -> Path:
    name = settings.problem.rpartition(":")[2].lower()
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{name}-{settings.searcher}-{stamp}"
