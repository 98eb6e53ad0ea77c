"""What a command that follows a stream does while it starts."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Look for no garbage while modules are imported and a model is opened: there is hardly any.

    What has been made by the end stays as long as the process, so it is never looked through later
    either, which would hold up an observation for tens of milliseconds.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
