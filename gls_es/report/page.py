"""The HTML page: plain elements, a style sheet of its own, no scripts, nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from gls_es.basics.atomic import write_atomically
from gls_es.basics.intervals import wilson_interval
from gls_es.basics.version import __version__
from gls_es.certification.report import VERDICTS
from gls_es.errors import DataError
from gls_es.report.figures import accuracy_curve, training_curves
from gls_es.report.gallery import Exhibit, gallery
from gls_es.report.run import Records, RunData

Images = Callable[[RunData, Records], Tensor | None]
"""The images that records of a run are about, (n, C, H, W), or None where they are not at hand."""

LONGEST = 200
"""Characters of a setting that are shown."""

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; color: #1a1a1a; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; } h3 { font-size: 1.05rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.pictures figure { max-width: 40rem; }
figure { margin: 0; } figure svg { width: 100%; height: auto; display: block; }
.gallery { display: flex; flex-wrap: wrap; gap: 1rem; }
.exhibit { border: 1px solid #ddd; border-radius: .4rem; padding: .5rem; font-size: .8rem; }
.exhibit div { display: flex; gap: .4rem; }
.exhibit img { width: 84px; height: 84px; image-rendering: pixelated; display: block; border: 1px solid #eee; }
details { margin: .5rem 0; } summary { cursor: pointer; } .note { color: #555; font-size: .9rem; }
@media (max-width: 40rem) {
  .wide table, .wide tbody, .wide tr { display: block; } .wide thead { display: none; }
  .wide tr { border-top: 2px solid #999; margin-bottom: .8rem; }
  .wide td, .wide td:first-child { display: flex; justify-content: space-between; gap: 1rem; padding: .2rem 0;
    text-align: right; white-space: normal; overflow-wrap: anywhere; }
  .wide td::before { content: attr(data-column); color: #555; text-align: left; overflow-wrap: normal; }
}
"""
"""On a narrow screen a row of a table becomes a list of its cells, each after its column's name: nothing is cut off."""


def write_report(
    runs: Sequence[RunData], path: Path, *, images: Images = lambda _run, _records: None, each: int = 8
) -> None:
    """Write the report of ``runs`` to ``path``.

    Args:
        runs: at least one.
        path: the HTML file.
        images: where the gallery's images come from.
        each: gallery images per verdict.

    Raises:
        DataError: the file cannot be written.
    """
    page = render(runs, images=images, each=each)
    try:
        write_atomically(path, page.encode())
    except OSError as error:
        raise DataError(f"{path}: the report cannot be written ({error.strerror or error}).") from error


