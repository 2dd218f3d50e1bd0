"""A search for hyper-parameters by two accuracies, natural and certified, on images kept out of training.

Test images play no part: trials train on the training images but the last ones, and those are what is certified and
what the choice of the next trial, the front, its table and its picture are made of. A trial's folder is locked while
somebody works on it, so several processes may share a search; one that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gls_es import certification, training
from gls_es.basics.atomic import write_atomically
from gls_es.certification import certifier
from gls_es.errors import BusyError, ConfigError, DataError, TrainingError
from gls_es.experiments.asking import next_point, optuna
from gls_es.experiments.front import front, save_picture
from gls_es.experiments.planning import alone
from gls_es.experiments.runner import ROUND_STAGES, STAGES
from gls_es.experiments.space import Dimension, changes, space_of, start_of
from gls_es.experiments.trials import Trial, folder_of, read_trials, write_asked, write_found
from gls_es.problem.options import split_overrides
from gls_es.problem.recipe import Recipe
from gls_es.problem.registry import resolve
from gls_es.searchers.table import DEFAULTS
from gls_es.training.lock import FolderLock
from gls_es.training.progress import NullProgress, Progress
from gls_es.training.settings import stretched
from gls_es.training.timing import generation_seconds

TUNING = "tuning.json"
FRONT = "front.json"
PICTURE = "front.svg"
TRIALS = 20
"""So many trials a budget is divided by, and so many there are without one."""
TRAINING_SHARE = 0.75
"""The part of a trial's time that training gets; certification takes the rest, more or less."""
VALIDATION_SHARE = 5
"""One of so many training images is kept out, at most :data:`MOST_VALIDATION`."""
MOST_VALIDATION = 5000
MOST_IMAGES = 1000


@dataclass(frozen=True)
class Tuning:
    """What a search is about, settled before its first trial and kept beside the trials.

    Attributes:
        problem: a registered name.
        searcher: "grad", "rgs" or "pgpe".
        method: the relaxation; None: the problem's.
        eps: the radius; None: the problem's.
        settings: fields of the recipe, or options of the problem, that all trials share.
        space: what is searched.
        validation: training images kept out.
        limit: the first of them, so many, are certified.
        timeout: seconds that the search of certification may take for one image.
        train_seconds: time of each trial's training, of this machine's threads; None: as long as the recipe says.
        seed: of the trainings, and of the search.
    """

    problem: str
    searcher: str
    method: str | None
    eps: float | None
    settings: dict[str, Any]
    space: tuple[Dimension, ...]
    validation: int
    limit: int
    timeout: float = 0.5
    train_seconds: float | None = None
    seed: int = 0

    @property
    def recipe(self) -> Recipe:
        """Where the search begins."""
        return base_recipe(self.problem, self.searcher, self.settings)

    def to_json(self) -> dict[str, Any]:
        """The search as plain values."""
        return dataclasses.asdict(self) | {"space": [dimension.to_json() for dimension in self.space]}


def base_recipe(problem: str, searcher: str, settings: Mapping[str, Any]) -> Recipe:
    """The problem's recipe with these settings; a number of generations stretches its phases first.

    Raises:
        ConfigError: settings that make no sense.
    """
    cls = resolve(problem)
    fields, _ = split_overrides(cls, settings)
    recipe = cls.recipes.get(searcher, DEFAULTS[searcher])
    return stretched(recipe, fields.get("generations", recipe.generations)).replaced(**fields)


