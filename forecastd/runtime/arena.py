"""The arena: one preallocated row per series that holds everything it remembers.

A row is a numpy structured record (the *layout*), so the whole memory of a series is batched,
checkpointed and restored as one thing. Rows are found by slot, slots by series key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.errors import BugError
from forecastd.series import NEVER, IntArray

BOOKKEEPING = [("last_time", np.int64), ("steps", np.int64)]
"""Fields that every row has: the newest time of the series and its count of steps."""


class ArenaSnapshot(NamedTuple):
    """A copy of the live part of an arena. keys[i] owns rows[i]."""

    keys: list[str]
    rows: NDArray[np.void]


class Arena:
    """Rows for at most `series_max` series, allocated at construction.

    layout: a structured dtype that contains the BOOKKEEPING fields. Row `series_max` is scratch
    space for padding a block; it belongs to no series.
    """

    def __init__(self, layout: np.dtype[np.void], series_max: int, initial: NDArray[np.void]):
        self.layout = layout
        self.series_max = series_max
        self.scratch = series_max
        self._initial = initial.reshape(1)
        self.rows = np.zeros(series_max + 1, layout)
        self.rows[:] = self._initial
        self._slots: dict[str, int] = {}
        self._keys: list[str] = []

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._slots

    @property
    def keys(self) -> list[str]:
        """The keys of all live series in order of slot. Not to be modified."""
        return self._keys

    def find(self, key: str) -> int | None:
        """Return the slot of a live series, or None."""
        return self._slots.get(key)

    def claim(self, keys: Sequence[str]) -> tuple[IntArray, list[int]]:
        """Return the slot of each key, and the positions in `keys` of series that are new.

        A new series gets a fresh row; when the arena is full its slot is -1.
        """
        slots = np.empty(len(keys), np.int64)
        new = []
        for position, key in enumerate(keys):
            slot = self._slots.get(key)
            if slot is None:
                slot = self._add(key)
                if slot >= 0:
                    new.append(position)
            slots[position] = slot
        return slots, new

    def reset(self, slots: IntArray, *, keep: tuple[str, ...] = ()) -> None:
        """Return rows to the initial state; fields named in `keep` stay."""
        kept = {name: self.rows[name][slots].copy() for name in keep}
        self.rows[slots] = self._initial
        for name, values in kept.items():
            self.rows[name][slots] = values

    def snapshot(self) -> ArenaSnapshot:
        """Return a copy of all live rows."""
        return ArenaSnapshot(list(self._keys), self.rows[: len(self._keys)].copy())

    def restore(self, snapshot: ArenaSnapshot) -> None:
        """Replace the content by a snapshot of the same layout.

        Raises BugError when the layout differs or there are more series than rows: the caller
        checks both with the user's words first.
        """
        if snapshot.rows.dtype != self.layout or len(snapshot.keys) > self.series_max:
            message = "a snapshot of another layout or size was restored"
            raise BugError(message)
        self.rows[:] = self._initial
        self.rows[: len(snapshot.keys)] = snapshot.rows
        self._keys = list(snapshot.keys)
        self._slots = {key: slot for slot, key in enumerate(self._keys)}

    def _add(self, key: str) -> int:
        if len(self._keys) == self.series_max:
            return -1
        slot = len(self._keys)
        self._slots[key] = slot
        self._keys.append(key)
        return slot


def row_layout(
    fields: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]],
) -> np.dtype[np.void]:
    """Return the dtype of a row: `fields` (name: element type and shape), then BOOKKEEPING."""
    return np.dtype(
        [(name, kind, shape) for name, (kind, shape) in fields.items()] + BOOKKEEPING, align=True
    )


def blank_row(layout: np.dtype[np.void]) -> NDArray[np.void]:
    """Return one row of zeros whose series has never been seen."""
    row = np.zeros(1, layout)
    row["last_time"] = NEVER
    return row
