"""The report in a real browser, at the width of a desk and of a phone; skipped where no Chromium is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from gls_es.report import read_runs, write_report

from .test_report import write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

PROBE = """<script>
addEventListener("load", () => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const empty = [...document.querySelectorAll("img")].filter(i => !i.naturalWidth).length;
  const sizes = [...document.querySelectorAll("figure svg")].map(s => Math.round(s.getBoundingClientRect().width));
  const cut = [...document.querySelectorAll(".wide")].filter(w => w.scrollWidth > w.clientWidth).length;
  document.title = `cut ${cut} wide ${wide} empty ${empty} narrowest ${Math.min(...sizes)} pictures ${sizes.length}`;
});
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("width", [1280, 500])
def test_nothing_overflows_and_every_image_loads(tmp_path: Path, width: int) -> None:
    runs = read_runs([write_run(tmp_path / "a" / "run", radii=(0.05, 0.1)), write_run(tmp_path / "b" / "run")])
    path = tmp_path / "report.html"
    write_report(runs, path, images=lambda _run, _records: torch.rand(4, 1, 2, 2))
    path.write_text(path.read_text().replace("</body>", PROBE + "</body>"))
    done = subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},2000",
            "--dump-dom",
            str(path),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r"<title>cut (\d+) wide (-?\d+) empty (\d+) narrowest (\d+) pictures (\d+)</title>", done.stdout)
    assert found is not None, done.stderr[-2000:]
    cut, wide, empty, narrowest, pictures = map(int, found.groups())
    assert (cut, wide, empty, pictures) == (0, 0, 0, 5)
    assert narrowest > 300
