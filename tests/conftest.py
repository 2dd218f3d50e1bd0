"""What every test run shares: one thread for the many small tensors, and reproducible property tests."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

# The nets of the tests are too small for threads to pay, and one thread keeps sums in one order.
torch.set_num_threads(1)

settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator of its own for every test."""
    return torch.Generator().manual_seed(0)


def with_ray(test: Any) -> Any:
    """Marks of a test that needs Ray, whose processes take seconds to start and leave sockets to the garbage."""
    for mark in (
        pytest.mark.slow,
        pytest.mark.timeout(180),
        pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
        pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    ):
        test = mark(test)
    return test


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """Ray on this machine alone, without accounts, dashboards or reports; started once for all tests."""
    settings = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    import ray

    root = Path(__file__).resolve().parents[1]
    try:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 << 20,
            runtime_env={"env_vars": {"PYTHONPATH": str(root), "EVOTORCH_VERBOSE_LEVEL": "0"}},
        )
    except Exception as error:
        pytest.skip(f"Ray cannot start here: {error}")
    yield ray
    ray.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
