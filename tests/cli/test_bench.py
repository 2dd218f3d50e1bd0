"""gls-es bench."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from gls_es.cli.bench import _share

Run = Callable[..., Result]

TINY = ("bench", "--problem", "digits-cnn3", "--members", "2", "--batch", "2", "--repeats", "1")


def test_the_object_and_the_file(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = run(*TINY, "--method", "ibp", "--method", "crown", "--backward", "--json", "--out", out)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert json.loads(out.read_text()) == found
    assert list(found["methods"]) == ["ibp", "crown"]
    assert (found["members"], found["batch"], found["repeats"]) == (2, 2, 1)
    assert {"cpu", "cores", "torch"} <= set(found["machine"])
    assert found["command"] == (
        "gls-es bench --problem digits-cnn3 --members 2 --batch 2 --method ibp --method crown --threads 1 --repeats 1 "
        "--backward --seed 0 --device cpu"
    )
    assert str(tmp_path) not in result.stdout
    assert "timing crown" in result.stderr.splitlines()


def test_the_table(run: Run) -> None:
    result = run(*TINY, "--threads", "2", "--backward", "--eps", "2/255", "--quiet")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0] == "digits-cnn3: 1,258 parameters, 2 members x 2 images (training), eps = 0.00784314"
    assert "GFLOP/s with 1 thread," in lines[1]
    headings = [" ".join(line.split()) for line in lines if line.startswith("method")]
    assert headings == ["method ms images/s GFLOP/s of peak MiB plain loop in ops shared"] * 2
    methods = ["ibp", "crown-ibp", "crown"]
    assert [line.split()[0] for line in lines if " x" in line and line.split()[0] in methods] == methods * 2


@pytest.mark.parametrize(("fraction", "said"), [(0.256, "26 %"), (1.0, "100 %"), (2.56, "-")])
def test_more_than_the_peak_is_no_share_of_it(fraction: float, said: str) -> None:
    assert _share(fraction) == said


def test_without_loops(run: Run) -> None:
    result = run(*TINY, "--method", "ibp", "--no-loops", "--json", "--quiet")
    assert json.loads(result.stdout)["methods"]["ibp"]["forward"]["plain"] == {"missing": "not asked for"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bench",), "Missing option '--problem'"),
        ((*TINY, "--method", "crwn"), "did you mean 'crown'"),
        ((*TINY, "--members", "0"), "not in the range"),
        ((*TINY, "--out", "nowhere/out.json"), "there is no folder nowhere; make it first"),
        (("bench", "--problem", "digis-cnn3"), "did you mean 'digits-cnn3'"),
    ],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""
