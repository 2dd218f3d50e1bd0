"""What every test run shares: one thread for the many small tensors, and reproducible property tests."""

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