def render(runs: Sequence[RunData], *, images: Images = lambda _run, _records: None, each: int = 8) -> str:
    """The page as text; see :func:`write_report`."""
    title = "gls-es: " + ", ".join(run.name for run in runs)
    parts = [f"<h1>{escape(title)}</h1>", _overview(runs)]
    if any(run.rows for run in runs):
        parts.append(_section("Training", _pictures(training_curves(runs)) + _glossary()))
    curve = accuracy_curve(runs)
    if curve is not None:
        parts.append(_section("Accuracy against the radius", _pictures([curve])))
    for run in runs:
        parts += [_certification(run, records, images, each) for records in run.records]
    parts.append(_section("Settings and versions", _settings(runs)))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + f'\n<p class="note">Made by gls-es {escape(__version__)}.</p>\n</body>\n</html>\n'
    )


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are plain text; each cell names its column, for narrow screens."""
    names = [escape(cell) for cell in head]
    top = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(map(_cell, names, row))}</tr>\n" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody></table></div>'


def _cell(column: str, text: str) -> str:
    return f'<td data-column="{column}">{escape(text)}</td>'


def _pictures(pictures: Sequence[str]) -> str:
    return '<div class="pictures">' + "".join(f"<figure>{one}</figure>" for one in pictures) + "</div>"


def _overview(runs: Sequence[RunData]) -> str:
    head = (
        "run",
        "problem",
        "searcher",
        "method",
        "generations",
        "radius",
        "images",
        "natural",
        "adversarial",
        "certified",
    )
    rows = []
    for run in runs:
        about = [str(run.config.get(key, "-")) for key in ("problem", "searcher", "method")]
        done = str(run.rows[-1]["generation"]) if run.rows else "-"
        accuracies = [("-", "-", "-", "-", "-")] if not run.records else map(_accuracies, run.records)
        rows += [(run.name, *about, done, *cells) for cells in accuracies]
    return _table(head, rows)


def _accuracies(records: Records) -> tuple[str, ...]:
    n = len(records.verdicts)
    lost: tuple[tuple[str, ...], ...] = (("misclassified",), ("misclassified", "falsified"))
    shares = [records.fraction(*names) for names in (*lost, (*lost[1], "unknown"))]
    return (f"{records.eps:.4g}", str(n), *(f"{100 * share:.1f} %" for share in shares))


def _certification(run: RunData, records: Records, images: Images, each: int) -> str:
    n = len(records.verdicts)
    parts = [f"<h3>Verdicts per stage</h3>{_stages(records)}"]
    certified = records.counts["certified"]
    if n:
        low, high = wilson_interval(certified, n)
        parts.append(
            f'<p class="note">Certified {certified} of {n} images ({100 * certified / n:.1f} %, 95 % interval '
            f"{100 * low:.1f} to {100 * high:.1f} %); unknown counts as not certified. Execution certified: "
            f"{escape(str(records.header.get('execution', '?')))}.</p>"
        )
    parts.append(f"<h3>Verdicts per class</h3>{_classes(records)}")
    found = images(run, records) if n and each else None
    if found is not None and found.dim() == 4 and found.shape[1] in (1, 3):
        parts.append(f"<h3>Images</h3>{_gallery(gallery(records.verdicts, found, records.eps, each=each))}")
    return _section(f"Certification of {run.name} at eps = {records.eps:.4g}", "\n".join(parts))


def _stages(records: Records) -> str:
    names = list(dict.fromkeys(name for verdict in records.verdicts for name in verdict.times))
    rows = []
    for name in names:
        seen = [v for v in records.verdicts if name in v.times]
        decided = [sum(v.stage == name and v.verdict == kind for v in seen) for kind in VERDICTS[:3]]
        rows.append((name, str(len(seen)), *map(str, decided), f"{sum(v.times[name] for v in seen):.2f}"))
    rows.append(("unknown", str(records.counts["unknown"]), "", "", "", ""))
    return _table(("stage", "images seen", *VERDICTS[:3], "seconds"), rows)


def _classes(records: Records) -> str:
    labels = sorted({verdict.label for verdict in records.verdicts})
    rows = [
        (str(label), *(str(sum(v.label == label and v.verdict == kind for v in records.verdicts)) for kind in VERDICTS))
        for label in labels
    ]
    return _table(("class", *VERDICTS), rows)


def _gallery(found: Mapping[str, Sequence[Exhibit]]) -> str:
    return "".join(
        f'<h4>{escape(kind)}</h4><div class="gallery">{"".join(map(_exhibit, exhibits))}</div>'
        for kind, exhibits in found.items()
    )


def _exhibit(exhibit: Exhibit) -> str:
    verdict = exhibit.verdict
    pictures = "".join(
        f'<figure><img src="{uri}" alt="{escape(name)} of image {verdict.index}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, uri in exhibit.pictures
    )
    margin = "" if verdict.margin is None else f", margin {verdict.margin:.3g}"
    stage = "" if verdict.stage is None else f" by {verdict.stage}"
    taken = verdict.predicted if verdict.verdict == "misclassified" else verdict.became
    became = "" if taken is None else f", taken for class {taken}"
    text = f"image {verdict.index}, class {verdict.label}{became}{stage}{margin}"
    return f'<div class="exhibit"><div>{pictures}</div>{escape(text)}</div>'


def _glossary() -> str:
    return (
        '<p class="note">The loss is the mean over the perturbed members on each generation\'s minibatch at that '
        "generation's radius, so it is not comparable between generations of the ramp. Accuracies during training are "
        "estimates on the first held-out images at the full radius, not certificates.</p>"
    )


def _settings(runs: Sequence[RunData]) -> str:
    """Every setting, one column a run; what differs between the runs comes first."""
    flat = [dict(_flat(run.config)) for run in runs]
    keys = list(dict.fromkeys(key for table in flat for key in table))
    differs = [key for key in keys if len({table.get(key, "-") for table in flat}) > 1]
    same = [key for key in keys if key not in differs]
    head = ("setting", *(run.name for run in runs))
    parts = [_table(head, [(key, *(table.get(key, "-") for table in flat)) for key in differs])] if differs else []
    shared = _table(head, [(key, *(table.get(key, "-") for table in flat)) for key in same])
    summary = "common to all runs" if len(runs) > 1 else "all"
    return "\n".join([*parts, f"<details open><summary>{summary}</summary>{shared}</details>"])


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _shown(value)


def _shown(value: Any) -> str:
    """A value as text; of a long list, radii of pixels say, what it begins with."""
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text)} characters)"
