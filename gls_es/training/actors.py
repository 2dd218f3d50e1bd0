"""Several processes for one run: which, and the Ray that holds them (see docs/distributed.md).

Ray is started only when two actors or more are asked for, and stopped afterwards; a Ray that runs already is used and
left alone.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gls_es.errors import ConfigError, TrainingError
from gls_es.problem import CertifiedTrainingProblem

# Ray would write a token into the user's home, report its use, and warn about a change that does not concern us.
_PAUSES = (2.0, 5.0)
"""Seconds before another try: on a busy machine Ray gives up on processes of its own that answer too late."""
_RAY = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # actors are the work here; by default they give way to every other program
}


@dataclass(frozen=True)
class Actors:
    """Where a population is evaluated.

    Attributes:
        count: processes; 0 and 1: this one alone.
        gpus: GPUs for each, 0.5 for two to share one; 0: they compute on CPUs.
        address: of a running Ray cluster, "host:port" or "auto"; None: a Ray of this run's own on this machine.
    """

    count: int = 0
    gpus: float = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError(f"actors must be at least 0, not {self.count}.")
        if not 0 <= self.gpus < float("inf"):
            raise ConfigError(f"gpus_per_actor must be at least 0, not {self.gpus}.")
        if self.gpus and self.count < 2:
            raise ConfigError("gpus_per_actor needs two actors or more; for a single GPU use device cuda instead.")

    def arguments(self, device: str) -> dict[str, Any]:
        """Arguments of the problem's constructor.

        Raises:
            ConfigError: the main process is to hold the population elsewhere than on the CPU.
        """
        if self.count < 2:
            return {}
        if device != "cpu":
            raise ConfigError(f"with actors the device is cpu, not {device}; gpus_per_actor gives GPUs to the actors.")
        return {"num_actors": self.count} | ({"num_gpus_per_actor": self.gpus} if self.gpus else {})


@contextmanager
def running(problem: CertifiedTrainingProblem, address: str | None) -> Iterator[None]:
    """A context in which a problem's actors can be made; without actors it does nothing.

    Args:
        problem: says how many, and with how many GPUs.
        address: of a Ray cluster; None: the one that runs already, or a new one on this machine.

    Raises:
        TrainingError: Ray cannot be started or reached, or has fewer GPUs than are needed.
    """
    if problem.num_actors < 2:
        yield
        return
    import ray

    ours = not ray.is_initialized()
    if ours:
        _start(problem.num_actors, address)
    try:
        _check_gpus(problem)
        module = sys.modules.get(type(problem).__module__)
        if getattr(module, "__gls_es_file__", None) is not None:  # no other process could import it by name
            ray.cloudpickle.register_pickle_by_value(module)
        yield
    finally:
        if problem.actors is not None:
            problem.kill_actors()
        if ours:
            ray.shutdown()


def _start(actors: int, address: str | None) -> None:
    for name, value in _RAY.items():
        os.environ.setdefault(name, value)
    import ray

    cores = os.cpu_count() or 1
    variables = {"EVOTORCH_VERBOSE_LEVEL": "0"} | {n: os.environ[n] for n in ("PYTHONPATH",) if n in os.environ}
    alone: dict[str, Any] = {}
    if address is None:
        alone = {"num_cpus": max(actors, cores), "include_dashboard": False}
        variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // actors)))
    pauses = [*_PAUSES] if address is None else []
    while True:
        try:
            with _own_signals(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.init(
                    address=address or "local",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env={"env_vars": variables},
                    **alone,
                )
            return
        except Exception as error:  # whatever Ray raises, of which there are many kinds
            ray.shutdown()  # what did start
            if not pauses:
                where = f"Ray could not be started ({1 + len(_PAUSES)} tries)"
                where = where if address is None else f"no Ray cluster answers at {address}"
                reason = " ".join(str(error).split())[:300]
                raise TrainingError(f"{where} ({reason}); train without --actors, or mend that.") from error
            time.sleep(pauses.pop(0))


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, for which Ray would put in its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_gpus(problem: CertifiedTrainingProblem) -> None:
    """Ray would wait forever for GPUs that it does not have."""
    import ray

    wanted = problem.num_actors * float(problem._num_gpus_per_actor or 0)
    there = float(ray.cluster_resources().get("GPU", 0))
    if wanted > there:
        raise TrainingError(
            f"{problem.num_actors} actors need {wanted:g} GPUs, but Ray has {there:g}; lower --actors or "
            "--gpus-per-actor (0.5 lets two share one)."
        )
