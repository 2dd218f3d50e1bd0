"""TF32 is off while training unless it is asked for, and the settings come back."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gls_es.errors import ConfigError
from gls_es.training import plan
from gls_es.training.arithmetic import float32_products
from gls_es.training.checkpoint import load_checkpoint
from tests.problem.toys import Blobs

from .running import Recording, run

BACKENDS: Any = torch.backends


def settings() -> list[str]:
    return [BACKENDS.cuda.matmul.fp32_precision, BACKENDS.cudnn.conv.fp32_precision]


@pytest.mark.parametrize(("tf32", "name"), [(False, "ieee"), (True, "tf32")])
def test_the_settings_hold_inside_and_come_back(tf32: bool, name: str) -> None:
    before = settings()

    def training_that_breaks() -> None:
        with float32_products(tf32=tf32):
            assert settings() == [name, name]
            raise KeyError

    with pytest.raises(KeyError):
        training_that_breaks()
    assert settings() == before


def test_training_is_without_unless_asked(tmp_path: Path) -> None:
    class Looking(Recording):
        def update(self, row: Any) -> None:
            seen.append(settings())

    seen: list[list[str]] = []
    checkpoint = run(tmp_path / "run", progress=Looking())
    assert seen
    assert all(each == ["ieee", "ieee"] for each in seen)
    assert load_checkpoint(checkpoint)["tf32"] is False


def test_it_is_for_cuda_only() -> None:
    with pytest.raises(ConfigError, match="tf32 is for CUDA, not for the device 'cpu'"):
        plan(Blobs, tf32=True)
