"""gls-es zoo."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from gls_es.training.checkpoint import load_checkpoint
from gls_es.zoo import ENTRIES, located

Run = Callable[..., Result]


def test_every_network_is_listed_with_its_numbers(run: Run) -> None:
    result = run("zoo")
    assert result.exit_code == 0
    table, made = (part.splitlines() for part in result.stdout.split("\n\n"))
    assert table[0].split() == ["network", "eps", "images", "natural", "certified"]
    assert [row.split()[0] for row in table[1:]] == [f"zoo:{name}" for name in ENTRIES]
    for row, line, entry in zip(table[1:], made, ENTRIES.values(), strict=True):
        assert row.rstrip().endswith(f"{100 * entry.certified:.1f} %")
        assert line == f"zoo:{entry.name} was made by: {entry.made_by}"


def test_training_begins_with_one(run: Run, tmp_path: Path) -> None:
    options = ("--searcher", "grad", "--set", "center_learning_rate=1e-9", "--init", "zoo:digits-cnn3", "--json")
    result = run("train", "--problem", "digits-cnn3", "--generations", 1, *options, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["natural_accuracy"] > 0.9


def test_a_pinned_start_is_held_to_its_digest(run: Run, tmp_path: Path) -> None:
    options = ("--problem", "digits-cnn3", "--generations", 1, "--searcher", "grad", "--quiet")
    digest = load_checkpoint(located("zoo:digits-cnn3"))["digest"]
    wrong = run("train", *options, "--init", f"zoo:digits-cnn3@sha256:{'0' * 64}", "--out", tmp_path / "wrong")
    assert wrong.exit_code == 1
    assert "not the file it was" in wrong.stderr
    assert not (tmp_path / "wrong").exists()
    right = run("train", *options, "--init", f"zoo:digits-cnn3@sha256:{digest}", "--out", tmp_path / "right")
    assert right.exit_code == 0, right.stderr


def test_the_names_are_those_that_certify_takes(run: Run) -> None:
    networks = json.loads(run("zoo", "--json").stdout)["networks"]
    assert [network["path"] for network in networks] == [str(located(network["name"])) for network in networks]
    assert [network["certified_accuracy"] for network in networks] == [entry.certified for entry in ENTRIES.values()]
