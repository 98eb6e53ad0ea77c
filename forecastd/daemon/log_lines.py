"""Log lines for people and machines, without a package: theirs take a tenth of the start.

Only `events.py` writes them.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from typing import TextIO

_LEVELS = ("debug", "info", "warning", "error")
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_COLOUR = {"debug": 36, "info": 32, "warning": 33, "error": 31}
_PLAIN = re.compile(r"[^\s='\"]+")


class LogLines:
    """Writes one line an event to a stream, and flushes it.

    log_format: "json": an object a line; "console": text, coloured on a terminal; "auto": text.
    level: lines below it are dropped. Under the journal of systemd a line begins with its priority
    and has no time, for the journal adds one.
    """

    def __init__(self, log_format: str, level: str, stream: TextIO) -> None:
        self._stream = stream
        self._lowest = _LEVELS.index(level)
        self._journal = bool(os.environ.get("JOURNAL_STREAM"))
        self._json = log_format == "json"
        self._coloured = stream.isatty() and not self._journal and not os.environ.get("NO_COLOR")

    def debug(self, event: str, **values: object) -> None:
        """Tell something for those who look for a fault."""
        self._write("debug", event, values)

    def info(self, event: str, **values: object) -> None:
        """Tell something that asks for nothing."""
        self._write("info", event, values)

    def warning(self, event: str, **values: object) -> None:
        """Tell something to look at some day."""
        self._write("warning", event, values)

    def error(self, event: str, **values: object) -> None:
        """Tell something to look at now."""
        self._write("error", event, values)

    def _write(self, level: str, event: str, values: dict[str, object]) -> None:
        if _LEVELS.index(level) < self._lowest:
            return
        time = "" if self._journal else datetime.now(UTC).isoformat(timespec="microseconds")
        time = time.replace("+00:00", "Z")
        if self._json:
            when = {"timestamp": time} if time else {}
            line = json.dumps({**values, "event": event, "level": level, **when}, default=repr)
        else:
            line = self._text(time, level, event, values)
        priority = f"<{_PRIORITY[level]}>" if self._journal else ""
        self._stream.write(f"{priority}{line}\n")
        self._stream.flush()

    def _text(self, time: str, level: str, event: str, values: dict[str, object]) -> str:
        told = " ".join(f"{name}={_shown(values[name])}" for name in sorted(values))
        parts = [self._painted(2, time), self._painted(_COLOUR[level], f"[{level}]"), event, told]
        return " ".join(part for part in parts if part)

    def _painted(self, code: int, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured and text else text


def _shown(value: object) -> str:
    """Return a value on one line: plain words as they are, all else with quotes and escapes."""
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.isprintable()
    return str(value) if plain else repr(value)
