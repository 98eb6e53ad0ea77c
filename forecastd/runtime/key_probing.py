"""The machine code of the key table: hash, look up, insert and delete keys, a batch a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from forecastd.compiled import compiled, inlined
from forecastd.series import IntArray

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Seed = tuple[np.uint64, np.uint64]
Column = tuple[Bytes, IntArray]
"""Bytes and offsets of keys."""
Parts = tuple[Words, Words, IntArray, Bytes]
"""Table, hashes by slot, places in the heap by slot, heap."""

DEAD = -1
"""The length of a key that was deleted."""
_NOBODY = np.int64(-1)


@inlined
def _turned(x: np.uint64, bits: int) -> np.uint64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@inlined
def _round(
    a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    a = a + b
    b = _turned(b, 13) ^ a
    a = _turned(a, 32)
    c = c + d
    d = _turned(d, 16) ^ c
    a = a + d
    d = _turned(d, 21) ^ a
    c = c + b
    b = _turned(b, 17) ^ c
    c = _turned(c, 32)
    return a, b, c, d


def _load_word(_context: Any, data: Any, at: Any) -> Any:
    """Load eight bytes of an array as a number, at any place."""

    def load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bytes_at = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.gep(bytes_at, [arguments[1]])
        wide = builder.bitcast(address, ir.IntType(64).as_pointer())
        return builder.load(wide, align=1)

    return types.uint64(data, at), load


_word = cast("Callable[[Bytes, Any], np.uint64]", intrinsic(_load_word))


@inlined
def _rest(data: Bytes, at: np.uint64, end: np.uint64, words: np.uint64) -> np.uint64:
    """Return the bytes behind the last whole word as a number."""
    count = end - at
    if count == 0:
        return np.uint64(0)
    if words > 0:
        return _word(data, end - np.uint64(8)) >> (np.uint64(64) - np.uint64(8) * count)
    word = np.uint64(0)
    for byte in range(count):
        word |= np.uint64(data[at + np.uint64(byte)]) << np.uint64(8 * byte)
    return word


@inlined
def _hash(data: Bytes, start: np.int64, end: np.int64, seed: Seed) -> np.uint64:
    """SipHash-1-3 of data[start:end], Aumasson and Bernstein 2012."""
    a = seed[0] ^ np.uint64(0x736F6D6570736575)
    b = seed[1] ^ np.uint64(0x646F72616E646F6D)
    c = seed[0] ^ np.uint64(0x6C7967656E657261)
    d = seed[1] ^ np.uint64(0x7465646279746573)
    at = np.uint64(start)
    words = np.uint64(end - start) >> np.uint64(3)
    for _ in range(words):
        word = _word(data, at)
        d ^= word
        a, b, c, d = _round(a, b, c, d)
        a ^= word
        at += np.uint64(8)
    word = np.uint64(end - start) << np.uint64(56) | _rest(data, at, np.uint64(end), words)
    d ^= word
    a, b, c, d = _round(a, b, c, d)
    a ^= word
    c ^= np.uint64(0xFF)
    for _ in range(3):
        a, b, c, d = _round(a, b, c, d)
    return a ^ b ^ c ^ d


@compiled
def hash_all(data: Bytes, offsets: IntArray, seed: Seed, hashes: Words) -> None:
    """Hash stretches of bytes."""
    for key in range(len(hashes)):
        hashes[key] = _hash(data, offsets[key], offsets[key + 1], seed)


@inlined
def _differ(data: Bytes, start: np.int64, heap: Bytes, other: np.int64, length: np.int64) -> bool:
    """Whether two stretches of bytes differ."""
    differ = np.uint64(0)
    if length < 8:
        for byte in range(length):
            differ |= np.uint64(data[np.uint64(start + byte)] ^ heap[np.uint64(other + byte)])
    else:
        for word in range((length - 1) >> 3):
            differ |= _word(data, start + 8 * word) ^ _word(heap, other + 8 * word)
        differ |= _word(data, start + length - 8) ^ _word(heap, other + length - 8)
    return bool(differ != 0)


@compiled
def _probe(
    key: tuple[Bytes, np.int64, np.int64],
    hashed: np.uint64,
    table: Words,
    places: IntArray,
    heap: Bytes,
) -> tuple[np.int64, np.uint64]:
    """Return the slot of a key, or -1, and the position in the table where the search ended."""
    data, start, length = key
    mask = np.uint64(len(table) - 1)
    tag = hashed >> np.uint64(32)
    at = hashed & mask
    while True:
        entry = table[at]
        if entry == 0:
            return _NOBODY, at
        if entry >> np.uint64(32) == tag:
            slot = np.int64(entry & np.uint64(0xFFFFFFFF)) - 1
            other = places[slot, 0]
            if places[slot, 1] == length and not _differ(data, start, heap, other, length):
                return slot, at
        at = (at + np.uint64(1)) & mask


@compiled
def find(keys: Column, seed: Seed, parts: Parts, hashes: Words, slots: IntArray) -> None:
    """Look up all keys in passes whose reads do not wait for one another."""
    data, offsets = keys
    table, _, places, heap = parts
    count = len(hashes)
    for key in range(count):
        hashes[key] = _hash(data, offsets[key], offsets[key + 1], seed)
    mask = np.uint64(len(table) - 1)
    for key in range(count):  # likely slots, without a look at the keys
        at = hashes[key] & mask
        tag = hashes[key] >> np.uint64(32)
        entry = table[at]
        while entry != 0 and entry >> np.uint64(32) != tag:
            at = (at + np.uint64(1)) & mask
            entry = table[at]
        slots[key] = np.int64(entry & np.uint64(0xFFFFFFFF)) - 1
    likely = np.empty((count, 2), np.int64)
    for key in range(count):
        likely[key, 0], likely[key, 1] = places[slots[key], 0], places[slots[key], 1]
    for key in range(count):
        if slots[key] < 0:
            continue
        start, length = offsets[key], offsets[key + 1] - offsets[key]
        if likely[key, 1] != length or _differ(data, start, heap, likely[key, 0], length):
            slots[key], _ = _probe((data, start, length), hashes[key], table, places, heap)


@compiled
def insert(
    keys: Column, parts: Parts, hashes: Words, slots: IntArray, ends: tuple[int, int, int]
) -> tuple[int, int]:
    """Give new keys their slots; return the ends of slots and heap."""
    data, offsets = keys
    table, all_hashes, places, heap = parts
    end, end_max, heap_end = ends
    for key in range(len(hashes)):
        if slots[key] >= 0:
            continue
        start, length = offsets[key], offsets[key + 1] - offsets[key]
        slot, at = _probe((data, start, length), hashes[key], table, places, heap)
        if slot < 0 and end < end_max:
            slot = np.int64(end)
            table[at] = (hashes[key] >> np.uint64(32) << np.uint64(32)) | np.uint64(slot + 1)
            all_hashes[slot] = hashes[key]
            places[slot, 0], places[slot, 1] = heap_end, length
            for byte in range(length):
                heap[heap_end + byte] = data[start + byte]
            heap_end += length
            end += 1
        slots[key] = slot
    return end, heap_end


@compiled
def _entry_of(slot: np.int64, table: Words, hashes: Words) -> np.uint64:
    """Return the position in the table of a live slot."""
    mask = np.uint64(len(table) - 1)
    at = hashes[slot] & mask
    while np.int64(table[at] & np.uint64(0xFFFFFFFF)) != slot + 1:
        at = (at + np.uint64(1)) & mask
    return np.uint64(at)


@compiled
def delete(slots: IntArray, parts: Parts) -> None:
    """Empty entries, and move those behind them back to where a search finds them."""
    table, hashes, places, _ = parts
    mask = np.uint64(len(table) - 1)
    one = np.uint64(1)
    for slot in slots:
        hole = _entry_of(slot, table, hashes)
        at = (hole + one) & mask
        while table[at] != 0:
            home = hashes[np.int64(table[at] & np.uint64(0xFFFFFFFF)) - 1] & mask
            if (at - home) & mask >= (at - hole) & mask:
                table[hole] = table[at]
                hole = at
            at = (at + one) & mask
        table[hole] = 0
        places[slot, 1] = DEAD


@compiled
def renumber(sources: IntArray, targets: IntArray, parts: Parts) -> None:
    """Move keys, one after another, from live slots to free ones."""
    table, hashes, places, _ = parts
    for source, target in zip(sources, targets):  # noqa: B905  numba knows no strict
        if source == target:
            continue
        at = _entry_of(source, table, hashes)
        table[at] = (table[at] >> np.uint64(32) << np.uint64(32)) | np.uint64(target + 1)
        hashes[target] = hashes[source]
        places[target, 0], places[target, 1] = places[source, 0], places[source, 1]
        places[source, 1] = DEAD


@compiled
def rebuild(slots: IntArray, table: Words, hashes: Words) -> None:
    """Fill an empty table with live slots."""
    mask = np.uint64(len(table) - 1)
    for slot in slots:
        at = hashes[slot] & mask
        while table[at] != 0:
            at = (at + np.uint64(1)) & mask
        table[at] = (hashes[slot] >> np.uint64(32) << np.uint64(32)) | np.uint64(slot + 1)


@compiled
def collect(slots: IntArray, places: IntArray, heap: Bytes, offsets: IntArray, data: Bytes) -> None:
    """Copy keys out of the heap."""
    for row in range(len(slots)):
        start, length = places[slots[row], 0], places[slots[row], 1]
        for byte in range(length):
            data[offsets[row] + byte] = heap[start + byte]
