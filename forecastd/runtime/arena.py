"""The arena: one row per series that holds everything it remembers.

A row is a numpy structured record (the *layout*), so the whole memory of a series is batched,
checkpointed and restored as one thing. Rows are found by slot, slots by series key.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from forecastd.errors import BugError, UserError
from forecastd.runtime.evicted import Evicted
from forecastd.runtime.idleness import Idleness
from forecastd.runtime.key_table import KeyTable
from forecastd.series import NEVER, IntArray, Keys

BOOKKEEPING = [("last_time", np.int64), ("steps", np.int64)]
"""Fields that every row has: the newest time of the series and its count of steps."""

KEY_BYTES = 96
"""What the key of a series and its place in tables cost at most, roughly."""

_MAP_NORESERVE = 0x4000  # Linux; the module mmap names it from Python 3.13 on


class ArenaSnapshot(NamedTuple):
    """The live part of an arena. keys[i] owns rows[i]."""

    keys: Keys
    rows: NDArray[np.void]


class Resident(Protocol):
    """Rows that live on another device than the arena's, which then are a copy, true when read."""

    def written(self, slots: IntArray | int) -> None:
        """Note that rows of the arena were written, as wholes: they are the true ones now."""
        ...

    def fetch(self, slots: IntArray) -> None:
        """Bring rows of the arena up to date; what the BOOKKEEPING says is so at all times."""
        ...


