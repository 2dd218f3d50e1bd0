"""What a person sees of training, on a terminal and off one."""

import io
import math

import pytest
from rich.console import Console

from gls_es.training import progress
from gls_es.training.progress import NullProgress, PlainProgress, RichProgress, duration, make_progress

ROW = {
    "generation": 3,
    "generations": 10,
    "eps": 0.1,
    "mean_loss": 1.23456,
    "natural_accuracy": 0.925,
    "certified_accuracy": 0.5,
    "elapsed_seconds": 3.0,
    "eta_seconds": 187.2,
    "lr": 0.1,
    "stdev": 0.02,
    "nonfinite": 0,
}
SUMMARY = {"generations": 10, "natural_accuracy": 0.9, "certified_accuracy": 0.6, "elapsed_seconds": 61.0}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (187, "3:07"), (7387, "2:03:07"), (math.nan, "?"), (-1, "?")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_come_at_intervals_and_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    stream = io.StringIO()
    with PlainProgress(stream, interval=5) as shown:
        shown.start({"problem": "digits-cnn3", "eps": 0.1, "popsize": 64, "generations": 10, "device": None})
        for generation in range(1, 11):
            now += 1.0
            shown.update({"generation": generation, "generations": 10, "mean_loss": 2.0})
        shown.finish(SUMMARY)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "training: problem digits-cnn3, eps 0.1, generations 10, popsize 64"
    assert lines[1] == "generation 1/10 has begun"
    assert [line.split(",")[0] for line in lines[2:5]] == ["generation 1/10", "generation 6/10", "generation 10/10"]
    assert lines[5] == "trained: 10 generations, natural accuracy 90.0 %, certified accuracy 60.0 % (estimate), in 1:01"
    assert len(lines) == 6


def test_a_line_says_what_is_known_and_remembers_what_comes_rarely() -> None:
    stream = io.StringIO()
    shown = PlainProgress(stream, interval=0)
    shown.update(ROW)
    shown.update({"generation": 4, "mean_loss": 1.0, "nonfinite": 2, "natural_accuracy": None})
    first, second = stream.getvalue().splitlines()
    assert first == "generation 3/10, 3:07 left, eps 0.1, loss 1.235, natural 92.5 %, certified 50.0 %"
    assert second.startswith("generation 4/10, ")
    assert second.endswith("eps 0.1, loss 1, natural 92.5 %, certified 50.0 %, 2 losses not finite")


def test_the_live_line_shows_the_row_and_gives_the_terminal_back() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=140, color_system=None, legacy_windows=False)

    def training_that_breaks() -> None:
        with RichProgress(console) as shown:
            shown.start({"problem": "[red]odd[/red]"})
            shown.update(ROW)
            console.print("between")  # forces the live line to be drawn
            raise RuntimeError("training broke")

    with pytest.raises(RuntimeError, match="training broke"):
        training_that_breaks()
    text = stream.getvalue()
    assert "problem [red]odd[/red]" in text  # names are text, not markup
    for part in ("generation 3/10", "eps 0.1", "loss 1.235", "natural 92.5 %", "certified 50.0 %", "3:07 left"):
        assert part in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # cursor hidden, and shown again


def test_the_live_line_ends_with_the_summary() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=140, color_system=None, legacy_windows=False)
    with RichProgress(console) as shown:
        shown.start({})
        shown.update({"generation": 1})
        shown.finish(SUMMARY)
    assert "certified accuracy 60.0 % (estimate), in 1:01" in stream.getvalue()


def test_slow_generations_show_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=140, color_system=None, legacy_windows=False)
    shown = RichProgress(console)
    shown.start({"generations": 10, "generation": 2})
    try:
        now = 65.0
        assert "generation 2/10 next for 1:05" in words(shown)
        shown.update(ROW | {"seconds_each": 90.0})
        now += 1.0
        assert "3:07 left 1:30 each eps" in words(shown)
        assert "next" not in words(shown)
        shown.note("stopping [soon]")
    finally:
        shown.finish({})
    assert "stopping [soon]" in stream.getvalue()
    plain = io.StringIO()
    quick = PlainProgress(plain)
    quick.start({"generation": 10, "generations": 10})  # resumed when all was done
    quick.update(ROW | {"seconds_each": 0.5})
    assert "begun" not in plain.getvalue()
    assert "each" not in plain.getvalue()


def words(shown: RichProgress) -> str:
    """The live line, as text."""
    with (console := Console(width=200, file=io.StringIO())).capture() as captured:
        console.print(shown._line())
    return " ".join(captured.get().split())


def test_off_a_terminal_there_are_no_escape_codes() -> None:
    stream = io.StringIO()
    chosen = make_progress(Console(file=stream))
    assert isinstance(chosen, PlainProgress)
    chosen.start({"problem": "x"})
    chosen.update(ROW)
    chosen.finish({})
    assert "\x1b" not in stream.getvalue()


def test_the_kind_of_progress_fits() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(make_progress(terminal, quiet=True), NullProgress)
    assert isinstance(make_progress(terminal), RichProgress)
    quiet = NullProgress()
    with quiet:
        quiet.start({})
        quiet.update(ROW)
        quiet.finish({})


def test_nothing_is_cut_off_on_a_narrow_terminal() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=50, color_system=None, legacy_windows=False)
    with RichProgress(console) as shown:
        shown.start({})
        shown.update(ROW | {"center_loss": 1.0})
        console.print("between")
    words = stream.getvalue().split()
    for word in ("3:07", "left", "1.235", "92.5", "certified", "50.0"):
        assert word in words
