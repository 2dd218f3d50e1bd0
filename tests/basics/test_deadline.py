"""A point in time, and what happens when it has passed."""

import time

import pytest

from gls_es.basics.deadline import NEVER, Deadline, OutOfTime


def test_before_and_after() -> None:
    NEVER.check()
    assert not NEVER.late()
    deadline = Deadline.after(1000)
    deadline.check()
    assert 900 < deadline.left <= 1000
    passed = Deadline(time.perf_counter() - 1)
    assert passed.late()
    assert passed.left <= -1
    with pytest.raises(OutOfTime):
        passed.check()
