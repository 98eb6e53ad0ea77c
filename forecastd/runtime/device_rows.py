"""The rows of an arena as tensors: in place on the CPU, or resident on another device.

A row is taken as one: words of 64 bits, all of it but the bookkeeping, which stays with the arena.
Resident rows grow in steps. The arena's are then a copy; marks tell which of the two is newer, so
only what changed crosses, and only when somebody reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forecastd.runtime.arena import BOOKKEEPING, Arena
from forecastd.series import IntArray

FIRST_ROWS = 65_536
"""Resident rows that there is room for at once; more are made when they are needed."""

CHUNK_ROWS = 16_384
"""Rows that cross at once."""

_WORD = 8
_SAME, _HERE, _THERE = 0, 1, 2
"""Which is newer: neither, the arena's row, the resident one."""


class Rows(Protocol):
    """Rows that a network steps.

    words [rows, W] int64, see `fields_of`; those of live slots, and one at `scratch` that belongs
    to no series. layout: of a whole row. moves: how often `words` went to another address.
    """

    words: Tensor
    layout: np.dtype[np.void]
    scratch: int
    moves: int

    def settle(self) -> None:
        """Bring `words` up to date with what was written into the arena."""
        ...

    def stepped(self, slots: IntArray) -> None:
        """Note that rows in `words` changed."""
        ...


class RowsInPlace:
    """The rows of the arena themselves: tensors that share its memory, on the CPU. See Rows."""

    def __init__(self, arena: Arena) -> None:
        self.words = torch.from_numpy(_words_of(arena))
        self.layout, self.scratch, self.moves = arena.layout, arena.scratch, 0
        self._arena = arena

    def settle(self) -> None:
        """Do nothing: there is one memory."""

    def stepped(self, slots: IntArray) -> None:
        """Mark rows."""
        self._arena.mark(slots)


class ResidentRows:
    """Rows on a device of their own; see Rows and arena.Resident. The arena gets to know them.

    Room for them doubles, up to that of the arena, by a copy on the device.
    """

    def __init__(self, arena: Arena, device: torch.device) -> None:
        self.layout = arena.layout
        self._arena, self._here = arena, _words_of(arena)
        self._newer = np.zeros(arena.scratch, np.uint8)
        self._written: list[IntArray] = []
        self.scratch, self.moves = min(FIRST_ROWS, arena.scratch), 0
        self.words = self._room(self.scratch, device)
        self.words[self.scratch] = torch.from_numpy(self._here[arena.scratch]).to(device)
        shape = min(CHUNK_ROWS, arena.scratch), self._here.shape[1]
        self._staged = torch.empty(shape, dtype=torch.int64, pin_memory=device.type == "cuda")
        arena.resident = self

    def written(self, slots: IntArray | int) -> None:
        """Note rows of the arena that cross with the next `settle`."""
        self._newer[slots] = _HERE
        self._written.append(np.atleast_1d(np.asarray(slots, np.int64)))

    def settle(self) -> None:
        """Send rows that were written into the arena, after making room for them."""
        if not self._written:
            return
        slots = np.unique(np.concatenate(self._written))
        self._written.clear()
        if len(slots):
            self._make_room(int(slots[-1]) + 1)
        for chunk, staged, places in self._crossing(slots):
            staged.numpy()[:] = self._here[chunk]
            self.words.index_copy_(0, places, staged.to(self.words.device, non_blocking=True))
            self._wait()
        self._newer[slots] = _SAME

    def stepped(self, slots: IntArray) -> None:
        """Note that the resident rows are the newer ones, and mark them for the next checkpoint."""
        self._newer[slots] = _THERE
        self._arena.dirty[slots] = 1

    def fetch(self, slots: IntArray) -> None:
        """Bring the arena's rows up to date that are older than the resident ones."""
        older = slots[self._newer[slots] == _THERE]
        for chunk, staged, places in self._crossing(older):
            staged.copy_(self.words.index_select(0, places), non_blocking=True)
            self._wait()
            self._here[chunk] = staged.numpy()
        self._newer[older] = _SAME

    def _crossing(self, slots: IntArray) -> Iterator[tuple[IntArray, Tensor, Tensor]]:
        """Yield slots by chunks: slots, their place in page-locked memory, the slots there."""
        for start in range(0, len(slots), CHUNK_ROWS):
            chunk = slots[start : start + CHUNK_ROWS]
            yield chunk, self._staged[: len(chunk)], torch.from_numpy(chunk).to(self.words.device)

    def _make_room(self, count: int) -> None:
        if count <= self.scratch:
            return
        before, scratch = self.words, self.scratch
        self.scratch = min(max(count, 2 * scratch), self._arena.scratch)
        self.words = self._room(self.scratch, before.device)
        self.words[:scratch] = before[:scratch]
        self.words[self.scratch] = before[scratch]
        self.moves += 1

    def _room(self, count: int, device: torch.device) -> Tensor:
        return torch.empty((count + 1, self._here.shape[1]), dtype=torch.int64, device=device)

    def _wait(self) -> None:
        """Wait until what was staged has crossed."""
        if self.words.device.type == "cuda":
            torch.cuda.current_stream(self.words.device).synchronize()


def fields_of(words: Tensor, layout: np.dtype[np.void]) -> dict[str, Tensor]:
    """Return the fields of rows [n, W] by name, but the bookkeeping: views [n, ...] of them."""
    raw, found = words.view(torch.uint8), {}
    for name in field_names(layout):
        kind, start = _field(layout, name)
        values = raw[:, start : start + kind.itemsize].view(_torch_kind(kind.base))
        found[name] = values.view(len(words), *kind.shape)
    return found


def field_names(layout: np.dtype[np.void]) -> list[str]:
    """Return the names of the fields of a row that a network uses: all but the bookkeeping."""
    own = {name for name, _ in BOOKKEEPING}
    return [name for name in layout.names or () if name not in own]


def _words_of(arena: Arena) -> NDArray[np.int64]:
    """Return the rows of an arena [rows, W] as words, without the bookkeeping, which ends a row."""
    first = min(_field(arena.layout, name)[1] for name, _ in BOOKKEEPING)
    words = arena.rows.view(np.int64).reshape(len(arena.rows), -1)
    used: NDArray[np.int64] = words[:, : first // _WORD]
    return used


def _field(layout: np.dtype[np.void], name: str) -> tuple[np.dtype[Any], int]:
    """Return the type of a field and the byte of the row where it starts."""
    fields: Mapping[str, Any] = layout.fields or {}
    kind, start = fields[name][:2]
    return kind, start


def _torch_kind(kind: np.dtype[np.generic]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, kind)).dtype
