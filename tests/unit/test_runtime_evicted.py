from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastd.errors import ArtifactError, PeerError
from forecastd.runtime import checkpoint, evicted
from forecastd.runtime.arena import Arena, blank_row, row_layout
from forecastd.runtime.checkpoint import Checkpoint
from forecastd.runtime.evicted import Evicted
from forecastd.runtime.idleness import Idleness
from forecastd.series import Keys

LAYOUT = row_layout({"sum": (np.dtype(np.float64), ()), "hidden": (np.dtype(np.float32), (3,))})
ROWS_MAX = 5


def arena_in(folder: Path, series_max: int = ROWS_MAX) -> Arena:
    arena = Arena(LAYOUT, series_max, blank_row(LAYOUT))
    arena.evicted = Evicted(folder, LAYOUT.itemsize)
    return arena


def feed(arena: Arena, keys: list[str]) -> list[tuple[str, float, int]]:
    """Add 1, 2, 4, … to the sums of a batch of different series; return key, sum and steps."""
    slots, _ = arena.claim(Keys.of(keys))
    assert len(set(slots.tolist())) == len(keys)
    assert (slots >= 0).all()
    arena.rows["sum"][slots] = arena.rows["sum"][slots] * 2 + np.arange(len(keys)) + 1
    arena.rows["steps"][slots] += 1
    arena.mark(slots)
    rows = arena.rows[slots]
    return list(zip(keys, rows["sum"].tolist(), rows["steps"].tolist(), strict=True))


def rows_of(count: int, seed: int = 0) -> np.ndarray:
    raw = np.random.default_rng(seed).integers(0, 256, (count, LAYOUT.itemsize), np.uint8)
    return raw.view(f"V{LAYOUT.itemsize}").reshape(-1)


letters = st.lists(st.sampled_from("abcdefghijkl"), max_size=ROWS_MAX, unique=True)


@given(st.lists(letters, max_size=25))
def test_a_small_arena_remembers_as_much_as_a_large_one(tmp_path_factory, batches: list) -> None:
    small = arena_in(tmp_path_factory.mktemp("evicted"))
    large = Arena(LAYOUT, 99, blank_row(LAYOUT))
    for batch in batches:
        assert feed(small, batch) == feed(large, batch)
        assert len(small) <= ROWS_MAX
        assert len(small) + len(small.evicted) == len(large)
        assert [small.find(key) for key in small.keys] == list(range(len(small)))
    small.evicted.close()


def test_the_longest_idle_goes(tmp_path: Path) -> None:
    arena = arena_in(tmp_path)
    for batch in ("abcde", "a", "cb"):
        feed(arena, list(batch))
    _, new = arena.claim(Keys.of("xa"))
    assert new.tolist() == [0]
    assert sorted(arena.keys) in (["a", "b", "c", "d", "x"], ["a", "b", "c", "e", "x"])
    feed(arena, ["y"])
    assert sorted(arena.keys) == ["a", "b", "c", "x", "y"]
    _, new = arena.claim(Keys.of("de"))
    assert new.tolist() == []


def test_a_batch_of_more_series_than_rows_refuses_the_rest(tmp_path: Path) -> None:
    arena = arena_in(tmp_path, 2)
    feed(arena, ["a", "b"])
    slots, new = arena.claim(Keys.of("axyzxa"))
    assert slots.tolist() == [0, 1, -1, -1, 1, 0]
    assert new.tolist() == [1]
    assert (arena.find("b"), len(arena.evicted)) == (None, 1)


@given(st.lists(st.lists(st.integers(0, 39), max_size=8), max_size=30), st.integers(1, 12))
def test_idleness_is_the_order_of_use(batches: list[list[int]], count: int) -> None:
    idleness, used = Idleness(40), dict.fromkeys(range(40), 0)
    for tick, batch in enumerate(batches, 1):
        idleness.use(np.array(batch, np.int64))
        used.update(dict.fromkeys(batch, tick))
        found = idleness.longest(count, 40).tolist()
        others = [when for slot, when in used.items() if slot not in batch]
        assert sorted(used[slot] for slot in found) == sorted(others)[:count]
        assert len(set(found)) == len(found)
        idleness.use(np.array(found, np.int64))
        used.update(dict.fromkeys(found, tick))


def test_rows_come_back_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evicted, "CHUNK_ROWS", 7)
    store = Evicted(tmp_path, LAYOUT.itemsize)
    keys, rows = Keys.of(f"key-{number}" for number in range(50)), rows_of(50)
    store.put(keys[:20], rows[:20])
    store.put(keys[20:], rows[20:])
    chunks = list(store.chunks())
    assert [key for part, _ in chunks for key in part] == keys
    assert np.concatenate([part for _, part in chunks]).tobytes() == rows.tobytes()
    order = np.random.default_rng(1).permutation(50)
    found, back = store.take(keys.take(order))
    assert found.tolist() == list(range(50))
    assert back.tobytes() == rows[order].tobytes()
    assert len(store) == 0
    assert store.take(keys)[0].tolist() == []


def test_what_came_after_a_checkpoint_is_cut_off(tmp_path: Path) -> None:
    store = Evicted(tmp_path, LAYOUT.itemsize)
    store.put(Keys.of("abc"), rows_of(3))
    index = store.settle()
    length = (tmp_path / "evicted.1").stat().st_size
    store.take(Keys.of("b"))
    store.put(Keys.of("xb"), rows_of(2, seed=9))
    again = Evicted(tmp_path, LAYOUT.itemsize, index)
    assert (tmp_path / "evicted.1").stat().st_size == length
    found, rows = again.take(Keys.of("xbca"))
    assert found.tolist() == [1, 2, 3]
    assert rows.tobytes() == rows_of(3)[[1, 2, 0]].tobytes()


