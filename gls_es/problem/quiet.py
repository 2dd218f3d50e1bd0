"""EvoTorch's account of a problem's settings, four lines on stdout for each object, left out unless it is asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def settings_untold() -> Iterator[None]:
    """A context in which EvoTorch makes a problem and says so only if ``EVOTORCH_VERBOSE_LEVEL`` is set."""
    logger = logging.getLogger("evotorch.core")
    level = logger.level
    if "EVOTORCH_VERBOSE_LEVEL" not in os.environ:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
