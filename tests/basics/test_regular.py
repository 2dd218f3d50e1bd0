"""Devices and pipes are neither read to the end, nor waited for, nor replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from gls_es import certify
from gls_es.basics.atomic import write_atomically
from gls_es.basics.locks import appended_alone
from gls_es.basics.regular import check_regular
from gls_es.errors import DataError


@pytest.fixture(params=["pipe", "folder", "link to a pipe"])
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something that is there and is no regular file."""
    path = tmp_path / "thing"
    if request.param == "folder":
        path.mkdir()
    elif request.param == "pipe":
        os.mkfifo(path)
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    return path


def test_what_is_no_file_is_refused_and_stays(special: Path) -> None:
    before = special.lstat()
    for work in (check_regular, appended_alone, lambda path: write_atomically(path, b"x")):
        with pytest.raises(OSError, match="not a regular file"):
            work(special)
    assert special.lstat() == before


def test_files_and_nothing_pass(tmp_path: Path) -> None:
    appended_alone(tmp_path / "new").close()
    assert (tmp_path / "new").read_bytes() == b""
    (tmp_path / "file").write_bytes(b"x")
    appended_alone(tmp_path / "file").close()
    assert (tmp_path / "file").read_bytes() == b"x"
    check_regular(tmp_path / "nothing")


def test_records_into_a_pipe_do_not_wait_for_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        certify(nn.Linear(2, 2), torch.zeros(1, 2), torch.tensor([0]), 0.0, records=tmp_path / "pipe", stages=("ibp",))
