"""Reads ahead: one background thread fills a small buffer while the consumer works."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from forecastd.data.closing import Closing

Item = TypeVar("Item")

DEPTH = 2
"""Items that wait: one is ready while the next is read."""


class Prefetch(Iterator[Item], Closing, Generic[Item]):
    """Yields the items of an iterable in their order, read ahead by one thread.

    ready: called on each item in that thread, as to pin its memory. What the iterable raises is
    raised here, after the items before it. waited: seconds the consumer has waited for items.
    Use it as a context: leaving it, early too, ends the thread and closes the iterable.
    """

    def __init__(
        self,
        items: Iterable[Item],
        ready: Callable[[Item], Item] | None = None,
        depth: int = DEPTH,
    ) -> None:
        self.waited = 0.0
        self._items = iter(items)
        self._ready = ready
        self._depth = depth
        self._buffer: deque[Item] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="prefetch", daemon=True)
        self._thread.start()

    def __next__(self) -> Item:
        started = time.perf_counter()
        with self._change:
            self._change.wait_for(lambda: self._buffer or self._ended or self._closed)
            self.waited += time.perf_counter() - started
            if self._buffer and not self._closed:
                item = self._buffer.popleft()
                self._change.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """End the thread and wait for it. Items not consumed yet are dropped."""
        with self._change:
            self._closed = True
            self._buffer.clear()
            self._change.notify_all()
        self._thread.join()

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            self._fill()
        except BaseException as caught:  # noqa: BLE001  the consumer raises it
            error = caught
        with self._change:
            self._error, self._ended = error, True
            self._change.notify_all()

    def _fill(self) -> None:
        try:
            for item in self._items:
                if not self._put(item if self._ready is None else self._ready(item)):
                    break
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()

    def _put(self, item: Item) -> bool:
        """Wait for room and add the item; False once closed."""
        with self._change:
            self._change.wait_for(lambda: len(self._buffer) < self._depth or self._closed)
            if not self._closed:
                self._buffer.append(item)
                self._change.notify_all()
            return not self._closed
