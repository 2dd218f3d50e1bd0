"""The report says what the files say, shows the right images, and stands alone."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from gls_es.certification.report import Verdict
from gls_es.errors import DataError
from gls_es.report import RunData, read_run, read_runs, write_report
from gls_es.report.gallery import data_uri, gallery
from gls_es.report.page import render

EPS = 0.1
HEADER = {"format": 1, "kind": "gls-es certification", "eps": EPS, "n": 4, "execution": "float32", "data": "x"}


def verdicts() -> list[Verdict]:
    times = {"clean": 0.25, "ibp": 0.5}
    example = torch.full((1, 2, 2), 0.55)
    return [
        Verdict(0, 3, 3, "certified", "ibp", 0.5, None, times),
        Verdict(1, 3, 3, "falsified", "attack", -0.5, example, {"clean": 0.25, "attack": 1.0}),
        Verdict(2, 4, 4, "unknown", None, -0.125, None, times, reason="stages"),
        Verdict(3, 4, 1, "misclassified", "clean", -1.0, None, {"clean": 0.25}),
    ]


def write_run(folder: Path, *, radii: tuple[float, ...] = (EPS,), title: str = "digits-cnn3") -> Path:
    folder.mkdir(parents=True)
    settings = f'problem = "{title}"\nsearcher = "grad"\nmethod = "ibp"\n[recipe]\npopsize = 1\n'
    (folder / "config.toml").write_text(settings)
    rows = [{"generation": g, "mean_loss": 2.0 / g, "eps": 0.01 * g, "stdev": 0.0} for g in (1, 2, 3)]
    rows[-1] |= {"natural_accuracy": 0.75, "certified_accuracy": 0.25}
    torn = b'{"generation": 4, "mean'
    (folder / "metrics.jsonl").write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode() + torn)
    for eps in radii:
        lines = [json.dumps(HEADER | {"eps": eps}), *(json.dumps(v.to_json()) for v in verdicts())]
        (folder / f"verdicts-{eps}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


class Page(HTMLParser):
    """Texts of the table rows, the columns that cells name, table by table, every address, and whether tags balance."""

    VOID = frozenset({"meta", "img", "path", "use", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.columns: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "thead":
            self.columns.append([])
        if tag == "td":
            self.columns[-1].append(dict(attrs)["data-column"] or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_the_tables_say_what_the_records_say(tmp_path: Path) -> None:
    page = Page(render([read_run(write_run(tmp_path / "one"))]))
    overview = ["one", "digits-cnn3", "grad", "ibp", "3", "0.1", "4", "75.0 %", "50.0 %", "25.0 %"]
    assert overview in page.rows
    assert ["ibp", "2", "0", "0", "1", "1.00"] in page.rows  # seen, misclassified, falsified, certified, seconds
    assert ["attack", "1", "0", "1", "0", "1.00"] in page.rows
    assert ["clean", "4", "1", "0", "0", "1.00"] in page.rows
    assert ["3", "0", "1", "1", "0"] in page.rows  # class 3: one falsified, one certified
    assert ["4", "1", "0", "0", "1"] in page.rows
    assert ["recipe.popsize", "1"] in page.rows
    assert page.open == []


def test_every_cell_names_its_column_which_a_narrow_screen_shows_instead_of_the_head(tmp_path: Path) -> None:
    page = Page(render([read_run(write_run(tmp_path / 'a "run"'))]))
    heads = [row for row in page.rows if row[0] in ("run", "stage", "class", "setting")]
    assert len(heads) == len(page.columns) == 4
    for head, columns in zip(heads, page.columns, strict=True):
        assert columns == head * (len(columns) // len(head)) != []


def test_the_page_stands_alone(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "a" / "run", radii=(0.05, 0.1)), write_run(tmp_path / "b" / "run")])
    text = render(runs, images=lambda _run, _records: torch.rand(4, 1, 2, 2))
    page = Page(text)
    assert page.addresses
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "<script" not in text
    assert "@import" not in text
    shared = r"figure|axes|patch|line2d|matplotlib|text|xtick|ytick|legend|PathCollection"
    identities = [name for name in re.findall(r'\bid="([^"]+)"', text) if not re.match(shared, name)]
    assert len(identities) == len(set(identities))  # two pictures never share a clip path or a marker


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run"), write_run(tmp_path / "c")])
    assert [run.name for run in runs] == ["a/run", "b/run", "c"]


def test_a_run_of_a_table_has_its_records_beside_its_training(tmp_path: Path) -> None:
    for seed in (0, 1):
        job = tmp_path / f"cell-seed{seed}"
        written = write_run(job / "run")
        (written / f"verdicts-{EPS}.jsonl").rename(job / "verdicts.jsonl")
    runs = read_runs([tmp_path / "cell-seed0", tmp_path / "cell-seed1"])
    assert [run.name for run in runs] == ["cell-seed0", "cell-seed1"]
    assert [len(run.records) for run in runs] == [1, 1]
    assert all((run.path / "metrics.jsonl").is_file() for run in runs)


def test_what_a_run_is_called_cannot_write_into_the_page(tmp_path: Path) -> None:
    text = render([read_run(write_run(tmp_path / "x", title="<script>alert(1)</script>"))])
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_torn_last_line_is_left_out_and_a_damaged_one_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    run = read_run(folder)
    assert run.series("mean_loss") == ([1, 2, 3], [2.0, 1.0, 2.0 / 3])
    assert run.series("natural_accuracy") == ([3], [0.75])
    (folder / "metrics.jsonl").write_text('{"generation": 1}\n{"x"\n')
    with pytest.raises(DataError, match="line 2 is damaged"):
        read_run(folder)


@pytest.mark.parametrize("make", [False, True])
def test_what_is_no_run_is_refused(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match="not a run folder"):
        read_run(tmp_path / "x")


def test_the_gallery_shows_the_perturbation_in_units_of_eps() -> None:
    images = torch.full((4, 1, 2, 2), 0.5)
    shown = gallery(verdicts(), images, EPS, each=1)
    assert list(shown) == ["certified", "falsified", "unknown", "misclassified"]
    (exhibit,) = shown["falsified"]
    names = [name for name, _ in exhibit.pictures]
    assert names == ["image", "counterexample", "perturbation"]
    uri = dict(exhibit.pictures)["perturbation"]  # (0.55 - 0.5) / (2 * 0.1) + 0.5 = 0.75
    assert uri == data_uri(torch.full((1, 2, 2), 0.75))
    assert base64.b64decode(uri.partition(",")[2]).startswith(b"\x89PNG")


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    run: RunData = read_run(write_run(tmp_path / "one"))
    with pytest.raises(DataError, match="the report cannot be written"):
        write_report([run], tmp_path / "missing" / "report.html")