def test_a_file_of_dead_rows_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evicted, "_DEAD_BYTES_MIN", 0)
    store = Evicted(tmp_path, LAYOUT.itemsize)
    keys, rows = Keys.of("abcdef"), rows_of(6)
    store.put(keys, rows)
    first = store.settle()
    store.take(keys[:4])
    second = store.settle()
    assert (first.number, second.number, second.end) == (1, 2, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"evicted.1", "evicted.2"}
    assert Evicted(tmp_path, LAYOUT.itemsize, first).take(keys)[1].tobytes() == rows.tobytes()
    store.settled()
    assert {path.name for path in tmp_path.iterdir()} == {"evicted.2"}
    store.put(keys[:1], rows[:1])
    found, back = store.take(keys)
    assert found.tolist() == [0, 4, 5]
    assert back.tobytes() == rows[[0, 4, 5]].tobytes()


@pytest.mark.parametrize("case", ["row", "short", "head", "other size", "gone"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, case: str) -> None:
    store = Evicted(tmp_path, LAYOUT.itemsize)
    store.put(Keys.of("ab"), rows_of(2))
    index, path = store.settle(), tmp_path / "evicted.1"
    content = bytearray(path.read_bytes())
    if case == "gone":
        path.unlink()
    elif case == "short":
        path.write_bytes(content[:-1])
    elif case != "other size":
        content[20 if case == "row" else 0] ^= 1
        path.write_bytes(content)
    size = LAYOUT.itemsize + (8 if case == "other size" else 0)
    with pytest.raises(ArtifactError, match="evicted series") as error:
        Evicted(tmp_path, size, index).take(Keys.of("a"))
    assert error.value.hint


def test_rows_of_two_series_that_change_places_are_noticed(tmp_path: Path) -> None:
    store = Evicted(tmp_path, LAYOUT.itemsize)
    store.put(Keys.of("ab"), rows_of(2))
    index = store.settle()
    with pytest.raises(ArtifactError, match="damaged"):
        Evicted(tmp_path, LAYOUT.itemsize, index._replace(keys=Keys.of("ba"))).take(Keys.of("a"))


def test_a_disk_that_fails_is_a_peers_error(tmp_path: Path) -> None:
    store = Evicted(tmp_path, LAYOUT.itemsize)
    readonly = os.open(tmp_path / "evicted.1", os.O_RDONLY)
    os.dup2(readonly, store._descriptor)
    with pytest.raises(PeerError, match=r"evicted\.1") as error:
        store.put(Keys.of("a"), rows_of(1))
    assert error.value.hint
    os.close(readonly)
    store.close()


def test_a_checkpoint_keeps_the_index(tmp_path: Path) -> None:
    arena = arena_in(tmp_path)
    for batch in ("abcde", "fé", "a", "gh"):
        feed(arena, list(batch))
    index = arena.evicted.settle()
    checkpoint.save(tmp_path / "state", Checkpoint("d", arena.view(), {"x": 1}, index))
    found = checkpoint.load(tmp_path / "state", LAYOUT)
    assert found.snapshot.keys == arena.keys
    assert found.snapshot.rows.tobytes() == arena.view().rows.tobytes()
    assert (found.evicted.number, found.evicted.end) == (index.number, index.end)
    assert found.evicted.keys == index.keys
    assert found.evicted.places.tolist() == index.places.tolist()
    assert len(index.keys) == 4


CRASHES = ["none", "before settle", "after settle", "after save", "after settled"]


@given(st.lists(st.tuples(letters, st.sampled_from([None, *CRASHES])), max_size=25))
def test_a_crash_at_any_step_of_a_commit_changes_nothing(tmp_path_factory, script: list) -> None:
    """Each batch may be followed by a commit, and that cut short; lost batches come again."""
    folder = tmp_path_factory.mktemp("lives")
    path = folder / "checkpoint"
    small = arena_in(folder)
    checkpoint.save(path, Checkpoint("d", small.view(), {}, small.evicted.settle()))
    large = Arena(LAYOUT, 99, blank_row(LAYOUT))
    expected = [feed(large, batch) for batch, _ in script]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evicted, "_DEAD_BYTES_MIN", 0)
        since: list[int] = []
        for number, (batch, crash) in enumerate(script):
            assert feed(small, batch) == expected[number]
            since.append(number)
            if crash is None:
                continue
            steps = CRASHES.index(crash) or len(CRASHES)
            if steps > 1:
                index = small.evicted.settle()
            if steps > 2:
                checkpoint.save(path, Checkpoint("d", small.view(), {}, index))
                since.clear()
            if steps > 3:
                small.evicted.settled()
            if crash != "none":
                small.evicted.close()
                small = restarted(path)
                for lost in since:
                    assert feed(small, script[lost][0]) == expected[lost]
    small.evicted.close()


def restarted(path: Path) -> Arena:
    found = checkpoint.load(path, LAYOUT)
    arena = Arena(LAYOUT, ROWS_MAX, blank_row(LAYOUT))
    arena.evicted = Evicted(path.parent, LAYOUT.itemsize, found.evicted)
    arena.restore(found.snapshot)
    return arena
