"""Slots by key: an open-addressing hash table over a column of keys, a batch at a time.

One call of machine code a batch hashes all keys, then looks all of them up, so that the memory
accesses of many keys overlap. Keys are kept once, in one heap of bytes; nothing is an object.
"""

from __future__ import annotations

import secrets
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from forecastd.runtime import key_probing as probing
from forecastd.runtime.key_probing import DEAD, Bytes, Column, Parts, Seed, Words
from forecastd.series import IntArray, Keys

_Kind = TypeVar("_Kind", bound=np.generic)
_FIXED_SEED: Seed = (np.uint64(0), np.uint64(0))
"""For checksums that have to be the same in the next process."""

_FILLED_MAX = 0.6
_SMALLEST = 1024


class KeyTable:
    """Numbers keys 0, 1, 2, … in order of their first claim; a key keeps its slot until deleted.

    The hash has a secret seed, so that nobody can send keys that collide on purpose.
    """

    def __init__(self) -> None:
        self._seed = (np.uint64(secrets.randbits(64)), np.uint64(secrets.randbits(64)))
        self.clear()

    def clear(self) -> None:
        """Forget all keys."""
        self.end = 0
        """One more than the highest slot."""
        self._live = 0
        # An entry is the upper half of the hash and slot + 1; 0 is empty.
        self._table = np.zeros(2 * _SMALLEST, np.uint64)
        self._hashes = np.zeros(_SMALLEST, np.uint64)
        self._places = np.zeros((_SMALLEST, 2), np.int64)  # start and length in the heap, by slot
        self._heap = np.zeros(16 * _SMALLEST, np.uint8)
        self._heap_end = 0
        self._garbage_bytes = 0

    def __len__(self) -> int:
        return self._live

    def find(self, keys: Keys) -> IntArray:
        """Return the slot of each key, -1 where there is none: [n]."""
        slots = np.empty(len(keys), np.int64)
        hashes = np.empty(len(keys), np.uint64)
        column = _writable(keys)
        probing.find(column, self._seed, self._parts, hashes, slots)
        return slots

    def claim(self, keys: Keys, end_max: int) -> IntArray:
        """Return the slot of each key: [n]. A new key gets the next one below `end_max`, or -1."""
        self._make_room(min(len(keys), end_max - self.end), keys)
        slots = np.empty(len(keys), np.int64)
        hashes = np.empty(len(keys), np.uint64)
        column = _writable(keys)
        probing.find(column, self._seed, self._parts, hashes, slots)
        before = self.end
        self.end, self._heap_end = probing.insert(
            column, self._parts, hashes, slots, (self.end, end_max, self._heap_end)
        )
        self._live += self.end - before
        return slots

    def fill(self, keys: Keys, slots: IntArray, end: int) -> None:
        """Hold these keys, all different, at these rising slots below `end`, and nothing else."""
        self.clear()
        self.claim(keys, len(keys))
        self._make_room(end - len(keys), Keys.empty())
        if len(keys) and slots[-1] != len(keys) - 1:
            self._move(np.arange(len(keys))[::-1].copy(), slots[::-1].copy())
            gone = np.ones(end, np.bool_)
            gone[slots] = False
            self._places[:end][gone, 1] = DEAD
        else:
            self._places[len(keys) : end, 1] = DEAD
        self.end = end

    def delete(self, slots: IntArray) -> None:
        """Forget the keys at some live slots; other keys keep theirs."""
        if len(slots) == 0:
            return
        self._garbage_bytes += int(self._places[slots, 1].sum())
        probing.delete(slots, self._parts)
        self._live -= len(slots)

    def drop_last(self, count: int) -> None:
        """Forget the keys at the last `count` slots, all live; `end` sinks."""
        self.delete(np.arange(self.end - count, self.end))
        self.end -= count

    def move_last(self, targets: IntArray) -> None:
        """Give the keys at the last slots those of `targets`, which are free; `end` sinks."""
        sources = np.arange(self.end - len(targets), self.end)
        self._move(sources, targets)
        self.end -= len(targets)

    def live_slots(self) -> IntArray:
        """Return the slots that hold a key, rising."""
        return np.flatnonzero(self._places[: self.end, 1] != DEAD)

    def keys_at(self, slots: IntArray) -> Keys:
        """Return the keys at some live slots."""
        offsets = np.zeros(len(slots) + 1, np.int64)
        np.cumsum(self._places[slots, 1], out=offsets[1:])
        data = np.empty(offsets[-1], np.uint8)
        probing.collect(slots, self._places, self._heap, offsets, data)
        return Keys(data, offsets)

    def _move(self, sources: IntArray, targets: IntArray) -> None:
        probing.renumber(sources, targets, self._parts)

    @property
    def _parts(self) -> Parts:
        return self._table, self._hashes, self._places, self._heap

    def _make_room(self, count: int, keys: Keys) -> None:
        """Grow so that `count` more slots, with these keys at worst, fit."""
        end = self.end + max(count, 0)
        if end > len(self._hashes):
            self._hashes = _grown(self._hashes, end)
            self._places = _grown(self._places, end)
        if end > _FILLED_MAX * len(self._table):
            slots = self.live_slots()
            size = 1 << int(np.ceil(np.log2(end / _FILLED_MAX)))
            self._table = np.zeros(size, np.uint64)
            probing.rebuild(slots, self._table, self._hashes)
        needed = int(keys.offsets[-1] - keys.offsets[0])
        if self._heap_end + needed > len(self._heap):
            self._grow_heap(needed)

    def _grow_heap(self, needed: int) -> None:
        if self._garbage_bytes <= self._heap_end // 2:
            self._heap = _grown(self._heap, self._heap_end + needed)
            return
        slots = self.live_slots()
        kept = self.keys_at(slots)
        self._places[slots, 0] = kept.offsets[:-1]
        self._heap = _grown(kept.data, len(kept.data) + needed)
        self._heap_end, self._garbage_bytes = len(kept.data), 0


def checksums(rows: Bytes) -> Words:
    """Return the SipHash of each row of bytes, the same in every process: [n]."""
    offsets = np.arange(len(rows) + 1, dtype=np.int64) * rows.shape[1]
    return key_checksums(Keys(rows.reshape(-1), offsets))


def key_checksums(keys: Keys) -> Words:
    """Return the SipHash of each key, the same in every process: [n]."""
    sums = np.empty(len(keys), np.uint64)
    probing.hash_all(*_writable(keys), _FIXED_SEED, sums)
    return sums


def _writable(keys: Keys) -> Column:
    """Return the arrays of a column; machine code is made for one kind of them only."""
    data = keys.data if keys.data.flags.writeable else keys.data.copy()
    return data, keys.offsets


def _grown(array: NDArray[_Kind], size: int) -> NDArray[_Kind]:
    grown = np.zeros((max(size, 2 * len(array)), *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
