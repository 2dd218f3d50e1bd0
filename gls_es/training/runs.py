"""Starting and resuming runs: from a problem and a recipe to a run folder with a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gls_es.basics.memory import keep_freed_memory
from gls_es.basics.modes import ordinary_modes, under_autocast
from gls_es.basics.threads import whole_operations
from gls_es.errors import ActorError, CheckpointError, ConfigError, TrainingError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe
from gls_es.searchers.table import build, restore_searcher
from gls_es.training.actors import Actors, running
from gls_es.training.arithmetic import float32_products
from gls_es.training.averaging import Average
from gls_es.training.bookkeeping import BEST, DEFAULT, Bookkeeping
from gls_es.training.checkpoint import load_checkpoint
from gls_es.training.loop import Loop, TrainingInterrupted
from gls_es.training.progress import NullProgress, PlainProgress, Progress
from gls_es.training.runfolder import RunFolder
from gls_es.training.runlog import RunLog
from gls_es.training.saving import Saver
from gls_es.training.schedules import Schedule
from gls_es.training.settings import (
    ProblemLike,
    Settings,
    check_device,
    check_keep,
    config_table,
    default_folder,
    plan_table,
    prepared,
    stretched,
)
from gls_es.training.signals import StopSignals
from gls_es.training.trained import held_in, trusted_problem
from gls_es.training.wayon import HANDED, way_on

if TYPE_CHECKING:
    from evotorch.algorithms.searchalgorithm import SearchAlgorithm


@ordinary_modes()
def train(
    problem: ProblemLike,
    searcher: str = "pgpe",
    *,
    out: str | Path | None = None,
    seed: int = 0,
    eps: Any = None,
    method: str | None = None,
    generations: int | None = None,
    budget: float | str | None = None,
    device: str = "cpu",
    data_root: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    bookkeeping: Bookkeeping | None = None,
    actors: Actors | None = None,
    tf32: bool = False,
    progress: Progress | bool | None = None,
) -> Path:
    """Train a network and leave its run folder: ``checkpoint.pt``, ``config.toml``, ``metrics.jsonl``.

    Args:
        problem: a registered name, "module:Class", a problem class, or a problem object (whose own settings then hold).
        searcher: a name of ``gls_es.searchers.SEARCHERS``: "pgpe", "rgs", "grad", "snes" ....
        out: the run folder; None: ``runs/<problem>-<searcher>-<time>``.
        seed: of initial weights, minibatches and noise.
        eps: radius, or radii per channel or pixel; None: the problem's.
        method: relaxation; None: the problem's.
        generations: updates of the center; None: the recipe's. Phases of the recipe keep their share.
        budget: time instead of ``generations``, seconds or "10m": as many as fit, measured first, as part of it.
        device: torch device.
        data_root: folder of datasets.
        overrides: recipe fields to change.
        init: file of the initial weights; None: random ones.
        bookkeeping: how often to save, and what to keep.
        actors: processes that share the population; None: this one alone.
        tf32: whether CUDA may compute in TF32, faster and less exact.
        progress: what is told of every generation; True: lines on stderr.

    Returns:
        The path of the checkpoint.

    Raises:
        ConfigError, DataError: an argument makes no sense; the data are missing or damaged.
        TrainingError: training cannot go on.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    shown = _shown(progress)
    _check_kinds(out=out, data_root=data_root, init=init, overrides=overrides, bookkeeping=bookkeeping, actors=actors)
    made, settings = prepared(
        problem, searcher, seed=seed, eps=eps, method=method, device=device, data_root=data_root, budget=budget,
        generations=generations, overrides=overrides, init=init, tf32=tf32,
        bookkeeping=(bookkeeping or DEFAULT).over(DEFAULT), actors=actors or Actors(),
    )  # fmt: skip
    search = build(searcher, made, settings.recipe)
    with StopSignals(shown.note) as signals, RunFolder.create(out or default_folder(settings)) as folder:
        folder.write_config(config_table(made, settings))
        with _log(made, settings, folder, shown) as log:
            loop = _loop(made, search, settings, folder, log, shown)
            return _run(loop, folder, settings, signals)