class Arena:
    """Rows for at most `series_max` series: reserved at construction, real when first written.

    layout: a structured dtype that contains the BOOKKEEPING fields. rows: [series_max + 1], at one
    address for good; live series have the first `len(arena)`. The last one is scratch space for
    padding a block; it belongs to no series. dirty: uint8 [series_max], not 0 for rows that changed
    since `clean`; whoever writes rows marks them. Where rows are `resident` elsewhere, read them by
    `view` or `snapshot`, or fetch them first.
    """

    def __init__(self, layout: np.dtype[np.void], series_max: int, initial: NDArray[np.void]):
        self.layout = layout
        self.series_max = series_max
        self.scratch = series_max
        self.rows = _reserved(layout, series_max + 1)
        self.dirty = np.zeros(series_max, np.uint8)
        self.derived: NDArray[np.uint8] | None = None
        """Marks of what a stepper made from rows: cleared where anything else changes a row."""
        self.resident: Resident | None = None
        """Where rows live while a stepper works on another device; None: here."""
        self.evicted: Evicted | None = None
        """Where the longest idle go when all rows are taken; None: new series are refused."""
        self._raw = self.rows.view(np.dtype((np.void, layout.itemsize)))  # copied as one piece
        self._initial = initial.reshape(1).view(self._raw.dtype)
        self._raw[self.scratch] = self._initial[0]
        self._table = KeyTable()
        self._idleness = Idleness(series_max)

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, key: str) -> bool:
        return self.find(key) is not None

    @property
    def keys(self) -> Keys:
        """The keys of all live series in order of slot: a copy."""
        return self._table.keys_at(np.arange(len(self)))

    def keys_at(self, slots: IntArray) -> Keys:
        """Return the keys of live slots."""
        return self._table.keys_at(slots)

    def find(self, key: str) -> int | None:
        """Return the slot of a live series, or None."""
        slot = int(self._table.find(Keys.of([key]))[0])
        return slot if slot >= 0 else None

    def limit_memory(self, bytes_max: int) -> bool:
        """Lower series_max to what fits; return whether that was needed. Before the first claim."""
        fitting = max(1, bytes_max // (self.layout.itemsize + KEY_BYTES))
        lowered = fitting < self.series_max
        self.series_max = min(self.series_max, fitting)
        return lowered

    def claim(self, keys: Sequence[str]) -> tuple[IntArray, IntArray]:
        """Return the slot of each key: [n], and the rows in `keys` of series that are new.

        A new series gets a fresh row. When all are taken, the longest idle that is not in `keys`
        is evicted; an evicted series gets its row back when it returns, and is not new. Where
        nothing can be evicted the slot is -1. Raises PeerError when the disk fails.
        """
        column = Keys.of(keys)
        before = self._table.end
        spare = len(column) if self.evicted is not None else 0
        slots = self._table.claim(column, self.series_max + spare)
        if self.evicted is None and self._table.end == before:
            return slots, np.empty(0, np.int64)
        fresh = np.flatnonzero(slots >= before)
        new = fresh[np.unique(slots[fresh], return_index=True)[1]]
        live = slots[(slots >= 0) & (slots < self.series_max)]
        self._idleness.use(live)
        if self._table.end > self.series_max:
            slots = self._displace(slots)
            new = new[slots[new] >= 0]
        return slots, self._begin(column, slots, new) if len(new) else new

    def recall(self, keys: Keys) -> IntArray:
        """Return the slot of each series that is known, evicted ones too; -1 for others: [n].

        An evicted series gets a row again, as in `claim`. Raises PeerError when the disk fails.
        """
        slots = self._table.find(keys)
        if self.evicted is not None and (slots < 0).any():
            known = np.flatnonzero((slots >= 0) | self.evicted.holds(keys))
            slots[known] = self.claim(keys.take(known))[0]
        return slots

    def mark(self, slots: IntArray | int) -> None:
        """Note that the rows of some slots were written."""
        self.dirty[slots] = 1
        if self.derived is not None:
            self.derived[slots] = 0
        if self.resident is not None:
            self.resident.written(slots)

    def clean(self) -> None:
        """Forget all marks: what they marked is in a checkpoint."""
        self.dirty[: len(self)] = 0

    def reset(self, slots: IntArray, *, keep: tuple[str, ...] = ()) -> None:
        """Return rows to the initial state; fields named in `keep` stay."""
        if keep:
            self._fetch(slots)
        kept = {name: self.rows[name][slots].copy() for name in keep}
        self._raw[slots] = self._initial
        for name, values in kept.items():
            self.rows[name][slots] = values
        self.mark(slots)

    def begun_anew(self, rows: NDArray[np.void], keep: Sequence[str]) -> NDArray[np.void]:
        """Return initial rows that have the fields named in `keep` of some rows: [n]."""
        begun = np.empty(len(rows), self.layout)
        begun.view(self._raw.dtype)[:] = self._initial
        for name in keep:
            begun[name] = rows.view(self.layout)[name]
        return begun

    def view(self) -> ArenaSnapshot:
        """Return the live rows themselves, not a copy: they hold until something is written."""
        if self.resident is not None:
            self.resident.fetch(np.arange(len(self)))
        return ArenaSnapshot(self.keys, self.rows[: len(self)])

    def snapshot(self, slots: IntArray | None = None) -> ArenaSnapshot:
        """Return a copy of the rows of live slots, by default of all of them."""
        chosen = np.arange(len(self)) if slots is None else slots
        self._fetch(chosen)
        return ArenaSnapshot(self.keys_at(chosen), self._raw[chosen].view(self.layout))

    def restore(self, snapshot: ArenaSnapshot) -> None:
        """Replace the content by a snapshot of the same layout.

        Raises BugError when the layout differs or there are more series than rows: the caller
        checks both with the user's words first.
        """
        count = len(snapshot.keys)
        if snapshot.rows.dtype != self.layout or count > self.series_max:
            message = "a snapshot of another layout or size was restored"
            raise BugError(message)
        self._raw[:count] = snapshot.rows.view(self._raw.dtype)
        self._table.fill(snapshot.keys, np.arange(count), count)
        self._idleness = Idleness(self.series_max)
        self.mark(np.arange(count))

    def _displace(self, slots: IntArray) -> IntArray:
        """Evict for the keys that got slots beyond the rows, and return slots that are rows."""
        count = self._table.end - self.series_max
        victims = self._idleness.longest(count, self.series_max)
        if self.evicted is not None:
            self._fetch(victims)
            self.evicted.put(self._table.keys_at(victims), self._raw[victims])
        self._table.drop_last(count - len(victims))
        self._table.delete(victims)
        self._table.move_last(victims)
        self._idleness.use(victims)
        rows = np.full(self.series_max + count, -1, np.int64)
        rows[: self.series_max] = np.arange(self.series_max)
        rows[self.series_max : self.series_max + len(victims)] = victims
        return rows[slots]

    def _begin(self, keys: Keys, slots: IntArray, new: IntArray) -> IntArray:
        """Write the rows of new and returned series; return the new ones among `new`."""
        self._raw[slots[new]] = self._initial
        self.mark(slots[new])
        if self.evicted is None or len(self.evicted) == 0:
            return new
        returned, rows = self.evicted.take(keys.take(new))
        self._raw[slots[new[returned]]] = rows
        return np.delete(new, returned)

    def _fetch(self, slots: IntArray) -> None:
        if self.resident is not None:
            self.resident.fetch(slots)


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


def _reserved(layout: np.dtype[np.void], count: int) -> NDArray[np.void]:
    """Return rows of zeros that take memory page by page, when they are written."""
    size = layout.itemsize * count
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        memory = mmap.mmap(-1, size, flags=flags)
    except (OSError, ValueError) as error:
        message = f"{count:,} series of {layout.itemsize} bytes do not fit into the address space"
        raise UserError(message, hint="lower series_max") from error
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, layout, count)
