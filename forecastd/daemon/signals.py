"""Signals as flags that a loop looks at between ticks."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StoppedAtOnce(BaseException):
    """A second signal came: leave without a commit."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


class Signals:
    """Turns signals into flags that the loop looks at between ticks, and ends its waiting.

    The first SIGTERM or SIGINT asks for an orderly end, the second raises StoppedAtOnce wherever
    the program is; checkpoints survive that as they survive a crash.
    """

    def __init__(self) -> None:
        self.stop: signal.Signals | None = None
        self.reload = False
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle SIGTERM, SIGINT and SIGHUP within a block; main thread only."""
        handlers = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGHUP: self._on_reload,
        }
        before = {number: signal.signal(number, call) for number, call in handlers.items()}
        wakeup_before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._woken.close()
            self._wake.close()

    def wait(self, descriptors: list[int], seconds: float) -> None:
        """Return when a descriptor is readable, a signal has come, or the time is up."""
        poll = select.poll()
        for descriptor in (*descriptors, self._woken.fileno()):
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(seconds * 1000):
            if descriptor == self._woken.fileno():
                self._woken.recv(4096)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop is not None:
            raise StoppedAtOnce(number)
        self.stop = signal.Signals(number)

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        self.reload = True
