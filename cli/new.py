"""``gls-es new``: a file with a problem of one's own, and a test of it, to change from there."""

from __future__ import annotations

import keyword
import sys
from pathlib import Path

import click

from .options import output_options
from .session import Session

_PROBLEM = '''"""{title}: a network, data, and how to train.

    gls-es train --problem {name}.py:{cls} --budget 10m --out runs/{name}
    gls-es certify runs/{name}/checkpoint.pt --problem {name}.py:{cls}

It runs as it is, on the digits that come with gls-es. Change one part at a time, and run test_{name}.py after each.
"""

from typing import ClassVar

from torch import nn

import gls_es
from gls_es.data import Dataset, load_digits


class {cls}(gls_es.CertifiedTrainingProblem):
    """{title}."""

    eps = 0.05  # radius of the ball, in pixels from 0 to 1
    method = "crown-ibp"  # relaxation to train under: ibp is cheaper, crown is tighter
    recipes: ClassVar[dict[str, gls_es.Recipe]] = {{
        # Natural training first, then eps grows until ramp_until; --budget stretches all phases.
        "rgs": gls_es.Recipe(
            generations=1000,
            popsize=8,
            batch_size=64,
            center_learning_rate=0.005,
            stdev_init=0.01,
            natural_until=50,
            ramp_until=500,
        ),
        "pgpe": gls_es.Recipe(generations=3000, popsize=64, stdev_init=0.03, natural_until=200, ramp_until=1500),
    }}

    def make_network(self) -> nn.Module:
        """From images in [0, 1] to logits; a normalisation belongs in here, as gls_es.Normalize(mean, std)."""
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 10),
        )

    def make_data(self) -> Dataset:
        """Training and test images.

        Of your own, (N, C, H, W) in bytes with labels from 0:
        Dataset("mine", Split(images, labels, 255.0), Split(test_images, test_labels, 255.0), num_classes=10)
        """
        return load_digits()
'''

_TEST = '''"""Does {name}.py hold together? Run it with: python -m pytest test_{name}.py (pip install pytest)."""

from pathlib import Path

import torch
from {name} import {cls}

import gls_es


def test_a_batch_has_finite_losses() -> None:
    problem = {cls}()
    problem.begin(0)
    losses = problem.losses(problem.network.parameter_vector()[None])
    assert bool(torch.isfinite(losses).all())


def test_it_trains_and_certifies(tmp_path: Path) -> None:
    checkpoint = gls_es.train({cls}, "rgs", out=tmp_path / "run", generations=3)
    trained = gls_es.training.load_trained(checkpoint, problem={cls})
    images, labels = {cls}().data.test.batch(slice(0, 8))
    report = gls_es.certify(trained, images, labels, {cls}.eps, timeout=1.0)
    assert len(report.verdicts) == len(labels)
'''


@click.command()
@click.argument("name")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Where to; by default here."
)
@output_options
@click.pass_context
def new(ctx: click.Context, /, name: str, folder: Path, **_output: object) -> None:
    """Write NAME.py, a problem of your own to begin with, and test_NAME.py.

    It trains as it is: gls-es train --problem NAME.py:Name. Nothing is overwritten.
    """
    session = ctx.ensure_object(Session)
    if not name.isidentifier() or keyword.iskeyword(name) or name in sys.stdlib_module_names:
        raise click.UsageError(f"{name!r} cannot be a Python module's name; write my_problem, say.", ctx)
    cls = "".join(part[:1].upper() + part[1:] for part in name.split("_") if part) or "Problem"
    words = {"name": name, "cls": cls, "title": name.replace("_", " ").strip() or name}
    files = {folder / f"{name}.py": _PROBLEM, folder / f"test_{name}.py": _TEST}
    for path in files:
        if path.exists():
            raise click.UsageError(f"{path} is there already; choose another name or --folder.", ctx)
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text.format(**words), encoding="utf-8")
    from .output import print_json, show

    problem = f"{folder / name}.py:{cls}"
    if session.json:
        print_json({"files": [str(path) for path in files], "problem": problem})
    else:
        show(*(f"written: {path}" for path in files), f"train it with: gls-es train --problem {problem} --budget 10m")
