"""How a command ends: every error becomes one sentence and an exit code, never a traceback.

0 done · 1 the answer is no, or a peer failed · 2 the user's config, data or command line ·
101 our bug, its traceback kept in a crash file · 130 Ctrl-C · 141 the reader of stdout went
away · 143 SIGTERM.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import select
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import typer
from typer.main import get_command

from forecast_cli.output import is_screen
from forecastd import __version__
from forecastd.errors import ConfigError, ForecastError, PeerError

EXIT_BUG = 101
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
EXIT_TERMINATED = 143
CRASH_FOLDER_VARIABLE = "FORECAST_CRASH_DIR"


class Terminated(KeyboardInterrupt):
    """SIGTERM. A kind of Ctrl-C, so that what saves on one saves on the other."""


def guarded(app: typer.Typer, name: str = "forecast") -> None:
    """Run a Typer app as the process's command line and leave by SystemExit.

    Commands raise ForecastError for what they know, typer.Exit for a code of their own.
    SIGTERM arrives as Terminated unless the command sets a handler of its own.
    """
    as_json = _wants_json(sys.argv[1:])
    with _terminations() as terminations:
        code = _exit_code(app, name, as_json=as_json)
    if code == EXIT_INTERRUPTED and terminations:
        code = EXIT_TERMINATED
    sys.exit(_flushed(code))


def _exit_code(app: typer.Typer, name: str, *, as_json: bool) -> int:
    """Run the app and return its exit code, errors reported."""
    try:
        result = get_command(app).main(prog_name=name, standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except SystemExit as end:
        code = _code_of_exit(end, as_json=as_json)
    except typer.TyperException as error:
        code = _report_usage(error, as_json=as_json)
    except typer.Abort:
        code = 1
    except ForecastError as error:
        code = _report(error, as_json=as_json)
    except OSError as error:
        code = _report_system(error, as_json=as_json)
    except Exception as error:  # noqa: BLE001  the last line of defence: no traceback leaves here
        code = _report_bug(error, as_json=as_json)
    return code


def _code_of_exit(end: SystemExit, *, as_json: bool) -> int:
    """Return the code of a SystemExit. Typer turns every broken pipe into one with code 1."""
    cause = end.__context__
    if isinstance(cause, OSError) and cause.errno == errno.EPIPE:
        return EXIT_PIPE if _stdout_is_gone() else _report_bug(cause, as_json=as_json)
    if isinstance(end.code, str):
        print(end.code, file=sys.stderr)
        return 1
    return end.code or 0


def _wants_json(arguments: list[str]) -> bool:
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _report(error: ForecastError, *, as_json: bool) -> int:
    if error.exit_code == EXIT_BUG:
        return _report_bug(error, as_json=as_json)
    if as_json:
        _report_json(error.code, error.message, error.hint)
        return error.exit_code
    problems = error.problems if isinstance(error, ConfigError) else [error.message]
    for problem in problems:
        print(_red("error:"), problem, file=sys.stderr)
    if error.hint:
        print("hint:", error.hint, file=sys.stderr)
    return error.exit_code


def _report_usage(error: typer.TyperException, *, as_json: bool) -> int:
    if as_json:
        _report_json("USAGE_ERROR", error.format_message(), "add --help for the options")
    else:
        from typer import rich_utils

        rich_utils.rich_format_error(error)  # type: ignore[arg-type]  # its base class is public
    return error.exit_code


def _report_system(error: OSError, *, as_json: bool) -> int:
    """Report an error of the system that nobody mapped: a full disk is no bug, others are."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return _report_bug(error, as_json=as_json)
    where = f" of {error.filename}" if error.filename else ""
    full = PeerError(f"the disk{where} is full", hint="free some space and start again")
    return _report(full, as_json=as_json)


def _report_bug(error: Exception, *, as_json: bool) -> int:
    """Keep the traceback in a crash file and say where it is."""
    message = f"a bug in forecastd: {type(error).__name__}"
    try:
        hint = f"please report it with the file {_write_crash_file(error)}"
    except OSError as failure:
        hint = f"set {CRASH_FOLDER_VARIABLE} to a writable folder to get the details ({failure})"
    if as_json:
        _report_json("BUG", message, hint)
    else:
        print(_red("error:"), f"{message}; {hint}", file=sys.stderr)
    return EXIT_BUG


def _report_json(code: str, message: str, hint: str | None) -> None:
    problem = {"code": code, "message": message, "hint": hint}
    print(json.dumps(problem, ensure_ascii=False), file=sys.stderr)


def _write_crash_file(error: Exception) -> Path:
    folder = os.environ.get(CRASH_FOLDER_VARIABLE) or None
    # A random name that only its owner reads: the temporary folder is everybody's.
    descriptor, name = tempfile.mkstemp(prefix="crash-forecast-", suffix=".txt", dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"forecastd {__version__}, Python {sys.version}\n{platform.platform()}\n")
        file.write(f"arguments: {sys.argv}\n\n")
        file.writelines(traceback.format_exception(error))
    return Path(name)


def _red(text: str) -> str:
    return f"\x1b[1;31m{text}\x1b[0m" if is_screen(sys.stderr) else text


@contextlib.contextmanager
def _terminations() -> Iterator[list[int]]:
    """Turn SIGTERM into Terminated; the list holds the signals that came."""
    arrived: list[int] = []

    def terminate(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield arrived  # signals belong to the main thread: nothing to watch here
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield arrived
    finally:
        signal.signal(signal.SIGTERM, before)


def _flushed(code: int) -> int:
    """Flush stdout and return the exit code; a reader that went away is no error to report."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or EXIT_PIPE
    except OSError as error:
        if code == 0:
            print(_red("error:"), f"cannot write to stdout: {error.strerror}", file=sys.stderr)
            code = 1
    else:
        if code != EXIT_PIPE:
            return code
    # What is still buffered would fail once more, with a traceback, when Python shuts down.
    with contextlib.suppress(OSError):
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, sys.stdout.fileno())
        os.close(silent)
    return code


def _stdout_is_gone() -> bool:
    """Whether nobody reads stdout any more."""
    try:
        poller = select.poll()
        poller.register(sys.__stdout__ or 1, 0)
        return any(event & select.POLLERR for _, event in poller.poll(0))
    except (OSError, ValueError):
        return True
