"""EvoTorch, imported here before anything else of gls-es needs it, without a warning that only its makers can act on.

Under torch 2.14, EvoTorch 0.6.1 warns at import that ``torch.jit.script`` is deprecated, in the middle of the output of
whoever trains for the first time. Only that warning is left out, and only during this import.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", FutureWarning)
    from evotorch import Problem as Problem
    from evotorch import Solution as Solution
    from evotorch import SolutionBatch as SolutionBatch
