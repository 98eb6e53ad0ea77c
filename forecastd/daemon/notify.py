"""What the daemon tells systemd, in the datagrams of sd_notify(3).

Without NOTIFY_SOCKET in the environment every call does nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping


class Notifier:
    """Sends states to the service manager. Never blocks, never raises."""

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self._socket = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self.watchdog_interval_s = _watchdog_interval_s(environment)
        self._fed_at = float("-inf")

    def ready(self) -> None:
        """Model, sources and sinks are up."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Show a sentence in `systemctl status`."""
        self._send(f"STATUS={text}")

    def ticked(self) -> None:
        """Feed the watchdog: a tick is finished, so the daemon makes progress."""
        interval_s = self.watchdog_interval_s
        if interval_s is not None and self._clock() - self._fed_at >= interval_s / 2:
            self._fed_at = self._clock()
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it. Without the time stamp systemd would wait."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}")

    def stopping(self) -> None:
        """An orderly end has begun."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(message.encode(), self._address)


def _watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """Return the interval within which systemd wants to hear of us; None if it does not."""
    interval_us = environment.get("WATCHDOG_USEC", "")
    for_whom = environment.get("WATCHDOG_PID", "")
    if not interval_us.isdecimal() or int(interval_us) == 0:
        return None
    if for_whom and for_whom != str(os.getpid()):
        return None
    return int(interval_us) / 1e6
