from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forecastd.runtime.key_table import KeyTable, checksums
from forecastd.series import Keys

MASK = (1 << 64) - 1
# Few letters and short texts repeat often; long ones cross the words of eight bytes.
texts = st.text("ab", max_size=3) | st.text("abé", min_size=6, max_size=20)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.lists(texts, max_size=12), st.integers(0, 40)),
        st.tuples(st.just("delete"), st.integers(0, 99), st.integers(0, 99)),
        st.tuples(st.just("move"), st.integers(0, 99), st.integers(0, 99)),
    ),
    max_size=15,
)


def siphash(data: bytes, key: tuple[int, int] = (0, 0)) -> int:
    """SipHash-1-3 as its paper writes it."""
    v = [
        key[0] ^ 0x736F6D6570736575,
        key[1] ^ 0x646F72616E646F6D,
        key[0] ^ 0x6C7967656E657261,
        key[1] ^ 0x7465646279746573,
    ]

    def turn(x: int, bits: int) -> int:
        return ((x << bits) | (x >> (64 - bits))) & MASK

    def rounds(count: int) -> None:
        for _ in range(count):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = turn(v[1], 13) ^ v[0]
            v[0] = turn(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = turn(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = turn(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = turn(v[1], 17) ^ v[2]
            v[2] = turn(v[2], 32)

    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) % 256])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        v[3] ^= word
        rounds(1)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(3)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


@given(st.binary(max_size=40), st.integers(1, 3))
def test_the_hash_is_siphash(row: bytes, count: int) -> None:
    rows = np.frombuffer(row * count, np.uint8).reshape(count, len(row)).copy()
    assert checksums(rows).tolist() == [siphash(row)] * count


@given(operations)
def test_a_table_is_a_dictionary(steps: list) -> None:
    table, slots_of = KeyTable(), {}
    for name, first, second in steps:
        if name == "claim":
            end = table.end
            expected = []
            for key in first:
                if key not in slots_of and end < second:
                    slots_of[key] = end
                    end += 1
                expected.append(slots_of.get(key, -1))
            assert table.claim(Keys.of(first), second).tolist() == expected
        elif name == "delete" and slots_of:
            gone = sorted(slots_of)[first % len(slots_of) :: second + 1]
            table.delete(np.array([slots_of.pop(key) for key in gone], np.int64))
        elif name == "move" and slots_of and table.end - 1 in slots_of.values():
            free = sorted(set(range(table.end)) - set(slots_of.values()))[:1]
            if free:
                last = next(key for key, slot in slots_of.items() if slot == table.end - 1)
                slots_of[last] = free[0]
                table.move_last(np.array(free, np.int64))
        assert len(table) == len(slots_of)
        assert table.live_slots().tolist() == sorted(slots_of.values())
        by_slot = sorted(slots_of, key=slots_of.__getitem__)
        assert table.keys_at(table.live_slots()) == by_slot
        assert table.find(Keys.of(by_slot)).tolist() == sorted(slots_of.values())
    assert table.find(Keys.of(["never", "b" * 99])).tolist() == [-1, -1]


@given(st.lists(texts, unique=True, max_size=9), st.data())
def test_a_table_is_filled_at_given_slots(keys: list[str], data) -> None:
    slots = sorted(data.draw(st.permutations(range(14)))[: len(keys)])
    table = KeyTable()
    table.claim(Keys.of("xyz"), 9)
    table.fill(Keys.of(keys), np.array(slots, np.int64), 14)
    assert table.find(Keys.of(keys)).tolist() == slots
    assert (len(table), table.end, table.live_slots().tolist()) == (len(keys), 14, slots)
    assert table.claim(Keys.of(["new"]), 15).tolist() == [14]


def test_many_keys_come_and_go() -> None:
    """Past every growth: of slots, table and heap, and the heap's own clearing."""
    table = KeyTable()
    for turn in range(20):
        keys = Keys.of(f"{turn}-{number}-" + "x" * (number % 30) for number in range(3000))
        assert (table.claim(keys, 10**6) >= 0).all()
        assert table.find(keys).tolist() == table.claim(keys, 0).tolist()
        if turn >= 2:
            table.delete(table.live_slots()[:3000])
    assert len(table) == 6000
    last = table.keys_at(table.live_slots())
    assert [key.split("-")[0] for key in last[::3000]] == ["18", "19"]


def test_a_slice_of_keys_is_found() -> None:
    table = KeyTable()
    keys = Keys.of(["a", "bb", "ccc", "dddddddddd"])
    assert table.claim(keys[1:3], 9).tolist() == [0, 1]
    assert table.claim(keys[2:], 9).tolist() == [1, 2]
    assert table.claim(keys[:0], 9).tolist() == []


def test_tables_hash_with_secrets_of_their_own() -> None:
    one, other = KeyTable(), KeyTable()
    keys = Keys.of("abc")
    one.claim(keys, 3)
    other.claim(keys, 3)
    assert one._hashes[:3].tolist() != other._hashes[:3].tolist()