@ordinary_modes()
def resume(
    run: str | Path,
    *,
    generations: int | None = None,
    data_root: str | Path | None = None,
    problem: str | type[CertifiedTrainingProblem] | None = None,
    bookkeeping: Bookkeeping | None = None,
    actors: Actors | None = None,
    progress: Progress | bool | None = None,
) -> Path:
    """Go on with a run where its checkpoint left it, bit for bit as if it had never stopped.

    Args:
        run: the run folder.
        generations: a new total, for a run whose schedules are to be stretched; None: the run's own.
        data_root: where the data are now; None: where they were.
        problem: the problem's name or class, needed where the run names a file or a module (see ``load_trained``).
        bookkeeping: what is to change in how often the run saves and what it keeps.
        actors: other processes than the run had before, which changes roundings; None: the same, with a Ray of its own.
        progress: what is told of every generation; True: lines on stderr.

    Returns:
        The path of the checkpoint.

    Raises:
        CheckpointError: the folder holds no run that can go on.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    _check_kinds(run=run, data_root=data_root, bookkeeping=bookkeeping, actors=actors)
    shown = _shown(progress)
    with StopSignals(shown.note) as signals, RunFolder.open(run) as folder:
        saved = load_checkpoint(folder.checkpoint)
        if "searcher_state" not in saved:
            raise CheckpointError(f"{folder.checkpoint}: holds weights only, not a run that can go on.")
        settings = _resumed(saved, folder, generations, data_root, bookkeeping or Bookkeeping(), actors)
        check_device(settings.arguments.get("device", "cpu"))
        cls = trusted_problem(folder.checkpoint, settings.problem, problem)
        with held_in(folder.checkpoint):
            made = cls.rebuilt(settings.arguments)
        check_keep(made, settings.bookkeeping)
        if made.data.digest() != saved["data_digest"]:
            where = "give owned() the same, held_out too" if settings.problem == HANDED else "point --data at them"
            raise CheckpointError(f"{folder.path}: the data are not those the run began with; {where}.")
        made.network = made.network.holding(saved["center"], saved["buffers"])
        search = build(settings.searcher, made, settings.recipe)
        restore_searcher(search, saved["searcher_state"])
        with _log(made, settings, folder, shown, after=saved["generation"]) as log:
            loop = _loop(made, search, settings, folder, log, shown)
            loop.restore(saved)
            return _run(loop, folder, settings, signals)


def _resumed(
    saved: dict[str, Any],
    folder: RunFolder,
    generations: int | None,
    data_root: str | Path | None,
    bookkeeping: Bookkeeping,
    actors: Actors | None,
) -> Settings:
    """The settings of a saved run, with what may be changed in them."""
    with held_in(folder.checkpoint):
        recipe = Recipe().replaced(**saved["recipe"])
    if generations is not None:
        recipe = stretched(recipe, generations)
    if recipe.generations < saved["generation"]:
        raise ConfigError(f"{folder.path}: has {saved['generation']} generations already, not {generations}.")
    arguments = dict(saved["problem_args"])
    if data_root is not None:
        arguments["data_root"] = str(Path(data_root).resolve())
    if actors is not None and actors.count:
        kept_arguments = {k: v for k, v in arguments.items() if k not in ("num_actors", "num_gpus_per_actor")}
        arguments = kept_arguments | actors.arguments(str(arguments.get("device", "cpu")))
    kept = bookkeeping.over(Bookkeeping(**saved["bookkeeping"]))
    address = None if actors is None else actors.address
    return Settings(
        saved["problem"],
        arguments,
        saved["searcher"],
        recipe,
        kept,
        init=saved["init"],
        tf32=saved.get("tf32", False),
        ray_address=address,
    )


@ordinary_modes()
def plan(
    problem: ProblemLike,
    searcher: str = "pgpe",
    *,
    seed: int = 0,
    eps: Any = None,
    method: str | None = None,
    generations: int | None = None,
    budget: float | str | None = None,
    device: str = "cpu",
    data_root: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    bookkeeping: Bookkeeping | None = None,
    actors: Actors | None = None,
    tf32: bool = False,
) -> dict[str, Any]:
    """What :func:`train` would do, without doing it: the resolved settings and their cost, as plain values."""
    return plan_table(*resolved(
        problem, searcher, seed=seed, eps=eps, method=method, generations=generations, budget=budget, device=device,
        data_root=data_root, overrides=overrides, init=init, bookkeeping=bookkeeping, actors=actors, tf32=tf32,
    ))  # fmt: skip


def resolved(
    problem: ProblemLike,
    searcher: str = "pgpe",
    *,
    data_root: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    bookkeeping: Bookkeeping | None = None,
    actors: Actors | None = None,
    **options: Any,
) -> tuple[CertifiedTrainingProblem, Settings]:
    """The problem and the settings that :func:`train` would begin with.

    Arguments and errors are those of :func:`plan`.
    """
    _check_kinds(data_root=data_root, init=init, overrides=overrides, bookkeeping=bookkeeping, actors=actors)
    usual = {
        "seed": 0,
        "eps": None,
        "method": None,
        "generations": None,
        "budget": None,
        "device": "cpu",
        "tf32": False,
    }
    made, settings = prepared(
        problem, searcher, data_root=data_root, overrides=overrides, init=init,
        bookkeeping=(bookkeeping or DEFAULT).over(DEFAULT), actors=actors or Actors(), **(usual | options),
    )  # fmt: skip
    build(searcher, made, settings.recipe)
    return made, settings


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "run": ((str, Path), "the path of a run folder"),
    "out": ((str, Path), "the path of a folder"),
    "data_root": ((str, Path), "the path of a folder"),
    "init": ((str, Path), "the path of a file"),
    "overrides": (Mapping, "a dict of recipe fields"),
    "bookkeeping": (Bookkeeping, "a gls_es.training.Bookkeeping"),
    "actors": (Actors, "a gls_es.training.Actors"),
}


def _shown(progress: Any) -> Progress:
    """What is told of every generation."""
    if progress is None or isinstance(progress, bool):
        return PlainProgress(sys.stderr) if progress else NullProgress()
    told: Progress = progress
    for name in ("note", "start", "finish"):
        if not callable(getattr(told, name, None)):
            raise ConfigError(f"progress must be a gls_es.training.Progress, not {progress!r}, which has no {name}().")
    return told


def _check_kinds(**arguments: Any) -> None:
    """Refuse arguments of the wrong kind, before a folder is made; and autocast, in which losses would be rounded."""
    for name, value in arguments.items():
        kind, wanted = _KINDS[name]
        if not (value is None or isinstance(value, kind)):
            raise ConfigError(f"{name} must be {wanted}, not {value!r}.")
    if under_autocast():
        raise ConfigError("training was begun under torch.autocast, which rounds the bounds; call it outside.")


def _log(
    made: CertifiedTrainingProblem,
    settings: Settings,
    folder: RunFolder,
    progress: Progress,
    *,
    after: int | None = None,
) -> RunLog:
    config = config_table(made, settings)
    return RunLog(folder, settings.bookkeeping, config=config, note=progress.note, after=after)


def _loop(
    made: CertifiedTrainingProblem,
    searcher: SearchAlgorithm,
    settings: Settings,
    folder: RunFolder,
    log: RunLog,
    progress: Progress,
) -> Loop:
    recipe = settings.recipe
    return Loop(
        problem=made,
        searcher=searcher,
        schedule=Schedule(recipe, made.eps, made.method),
        save=Saver(folder.checkpoint, settings),
        metrics=log,
        progress=progress,
        average=Average(recipe.average_decay, recipe.average_from),
        save_every=cast(float, settings.bookkeeping.save_every),
        has_statistics=settings.init is not None,
        keeps_best=settings.bookkeeping.keep == BEST,
    )


def _run(loop: Loop, folder: RunFolder, settings: Settings, signals: StopSignals) -> Path:
    keep_freed_memory()
    if settings.planned is not None:
        loop.progress.note(str(settings.planned))
    loop.problem.stages = loop.schedule.stage
    loop.progress.start(plan_table(loop.problem, settings) | {"generation": loop.done})
    total, before = loop.recipe.generations, loop.done
    if before >= total:
        more = "a larger --generations (in Python generations=...) goes on"
        loop.progress.note(f"already at its end ({before} of {total} generations); {more}.")
    further = way_on(folder.path, settings.problem, held_out=getattr(loop.problem, "held_out_given", False))
    try:
        with (
            running(loop.problem, settings.ray_address),
            whole_operations(),
            float32_products(tf32=settings.tf32),
        ):
            loop.run(signals.requested)
    except KeyboardInterrupt:
        raise TrainingInterrupted(
            f"stopped at once, in generation {loop.done + 1}; {loop.saved or 0} are saved, go on with {further}.",
            at_once=True,
        ) from None
    except ActorError as error:
        loop.save(loop)  # the searcher is where the last generation left it
        raise TrainingError(f"{error} Saved at generation {loop.done}; go on with {further}.") from error
    except CheckpointError as error:
        raise CheckpointError(f"{error} Once that is mended, go on with {further}.") from error
    if loop.done < total:
        raise TrainingInterrupted(f"stopped at generation {loop.done} of {total}, saved; go on with {further}.")
    known = {"generation": loop.done, "generations": total, "elapsed_seconds": round(loop.elapsed, 3)}
    ended = {"checkpoint": str(folder.checkpoint), "already": before >= total}
    loop.progress.finish(known | loop.last_row | ended)
    return folder.checkpoint
