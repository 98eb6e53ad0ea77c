from __future__ import annotations

import io
import json
from datetime import datetime

import pytest

from forecastd.daemon.log_lines import LogLines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOURNAL_STREAM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def test_an_object_a_line_for_machines() -> None:
    stream = io.StringIO()
    log = LogLines("json", "info", stream)
    log.info("started", series=3, sources=["in"])
    log.warning('with "quotes"\nand lines', at=("127.0.0.1", 1), odd={1})
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("timestamp")).tzinfo is not None
    assert first == {"event": "started", "level": "info", "series": 3, "sources": ["in"]}
    assert (second["event"], second["at"]) == ('with "quotes"\nand lines', ["127.0.0.1", 1])
    assert second["odd"] == "{1}"


def test_text_for_people_with_values_in_order() -> None:
    stream = io.StringIO()
    LogLines("console", "info", stream).error("gone", b="two words", a="one", c=1.5, d=["x"])
    time, _, rest = stream.getvalue().partition(" ")
    assert time.endswith("Z")
    assert rest == "[error] gone a=one b='two words' c=1.5 d=['x']\n"


def test_what_a_client_sent_cannot_leave_its_line_or_paint() -> None:
    stream = Terminal()
    LogLines("auto", "info", stream).info("bad", detail="a\nb", source="\x1b[31mred", empty="")
    assert stream.getvalue().count("\n") == 1
    assert "detail='a\\nb' empty='' source='\\x1b[31mred'" in stream.getvalue()


def test_levels_below_are_dropped() -> None:
    stream = io.StringIO()
    log = LogLines("console", "warning", stream)
    for tell in (log.debug, log.info, log.warning, log.error):
        tell("told")
    levels = [line.split()[1] for line in stream.getvalue().splitlines()]
    assert levels == ["[warning]", "[error]"]


@pytest.mark.parametrize("variable", ["NO_COLOR", "JOURNAL_STREAM", None])
def test_only_a_terminal_is_coloured(variable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        LogLines("auto", "debug", stream).debug("told")
    assert ("\x1b[" in terminal.getvalue()) is (variable is None)
    assert "\x1b[" not in file.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_the_journal_gets_a_priority_and_no_time(
    log_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    stream = io.StringIO()
    log = LogLines(log_format, "debug", stream)
    for tell in (log.debug, log.info, log.warning, log.error):
        tell("told")
    lines = stream.getvalue().splitlines()
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>"]
    assert not any("timestamp" in line or "20" in line for line in lines)
