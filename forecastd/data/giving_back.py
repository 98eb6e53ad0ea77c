"""Freed memory goes back to the system: glibc keeps it otherwise, and small peaks pile up."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

CALLS = 16
"""So many calls are one: pages that were handed back cost time when they are needed again."""
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


@dataclass
class GivingBack:
    """Hands back what is free on the heap, now and then, where the allocator is glibc."""

    calls: int = 0

    def __call__(self) -> None:
        """Count a call, and hand back at each CALLS-th."""
        self.calls += 1
        if self.calls % CALLS == 0:
            give_back()


def give_back() -> None:
    """Hand back what is free on the heap, where the allocator is glibc, and what arrow keeps."""
    if pyarrow := sys.modules.get("pyarrow"):
        pyarrow.default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)
