"""What EvoTorch says at import under a newer torch is left out, and nothing else is, whichever door is taken first."""

import subprocess
import sys

DOORS = (
    "gls_es.train",
    "gls_es.load",
    "gls_es.RGS",
    "gls_es.CertifiedTrainingProblem",
    "gls_es.training.TrainingInterrupted",
    "gls_es.training.resume",
    "gls_es.searchers.build",
    "gls_es.problem.own.owned",
)

SCRIPT = """
import importlib, sys, warnings

class Reached(Exception): ...

class Finder:  # where evotorch would be found: it warns as evotorch 0.6.1 does under torch 2.14
    def find_spec(self, name, path=None, target=None):
        if name == "evotorch":
            warnings.warn("`torch.jit.script` is deprecated. Please switch to `torch.compile`.", FutureWarning)
            warnings.warn("`torch.jit.script` moved.", FutureWarning)
            warnings.warn("`torch.jit.script` is deprecated: said by another.", UserWarning)
            raise Reached

sys.meta_path.insert(0, Finder())
import torch
for door in sys.argv[1:]:
    module, name = door.rsplit(".", 1)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            getattr(importlib.import_module(module), name)
        except Reached:
            texts = [str(warning.message) for warning in heard]
            assert texts == ["`torch.jit.script` moved.", "`torch.jit.script` is deprecated: said by another."], door
        else:
            raise SystemExit(f"{door} imports no evotorch")
        warnings.warn("`torch.jit.script` is deprecated by mine", FutureWarning)
        assert len(heard) == 3, "the user's own are heard afterwards"
    for loaded in [one for one in sys.modules if one.split(".")[0] == "gls_es"]:
        del sys.modules[loaded]
"""


def test_one_warning_is_left_out_at_every_door() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *DOORS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
