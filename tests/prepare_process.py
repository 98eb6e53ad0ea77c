"""Prepares a data set in a process of its own, which kills itself at the n-th report."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from forecastd.config import DataSettings
from forecastd.data import store
from forecastd.data.preparing import Memory
from forecastd.data.store import PrepareProgress, prepare

SETTINGS = {"path": "data.parquet", "id": "id", "target": ["y"]}


def main() -> None:
    """Take the folder and n from the command line; n = 0: live on."""
    folder, left = Path(sys.argv[1]), int(sys.argv[2])
    store.memory_for = lambda _budget, _channels: Memory(500, 700)

    def report(_progress: PrepareProgress) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    prepare(DataSettings.model_validate(SETTINGS), folder, folder / "store", report=report)


if __name__ == "__main__":
    main()
