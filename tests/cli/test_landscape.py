"""gls-es landscape, on a checkpoint that was really trained."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from gls_es.training import train

Run = Callable[..., Result]
SMALL = ("--images", 2, "--points", 5, "--samples", 2, "--method", "ibp", "--direction", "random")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landscape") / "run"
    return train("digits-cnn3", "grad", out=folder, generations=2, method="ibp", overrides={"evaluate_images": 2})


def test_data_picture_and_table(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    result = run("landscape", checkpoint, *SMALL, "--plot", tmp_path / "a.png", "--out", tmp_path / "a.json", "--json")
    assert result.exit_code == 0, result.stderr
    table = json.loads(result.stdout)
    assert table == json.loads((tmp_path / "a.json").read_text())
    assert [(c["method"], c["direction"], c["sigma"]) for c in table["curves"]] == [
        ("ibp", "random", sigma) for sigma in (0.0, 0.01, 0.03)
    ]
    assert all(len(curve["losses"]) == len(table["steps"]) == 5 for curve in table["curves"])
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    shown = run("landscape", checkpoint, *SMALL, "--quiet")
    assert shown.stdout.splitlines()[1].split()[:3] == ["relaxation", "jumps", "largest"]
    assert shown.stderr == ""


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--plot", "a.bmp"), "a plot's name ends in .png, .svg, .pdf"),
        (("--out", "missing/a.json"), "there is no folder missing"),
        (("--samples", 3), "samples even"),
        (("--method", "crwn"), "did you mean 'crown'?"),
    ],
)
def test_bad_options_are_one_sentence(run: Run, checkpoint: Path, options: tuple[object, ...], complaint: str) -> None:
    result = run("landscape", checkpoint, "--images", 2, "--points", 5, *options)
    assert result.exit_code == 2
    assert complaint in result.stderr