def make_tuning(
    folder: Path,
    problem: str,
    searcher: str,
    *,
    budget: float | None = None,
    settings: Mapping[str, Any] | None = None,
    search: Sequence[str] = (),
    data_root: str | Path | None = None,
    **given: Any,
) -> Tuning:
    """The search in ``folder``, or a new one that is written there.

    Args:
        folder: where the search is kept.
        problem: a registered name.
        searcher: "grad", "rgs" or "pgpe".
        budget: seconds for about :data:`TRIALS` trials, where nothing says how long one trains.
        settings: see :class:`Tuning`.
        search: dimensions instead of the usual ones, see :func:`gls_es.experiments.space.parsed`.
        data_root: folder of datasets.
        given: other fields of :class:`Tuning`; None: not given.

    Raises:
        ConfigError: options that make no sense or contradict the search in the folder, or Optuna is not installed.
        DataError: the data are not there, or the search in the folder cannot be read.
    """
    optuna()  # before anything is written
    own = dict(settings or {})
    options = {name: value for name, value in given.items() if value is not None}
    known = _read(folder / TUNING) if (folder / TUNING).exists() else None
    if known is not None:
        wanted = options | {"problem": problem, "searcher": searcher} | ({"settings": own} if own else {})
        if search:
            wanted["space"] = [d.to_json() for d in space_of(searcher, known.recipe, settings=own, search=search)]
        _compare(folder / TUNING, known, wanted)
        return known
    recipe = base_recipe(problem, searcher, own)
    if options.get("train_seconds") is not None and "generations" in own:
        raise ConfigError("--train-time and --set generations=... both say how long a trial trains; give one.")
    if budget is not None and "generations" not in own:
        options.setdefault("train_seconds", TRAINING_SHARE * budget / TRIALS)
    resolve(problem).find_data(None if data_root is None else str(data_root))
    made = resolve(problem)(data_root=None if data_root is None else str(data_root))
    validation = options.pop("validation", min(MOST_VALIDATION, len(made.data.train) // VALIDATION_SHARE))
    limit = options.pop("limit", min(MOST_IMAGES, validation))
    if not 0 < limit <= validation:
        raise ConfigError(f"--limit {limit} of {validation} validation images: take at least 1 and at most all.")
    tuning = Tuning(
        problem, searcher, options.pop("method", None), options.pop("eps", None), own,
        space_of(searcher, recipe, settings=own, search=search), validation, limit, **options,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TUNING, json.dumps(tuning.to_json(), indent=1).encode())
    return tuning


def _compare(path: Path, known: Tuning, wanted: Mapping[str, Any]) -> None:
    """Refuse what differs from the search in the folder."""
    before = known.to_json()
    for name, value in wanted.items():
        if value != before[name]:
            raise ConfigError(
                f"{path}: the search there has {name} = {before[name]}, not {value}; leave the option out to go on "
                "with it, or choose another --out."
            )


def read_tuning(folder: Path) -> Tuning:
    """The search in a folder.

    Raises:
        ConfigError: there is none.
        DataError: it cannot be read.
    """
    if not (folder / TUNING).exists():
        raise ConfigError(f"{folder}: has no {TUNING}; give the folder of a search.")
    return _read(folder / TUNING)


def _read(path: Path) -> Tuning:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        space = tuple(Dimension(**{**one, "choices": tuple(one["choices"])}) for one in found["space"])
        return Tuning(**{**found, "space": space})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}); choose another --out.") from error


