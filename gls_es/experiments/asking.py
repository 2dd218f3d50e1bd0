"""Which point of a space to try next, asked of Optuna, which is told everything that is known every time.

The trials' own files are the only memory: a study is built from them for each question, in memory, and forgotten. So
nothing has to agree with a data base after a process was killed, several processes may ask, and any version of Optuna
goes on with what another one began.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from gls_es.basics.seeding import derived_seed
from gls_es.errors import ConfigError
from gls_es.experiments.space import Dimension
from gls_es.experiments.trials import Trial

STARTUP = 10
"""Trials at random before what is known guides the choice."""


def optuna() -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError(f"tuning needs optuna ({error}); install it with: pip install 'gls-es[tune]'") from error


def next_point(space: Sequence[Dimension], trials: Sequence[Trial], *, seed: int) -> dict[str, Any]:
    """The hyper-parameters of the next trial: those that promise to move the front of both accuracies.

    Tree-structured Parzen estimators for several objectives (Ozaki et al. 2022), after :data:`STARTUP` random points.

    Args:
        space: what is searched.
        trials: all so far; those that failed or are at work count for nothing but their number.
        seed: with the number of trials, decides everything random.
    """
    library = optuna()
    library.logging.set_verbosity(library.logging.WARNING)
    sampler = library.samplers.TPESampler(
        seed=derived_seed(seed, "tune", len(trials)) % 2**32, n_startup_trials=STARTUP
    )
    study = library.create_study(directions=["maximize", "maximize"], sampler=sampler)
    distributions = {dimension.name: _distribution(library, dimension) for dimension in space}
    for trial in trials:
        if trial.finished:
            values = [trial.natural, trial.certified]
            known = library.trial.create_trial(params=dict(trial.params), distributions=distributions, values=values)
            study.add_trial(known)
    asked: dict[str, Any] = study.ask(distributions).params
    return {dimension.name: asked[dimension.name] for dimension in space}


def _distribution(library: Any, dimension: Dimension) -> Any:
    if dimension.choices:
        return library.distributions.CategoricalDistribution(dimension.choices)
    if dimension.whole:
        return library.distributions.IntDistribution(dimension.low, dimension.high, log=dimension.log)
    return library.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
