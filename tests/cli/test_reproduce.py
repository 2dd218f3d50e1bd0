"""gls-es reproduce."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click import BadParameter
from click.testing import Result

from gls_es.cli.reproduce import DURATION
from gls_es.errors import TrainingError
from gls_es.experiments import FULL, TABLES
from gls_es.training.lock import FolderLock
from tests.experiments.test_plan import TOY

Run = Callable[..., Result]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90.0", 90), ("1e-05", 1e-5), (".5m", 30), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3m", "3w", "m", "1e3"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(BadParameter):
        DURATION.convert(text, None, None)


def test_without_a_table_all_are_listed(run: Run) -> None:
    result = run("reproduce")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == list(TABLES)
    assert [table["name"] for table in json.loads(run("reproduce", "--json").stdout)["tables"]] == list(TABLES)


def test_a_table_is_run_and_shown(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "toy", TOY)
    arguments = ("reproduce", "toy", "--seeds", 1, "--limit", 4, "--only", "grad-ibp", "--out", tmp_path)
    planned = json.loads(run(*arguments, "--dry-run", "--json").stdout)
    assert planned["plan"]["generations"] == {"grad-ibp": 2}
    assert [(row["cell"], row["n"]) for row in planned["rows"]] == [("grad-ibp", 0)]
    result = run(*arguments, "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)["rows"]
    assert [(row["cell"], row["n"]) for row in rows] == [("grad-ibp", 1)]
    other = json.loads(run(*arguments[:-4], "--only", "pgpe-*", "--out", tmp_path, "--dry-run", "--json").stdout)
    assert [(row["cell"], row["n"]) for row in other["rows"]] == [("grad-ibp", 1), ("pgpe-ibp", 0)]
    files = ("--markdown", tmp_path / "a.md", "--collect", tmp_path / "a.json")
    shown = run(*arguments, "--quiet", *files)
    assert "| grad-ibp |" in (tmp_path / "a.md").read_text(encoding="utf-8")
    assert [r["cell"] for r in json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["results"]] == ["grad-ibp"]
    assert "at most the first 4 test images" in shown.stdout
    assert shown.stderr == ""


def test_fewer_seeds_than_were_planned_are_run_alone(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "toy", TOY)
    arguments = ("reproduce", "toy", "--limit", 4, "--out", tmp_path, "--quiet", "--json")
    first = json.loads(run(*arguments, "--seeds", 2, "--only", "grad-ibp").stdout)
    assert [(row["cell"], row["n"]) for row in first["rows"]] == [("grad-ibp", 2)]
    (tmp_path / "toy" / "grad-ibp-seed1" / "result.json").unlink()
    again = json.loads(run(*arguments, "--seeds", 1, "--only", "grad-ibp").stdout)
    assert again["plan"]["seeds"] == [0, 1]
    assert [(row["cell"], row["n"]) for row in again["rows"]] == [("grad-ibp", 1)]
    last = json.loads(run(*arguments, "--only", "grad-ibp").stdout)
    assert [(row["cell"], row["n"]) for row in last["rows"]] == [("grad-ibp", 2)]


def test_what_is_there_is_shown_without_running_what_is_missing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLES, "toy", TOY)
    arguments = ("reproduce", "toy", "--out", tmp_path)
    empty = run(*arguments, "--no-run")
    assert empty.exit_code == 2
    assert "nothing of table 'toy' was run there" in empty.stderr
    assert run(*arguments, "--seeds", 1, "--limit", 4, "--only", "grad-ibp", "--quiet").exit_code == 0
    plan = tmp_path / "toy" / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"seeds": [0, 1]}))  # the second one is missing
    collected = tmp_path / "a.json"
    shown = json.loads(run(*arguments, "--no-run", "--collect", collected, "--json").stdout)
    assert [(row["cell"], row["n"]) for row in shown["rows"]] == [("grad-ibp", 1)]
    assert len(json.loads(collected.read_text())["results"]) == 1
    assert not list((tmp_path / "toy").glob("*seed1"))
    refused = run(*arguments, "--no-run", "--limit", 4)
    assert refused.exit_code == 2
    assert "leave --limit out" in refused.stderr


def test_settings_are_chosen_on_images_kept_out_of_training(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLES, "toy", TOY)
    arguments = ("reproduce", "toy", "--seeds", 1, "--limit", 4, "--only", "grad-*", "--out", tmp_path)
    chosen = run(*arguments, "--validation", 9, "--set", "batch_size=4", "--quiet")
    assert chosen.exit_code == 0
    assert "first 4 validation images" in chosen.stdout
    plan = json.loads((tmp_path / "toy" / "plan.json").read_text(encoding="utf-8"))
    assert (plan["validation"], plan["settings"]) == (9, {"batch_size": 4})
    refused = run(*arguments, "--validation", 0)  # test images do not belong in the same table
    assert refused.exit_code == 2
    assert "--validation 9, not 0" in refused.stderr
    again = run("reproduce", "toy", "--only", "grad-*", "--out", tmp_path, "--json")  # what is not given is as it was
    assert again.exit_code == 0
    assert json.loads(again.stdout)["plan"] == plan
    typo = run(*arguments[:-1], tmp_path / "other", "--set", "batchsize=4")
    assert typo.exit_code == 2
    assert "did you mean 'batch_size'" in typo.stderr


def test_the_cells_of_a_table_are_listed(run: Run) -> None:
    shown = run("reproduce", "digits-0.1", "--list").stdout.splitlines()
    assert [line.split()[0] for line in shown[1:]] == list(TABLES["digits-0.1"].cell_names)
    found = json.loads(run("reproduce", "digits-0.1", "--list", "--only", "rgs-crown-from-ibp", "--json").stdout)
    assert [(cell["name"], cell["start"]) for cell in found["cells"]] == [
        ("grad-ibp", ""),
        ("rgs-crown-from-ibp", "grad-ibp"),
    ]


def test_a_place_where_no_folder_can_be_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "digits-0.1").touch()
    for out in (tmp_path, tmp_path / "file" / "below"):
        result = run("reproduce", "digits-0.1", "--out", out)
        assert result.exit_code == 2
        assert "--out" in result.stderr


def test_unknown_tables_and_cells_are_refused(run: Run, tmp_path: Path) -> None:
    result = run("reproduce", "mnist", "--out", tmp_path)
    assert result.exit_code == 2
    assert "choose one of digits-0.1" in result.stderr
    assert "did you mean 'mnist-0.1'?" in run("reproduce", "mnist-01").stderr
    result = run("reproduce", "digits-0.1", "--only", "grad-ipb", "--out", tmp_path)
    assert "did you mean 'grad-ibp'?" in result.stderr
    result = run("reproduce", "digits-0.1", "--only", "adam", "--out", tmp_path)
    assert result.exit_code == 2
    assert "no cell 'adam'" in result.stderr


def test_runs_that_fail_are_listed_below_the_table(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_args: object, **_options: object) -> None:
        raise TrainingError("every loss is NaN.")

    monkeypatch.setitem(TABLES, "toy", TOY)
    monkeypatch.setattr("gls_es.training.train", failing)
    arguments = ("reproduce", "toy", "--seeds", 1, "--limit", 4, "--out", tmp_path)
    result = run(*arguments, "--quiet")
    assert result.exit_code == 1
    assert "grad-ibp" in result.stdout
    assert result.stderr == (
        "Error: 2 of 2 runs failed:\n  grad-ibp-seed0: every loss is NaN.\n  pgpe-ibp-seed0: every loss is NaN.\n"
    )
    found = run(*arguments, "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["failed"]["grad-ibp-seed0"] == "every loss is NaN."


def test_what_others_work_on_is_counted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "toy", TOY)
    (tmp_path / "toy" / "grad-ibp-seed0").mkdir(parents=True)
    lock = FolderLock(tmp_path / "toy" / "grad-ibp-seed0" / ".lock")
    try:
        result = run("reproduce", "toy", "--seeds", 1, "--limit", 4, "--out", tmp_path)
    finally:
        lock.release()
    assert result.exit_code == 0
    assert "1 of 2 runs are missing" in result.stderr


def test_full_length_is_a_table_of_its_own_and_shows_differences(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FULL, "toy", replace(TOY, name="toy-full"))
    arguments = ("reproduce", "toy", "--full", "--out", tmp_path)
    refused = run(*arguments, "--train-time", "5s")
    assert refused.exit_code == 2
    assert "leave --train-time out" in refused.stderr
    found = json.loads(run(*arguments, "--seeds", 1, "--limit", 4, "--json").stdout)
    assert (tmp_path / "toy-full" / "plan.json").exists()
    assert [(row["cell"], row["seen"]) for row in found["rows"]] == [("grad-ibp", 16), ("pgpe-ibp", 16)]
    ((comparison),) = found["differences"]
    assert (comparison["cell"], comparison["reference"], comparison["images"]) == ("pgpe-ibp", "grad-ibp", 4)
    rows = found["rows"]
    means = [row["mean"]["certified_accuracy"] for row in rows]
    assert comparison["certified"]["mean"] == pytest.approx(means[1] - means[0])
    shown = run(*arguments, "--no-run", "--quiet", "--plot", tmp_path / "a.svg")
    assert "pgpe-ibp" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "Differences to grad-ibp, the best cell with gradients" in shown.stdout
    assert set(TABLES) == {line.split()[0] for line in run("reproduce", "--full").stdout.splitlines()[1:]} - {"toy"}