@dataclass
class Search:
    """A search at work.

    Attributes:
        tuning: what it is about.
        folder: where it is kept.
        data_root: folder of datasets.
        device: torch device.
        progress: makes what is told of every generation of a trial.
        certifying: makes what is told of the images that are certified.
        say: told what begins, what is skipped and what failed.
    """

    tuning: Tuning
    folder: Path
    data_root: str | Path | None = None
    device: str = "cpu"
    progress: Callable[[], AbstractContextManager[Progress]] = NullProgress
    certifying: Callable[[], AbstractContextManager[certifier.Progress | None]] = nullcontext
    say: Callable[[str], None] = lambda _line: None
    told: set[str] = field(default_factory=set)

    def run(self, *, trials: int | None = None, budget: float | None = None) -> list[Trial]:
        """Make trials until there are so many, or until all of them together have taken so long.

        Args:
            trials: how many in all, those of earlier calls included; None: as many as the budget has time for, and
                :data:`TRIALS` without one.
            budget: seconds of all trials together, those of earlier calls and other processes included. A trial begins
                if one of the usual length still fits, and there is one at least.

        Returns:
            All trials that are there.

        Raises:
            TrainingInterrupted: Ctrl-C or SIGTERM during training; the same call goes on where it stopped.
        """
        if trials is None and budget is None:
            trials = TRIALS
        for trial in read_trials(self.folder):
            if trial.open:
                self._finish(trial.folder)
        while self._has_room(trials, budget):
            self._finish(self._asked())
        return read_trials(self.folder)

    def _has_room(self, trials: int | None, budget: float | None) -> bool:
        known = read_trials(self.folder)
        if trials is not None and len(known) >= trials:
            return False
        times = [trial.seconds for trial in known if trial.seconds is not None]
        if budget is None or not times:
            return True
        at_work = sum(trial.open for trial in known)  # in other hands
        return sum(times) + (1 + at_work) * sum(times) / len(times) <= budget

    def _asked(self) -> Path:
        """The folder of a new trial, which says what is to be tried."""
        with alone(self.folder, self.say):  # or two processes would each make the same one
            known = read_trials(self.folder)
            number = 1 + max((trial.number for trial in known), default=-1)
            tuning = self.tuning
            first = start_of(tuning.space, tuning.recipe)
            params = next_point(tuning.space, known, seed=tuning.seed) if known else first
            trial = Trial(folder_of(self.folder, number), params)
            write_asked(trial)
        return trial.folder

    def _finish(self, folder: Path) -> None:
        """Do what a trial lacks, unless somebody works on it."""
        try:
            lock = FolderLock(folder / ".lock")
        except BusyError:
            if folder.name not in self.told:
                self.told.add(folder.name)
                self.say(f"{folder.name}: another process works on it")
            return
        try:
            (trial,) = (found for found in read_trials(self.folder) if found.folder == folder)
            if trial.open:
                self._work(trial)
        finally:
            lock.release()

    def _work(self, trial: Trial) -> None:
        tuning, began = self.tuning, time.monotonic()
        if trial.generations is None:
            trial = dataclasses.replace(trial, generations=self._generations(trial))
            write_asked(trial)
        self.say(f"{trial.folder.name}: {trial.generations} generations")
        try:
            self._train(trial)
        except TrainingError as error:
            self.say(f"{trial.folder.name}: failed: {error}")
            write_found(dataclasses.replace(trial, failed=str(error)))
            return
        trained = training.load_trained(trial.checkpoint)
        images, labels = trained.dataset(self.data_root).split("validation").batch(slice(0, tuning.limit))
        region = trained.region()
        stages = STAGES if region["norm"] == "linf" else ROUND_STAGES
        with self.certifying() as progress:
            report = certification.certify(
                trained, images, labels, stages=stages, records=trial.verdicts, timeout=tuning.timeout,
                progress=progress, **region,
            )  # fmt: skip
        found = dataclasses.replace(
            trial, natural=report.natural_accuracy, certified=report.certified_accuracy, unknown=report.unknown,
            images=report.n, seconds=time.monotonic() - began,
        )  # fmt: skip
        write_found(found)
        self.say(f"{trial.folder.name}: natural {found.natural:.1%}, certified {found.certified:.1%}")
        write_front(tuning, self.folder)

    def _generations(self, trial: Trial) -> int:
        """How long the trial trains: measured, if it has a time."""
        tuning, recipe = self.tuning, self.tuning.recipe
        if tuning.train_seconds is None:
            return recipe.generations
        recipe = recipe.replaced(**changes(trial.params, recipe))
        _, options = split_overrides(resolve(tuning.problem), tuning.settings)
        root = None if self.data_root is None else str(self.data_root)
        problem = resolve(tuning.problem)(
            eps=tuning.eps, method=tuning.method, batch_size=recipe.batch_size, loss=recipe.loss, device=self.device,
            data_root=root, **{**options, "validation": tuning.validation},
        )  # fmt: skip
        return max(1, round(tuning.train_seconds / generation_seconds(problem, tuning.searcher, recipe)))

    def _train(self, trial: Trial) -> None:
        """Train the trial to its end, or what is left of it."""
        tuning = self.tuning
        assert trial.generations is not None
        with self.progress() as shown:
            if trial.checkpoint.exists():
                training.resume(trial.run, data_root=self.data_root, progress=shown)
                return
            _clear(trial)
            recipe = base_recipe(tuning.problem, tuning.searcher, tuning.settings | {"generations": trial.generations})
            settings = {name: value for name, value in tuning.settings.items() if name != "generations"}
            evaluate = {"evaluate_every": max(1, trial.generations // 10)}
            overrides = evaluate | settings | changes(trial.params, recipe) | {"validation": tuning.validation}
            training.train(
                tuning.problem, tuning.searcher, out=trial.run, seed=tuning.seed, eps=tuning.eps, method=tuning.method,
                generations=trial.generations, device=self.device, data_root=self.data_root, overrides=overrides,
                progress=shown,
            )  # fmt: skip


def _clear(trial: Trial) -> None:
    """Remove what a trial without a checkpoint left: training would refuse the folder."""
    if trial.run.exists():
        shutil.rmtree(trial.run)
    trial.verdicts.unlink(missing_ok=True)


def front_table(tuning: Tuning, trials: Sequence[Trial]) -> dict[str, Any]:
    """The search, all trials, and the numbers of those on the front, as plain values."""
    return {
        "tuning": tuning.to_json(),
        "trials": [trial.to_json() for trial in trials],
        "front": [trial.number for trial in front(trials)],
    }


def write_front(tuning: Tuning, folder: Path) -> None:
    """Write the front as JSON and as a picture into the search's folder."""
    trials = read_trials(folder)
    write_atomically(folder / FRONT, json.dumps(front_table(tuning, trials), indent=1).encode())
    save_picture(
        trials, folder / PICTURE, title=f"{tuning.problem}, {tuning.searcher}: {tuning.limit} validation images"
    )
