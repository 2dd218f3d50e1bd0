"""The signals that stop training."""

import signal

import pytest

from gls_es.training.signals import StopSignals


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_the_second_breaks_off_the_third_is_ordinary(first: int, second: int) -> None:
    caught: list[int] = []
    notes: list[str] = []
    before = {number: signal.signal(number, lambda n, _: caught.append(n)) for number in {first, second}}
    try:
        with StopSignals(notes.append) as signals:
            assert not signals.requested()
            signal.raise_signal(first)
            assert signals.requested()
            assert len(notes) == 1
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(second)
            assert caught == []
            signal.raise_signal(second)
            assert caught == [second]
        signal.raise_signal(first)
        assert caught == [second, first]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_note_that_cannot_be_written_does_not_undo_the_request() -> None:
    def note(_: str) -> None:
        raise RuntimeError("reentrant call")

    with StopSignals(note) as signals:
        signal.raise_signal(signal.SIGTERM)
        assert signals.requested()


def test_handlers_come_back_without_a_signal() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals(str):
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
