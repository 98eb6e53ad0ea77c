"""Compiling in two processes: on a first start codecs and key table are made beside the kernels.

`python -m forecastd.runtime.beside` compiles them and keeps them on disk, where the process that
started it finds them; whatever goes wrong there, that process compiles them itself.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import numpy as np

from forecastd.data.closing import Closing

_LINE = b'{"id":"a","ds":"2000-01-01T00:00:00","y":1.5}'


class Beside(Closing):
    """Another process that compiles, if `start` was called. It does not outlive the block."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_over = False

    def start(self) -> None:
        """Start it where there is a core for it; do nothing when closed."""
        if not self._is_over and len(os.sched_getaffinity(0)) > 1:
            command, nowhere = [sys.executable, "-m", __name__], subprocess.DEVNULL
            with contextlib.suppress(OSError):
                self._process = subprocess.Popen(
                    command, stdin=nowhere, stdout=nowhere, stderr=nowhere
                )

    def wait(self) -> None:
        """Wait until it has compiled."""
        if self._process is not None:
            self._process.wait()

    def close(self) -> None:
        """End it, wherever it is."""
        self._is_over = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def compile_codecs() -> None:
    """Read a line, find a slot for its key and write a forecast, so that all is on disk."""
    from forecastd.connectors.codec_ndjson import Decoder, Encoder
    from forecastd.connectors.contract import LineBatch
    from forecastd.runtime.key_table import KeyTable
    from forecastd.series import ForecastBatch, Frequency, Signature

    hourly = Frequency.parse("1h")
    signature = Signature("id", "ds", "y", (), (), hourly, 24, 1, (0.5,))
    batch = Decoder(signature).decode(LineBatch("", [_LINE])).batch
    Encoder(signature).encode(
        ForecastBatch(batch.keys, batch.times, np.ones((1, 1, 1), np.float32))
    )
    KeyTable().claim(batch.keys, 1)


if __name__ == "__main__":
    compile_codecs()
