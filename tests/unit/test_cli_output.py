from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from forecast_cli import output

END = "end of what was shown"


@dataclass
class Point:
    where: Path
    value: float


def test_json_takes_what_the_library_returns(capsys) -> None:
    output.print_json({"p": Point(Path("a"), np.float32(1.5)), "n": np.arange(2), "é": (1, None)})
    text = capsys.readouterr().out
    assert json.loads(text) == {"p": {"where": "a", "value": 1.5}, "n": [0, 1], "é": [1, None]}
    assert "é" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_json_has_no_nan(capsys, value: float) -> None:
    output.print_json([value])
    assert json.loads(capsys.readouterr().out) == [None]


def test_a_table_in_a_pipe_is_plain_and_aligned(capsys) -> None:
    output.print_table(("name", "count"), [("[red]", 5), ("b", 1234), ("c", None)], title="Counts")
    out = capsys.readouterr().out
    assert out.splitlines() == ["Counts", "name   count", "[red]      5", "b       1234", "c"]


def test_an_empty_table_has_its_header(capsys) -> None:
    output.print_table(("name", "count"), [])
    assert capsys.readouterr().out == "name  count\n"


@pytest.fixture
def open_terminal(monkeypatch):
    """Make a pseudo-terminal stdout and stderr; returns a function that reads what was shown.

    To be called within the test: pytest puts its own streams in place after the fixtures.
    """
    controller, follower = os.openpty()
    shown = os.fdopen(follower, "w", encoding="utf-8")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def read() -> str:
        # The kernel hands a terminal's output over in its own time: read up to a mark.
        print(END, file=shown, flush=True)
        text = b""
        while END.encode() not in text:
            text += os.read(controller, 1 << 16)
        return text.decode().partition(END)[0]

    def open_it():
        monkeypatch.setattr("sys.stdout", shown)
        monkeypatch.setattr("sys.stderr", shown)
        return read

    yield open_it
    monkeypatch.undo()
    shown.close()
    os.close(controller)


def test_a_table_on_a_terminal_is_framed_and_takes_no_markup(open_terminal) -> None:
    read = open_terminal()
    output.print_table(("name", "count"), [("[red]", 5)])
    out = read()
    assert "[red]" in out
    assert "─" in out


def test_progress_on_a_terminal_is_a_bar_with_lasting_lines(open_terminal) -> None:
    read = open_terminal()
    with output.progress("train", 10) as shown:
        shown.advance(4, "loss 0.5")
        shown.line("epoch 1 [done]")
    out = read()
    assert "epoch 1 [done]" in out
    assert "\x1b[" in out


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_plain_terminal_gets_plain_text(
    open_terminal, monkeypatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    read = open_terminal()
    output.print_table(("name", "count"), [("a", 5)])
    with output.progress("train", 10) as shown:
        shown.line("epoch 1")
    out = read()
    assert "\x1b" not in out
    assert "a         5" in out
    assert "epoch 1" in out


def test_progress_in_a_log_is_a_line_every_ten_seconds(capsys) -> None:
    now = [0.0]
    with output.progress("score", 100, clock=lambda: now[0]) as shown:
        for second in range(1, 26):
            now[0] = float(second)
            shown.advance(2, f"at {second} s")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["score 20/100 at 10 s", "score 40/100 at 20 s"]


def test_a_lasting_line_in_a_log_postpones_the_next(capsys) -> None:
    now = [0.0]
    with output.progress("train", None, clock=lambda: now[0]) as shown:
        now[0] = 9.0
        shown.line("epoch 1")
        now[0] = 12.0
        shown.advance()
        now[0] = 19.0
        shown.advance()
    assert capsys.readouterr().err.splitlines() == ["epoch 1", "train 2"]
