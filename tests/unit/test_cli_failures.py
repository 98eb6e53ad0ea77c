"""How a command ends, each tried in a process of its own: exit codes are a process's business."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys, typer
from forecast_cli.failures import guarded
from forecastd.errors import *

app = typer.Typer()

@app.command()
def act(as_json: bool = typer.Option(False, "--json")) -> None:
{body}

guarded(app, "trial")
"""


def _command(body: str, *arguments: str) -> list[str]:
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    return [sys.executable, "-c", SCRIPT.format(body=indented), *arguments]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "FORECAST_CRASH_DIR": str(folder), "TERM": "dumb"}


@pytest.fixture
def act(tmp_path: Path):
    """Run a command with a given body to its end."""

    def run(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _command(body, *arguments),
            env=_environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("pass", 0, ""),
        ("raise typer.Exit(1)", 1, ""),
        ("raise UserError('no column x', hint='use y')", 2, "error: no column x\nhint: use y\n"),
        ("raise DataError('the [id] is null')", 2, "error: the [id] is null\n"),
        ("raise ConfigError(['a: 1', 'b: 2'])", 2, "error: a: 1\nerror: b: 2\n"),
        ("raise PeerError('the socket closed')", 1, "error: the socket closed\n"),
        ("raise KeyboardInterrupt", 130, ""),
        ("raise SystemExit('enough')", 1, "enough\n"),
    ],
)
def test_each_end_has_its_code_and_sentence(act, body: str, code: int, message: str) -> None:
    done = act(body)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", message)


@pytest.mark.parametrize(
    "body", ["raise BugError('odd')", "1 / 0", "raise BrokenPipeError(32, 'x')"]
)
def test_a_bug_leaves_its_traceback_in_a_file(act, tmp_path: Path, body: str) -> None:
    done = act(body)
    assert (done.returncode, done.stdout) == (101, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    [crash] = tmp_path.glob("crash-*.txt")
    assert str(crash) in done.stderr
    assert "Traceback" in crash.read_text(encoding="utf-8")
    assert crash.stat().st_mode & 0o077 == 0, "only its owner reads it"


def test_a_bug_is_still_one_line_where_no_file_can_be_written(act, tmp_path: Path) -> None:
    body = f"import os\nos.environ['FORECAST_CRASH_DIR'] = {str(tmp_path / 'none')!r}\n1 / 0"
    done = act(body)
    assert done.returncode == 101
    assert done.stderr.count("\n") == 1
    assert "FORECAST_CRASH_DIR" in done.stderr


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ("raise DataError('no column x', hint='use y')", 2, "DATA_ERROR"),
        ("raise PeerError('gone')", 1, "PEER_ERROR"),
        ("1 / 0", 101, "BUG"),
    ],
)
def test_json_errors_are_one_object_on_stderr(act, body: str, code: int, word: str) -> None:
    done = act(body, "--json")
    assert (done.returncode, done.stdout) == (code, "")
    problem = json.loads(done.stderr)
    assert problem["code"] == word
    assert set(problem) == {"code", "message", "hint"}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_signals_have_their_codes(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """1 the command waits · 2 the signal comes · Result: cleanup ran, the code is the signal's."""
    body = """
import threading
try:
    print("ready", flush=True)
    threading.Event().wait()
finally:
    print("cleaned", flush=True)
"""
    with subprocess.Popen(
        _command(body),
        env=_environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        rest, errors = process.communicate()
    assert (process.returncode, rest, errors) == (code, "cleaned\n", "")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """As in `forecast … | head -1`: quiet, and no crash file."""
    body = "while True:\n    print('x' * 1000)"
    with subprocess.Popen(
        _command(body),
        env=_environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (141, "")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_left_before_the_last_flush_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        _command("print('one line')"),
        env=_environment(tmp_path),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123  a device
        done = subprocess.run(
            _command("print('one line')"),
            env=_environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "full" in done.stderr
    assert "Traceback" not in done.stderr
