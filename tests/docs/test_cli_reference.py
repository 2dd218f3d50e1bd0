"""docs/cli.md says what the commands say of themselves."""

from __future__ import annotations

import runpy

from tests.packaging.checkout import ROOT


def test_the_reference_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "make_cli_reference.py"))
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == script["reference"](), "run: python docs/make_cli_reference.py"
    for said in ("`--debug`", "`--version`", "`gls-es completion {bash|zsh|fish} [OPTIONS]`"):
        assert said in page
