"""What a person sees: plain lines in a log, one live line on a terminal."""

import io
import sys
import types

import pytest

from madbench import display
from madbench.display import Clock, LiveLine, PlainLines, duration


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when told."""
    now = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(display, "time", types.SimpleNamespace(monotonic=lambda: now.seconds))
    return now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0, "0s"), (0.4, "0s"), (59.4, "59s"), (59.6, "1m 00s"), (200, "3m 20s"), (3599.6, "1h 00m"),
     (7500, "2h 05m"), (172799, "47h 59m"), (360000, "4d 04h")],
)  # fmt: skip
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_the_clock_extrapolates_what_this_process_did(clock):
    watch = Clock()
    assert watch.left(0.5) is None  # a resumed job begins in the middle
    clock.seconds += 10
    assert watch.left(0.5) is None
    assert watch.left(0.6) == pytest.approx(40)
    clock.seconds += 10
    assert watch.left(1.0) == 0


def test_plain_lines_go_to_stderr_at_most_one_an_interval(clock, capsys):
    show = PlainLines(interval=20)
    show.say("a note")
    show.phase(0, 1, 2, 5, "fit")
    show.advance(0.2, 1234.5)
    clock.seconds += 19
    show.advance(0.3, 1234.5)
    clock.seconds += 2
    show.advance(0.4, 1234.5)
    show.advance(0.41, None)
    show.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["a note", "generation 2/5  fit        40%  1,234 steps/s  1m 03s left"] or (
        err.splitlines() == ["a note", "generation 2/5  fit        40%  1,234 steps/s  1m 02s left"]
    )


def test_plain_lines_name_the_wave_where_there_are_several(clock, capsys):
    show = PlainLines(interval=20)
    show.phase(1, 2, 5, 5, "evaluate")
    clock.seconds += 20
    show.advance(1.0, None)
    assert capsys.readouterr().err.startswith("wave 2/2  generation 5/5  evaluate  100%")


def test_what_is_not_known_is_left_out(clock, capsys):
    """A job that goes on in the middle of a generation knows neither a speed nor how long yet."""
    show = PlainLines(interval=20)
    show.phase(0, 1, 2, 5, "fit")
    clock.seconds += 20
    show.advance(0.3, None)
    assert capsys.readouterr().err == "generation 2/5  fit        30%\n"


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (None, ""),
        (0, ""),
        (0.123, "0.12 steps/s"),
        (3.21, "3.2 steps/s"),
        (9.99, "10 steps/s"),
        (4321.5, "4,322 steps/s"),
    ],
)
def test_speeds(rate, text):
    assert display.speed(rate) == text


def test_what_takes_long_outside_of_generations_is_said_now_and_then(clock, capsys):
    show = PlainLines(interval=20)
    show.say("preparing")
    show.busy("compiling: 0 of 4")
    clock.seconds += 21
    show.busy("compiling: 1 of 4")
    show.busy("compiling: 2 of 4")
    assert capsys.readouterr().err.splitlines() == ["preparing", "compiling: 1 of 4"]


def test_a_live_line_shows_phase_rate_and_text_as_it_is(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    show = display.make()
    assert isinstance(show, LiveLine)
    show.say("kept as written: [bold]λ[/bold] :smile:")
    show.busy("compiling: 1 of 4")
    show.phase(0, 1, 3, 9, "sample")
    show.advance(0.25, 4321)
    show.close()
    text = terminal.getvalue()
    assert "kept as written: [bold]λ[/bold]" in text
    assert "generation 3/9  sample" in text
    assert "25 %  4,321 steps/s" in text


def test_elsewhere_than_on_a_terminal_lines_are_plain(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(display.make(), PlainLines)
