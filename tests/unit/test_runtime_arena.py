from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastd.errors import BugError
from forecastd.runtime.arena import Arena, blank_row, row_layout
from forecastd.series import NEVER

LAYOUT = row_layout(
    {"encoder.mean": (np.dtype(np.float64), (2,)), "hidden": (np.dtype(np.float32), (1, 3))}
)


def _arena(series_max: int = 4) -> Arena:
    initial = blank_row(LAYOUT)
    initial["encoder.mean"] = 7.0
    return Arena(LAYOUT, series_max, initial)


def _fill(arena: Arena, slots: np.ndarray, value: float) -> None:
    arena.rows["hidden"][slots] = value
    arena.rows["encoder.mean"][slots] = value
    arena.rows["steps"][slots] = int(value)
    arena.rows["last_time"][slots] = int(value)


@pytest.mark.trap(24)
def test_a_new_series_has_the_initial_row() -> None:
    arena = _arena()
    slots, new = arena.claim(["a", "b"])
    assert (slots.tolist(), new.tolist()) == ([0, 1], [0, 1])
    assert arena.rows["encoder.mean"][slots].tolist() == [[7.0, 7.0]] * 2
    assert arena.rows["last_time"][slots].tolist() == [NEVER, NEVER]
    assert arena.rows["steps"][slots].tolist() == [0, 0]


def test_a_known_series_keeps_its_slot() -> None:
    arena = _arena()
    arena.claim(["a", "b"])
    slots, new = arena.claim(["b", "c", "a", "c"])
    assert (slots.tolist(), new.tolist()) == ([1, 2, 0, 2], [1])
    assert arena.keys == ["a", "b", "c"]
    assert len(arena) == 3
    assert "c" in arena
    assert "d" not in arena
    assert (arena.find("b"), arena.find("d")) == (1, None)


def test_a_full_arena_refuses_only_new_series() -> None:
    arena = _arena(2)
    slots, new = arena.claim(["a", "b", "c", "a", "d"])
    assert (slots.tolist(), new.tolist()) == ([0, 1, -1, 0, -1], [0, 1])
    assert arena.keys == ["a", "b"]


def test_the_scratch_row_belongs_to_nobody() -> None:
    arena = _arena(2)
    slots, _ = arena.claim(["a", "b"])
    _fill(arena, slots, 1)
    arena.rows["hidden"][arena.scratch] = 9
    assert arena.scratch not in slots
    assert arena.snapshot().rows["hidden"].max() == 1


@pytest.mark.shows("S39")
@pytest.mark.trap(24)
def test_reset_returns_rows_and_keeps_what_is_named() -> None:
    arena = _arena()
    slots, _ = arena.claim(["a", "b", "c"])
    _fill(arena, slots, 5)
    arena.reset(slots[:2], keep=("encoder.mean", "last_time"))
    assert arena.rows["hidden"][slots].reshape(3, 3).tolist() == [[0] * 3, [0] * 3, [5] * 3]
    assert arena.rows["steps"][slots].tolist() == [0, 0, 5]
    assert arena.rows["encoder.mean"][slots].tolist() == [[5.0, 5.0]] * 3
    assert arena.rows["last_time"][slots].tolist() == [5, 5, 5]
    arena.reset(slots[1:])
    assert arena.rows["encoder.mean"][slots].tolist() == [[5.0, 5.0], [7.0, 7.0], [7.0, 7.0]]
    assert arena.rows["last_time"][slots].tolist() == [5, NEVER, NEVER]


def test_a_snapshot_is_a_copy() -> None:
    arena = _arena()
    slots, _ = arena.claim(["a"])
    snapshot = arena.snapshot()
    _fill(arena, slots, 3)
    arena.claim(["b"])
    assert snapshot.keys == ["a"]
    assert snapshot.rows["encoder.mean"].tolist() == [[7.0, 7.0]]


@pytest.mark.parametrize("case", ["other layout", "too many"])
def test_restore_refuses_what_does_not_fit(case: str) -> None:
    other = row_layout({"hidden": (np.dtype(np.float32), (4,))})
    source = _arena() if case == "too many" else Arena(other, 4, blank_row(other))
    source.claim(["a", "b", "c"])
    target = _arena(2)
    target.claim(["old"])
    with pytest.raises(BugError):
        target.restore(source.snapshot())
    assert target.keys == ["old"]


def test_the_layout_needs_its_bookkeeping() -> None:
    assert {"last_time", "steps"} <= set(LAYOUT.names or ())
    assert LAYOUT.isalignedstruct


keys = st.sampled_from("abcdef")
operations = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.lists(keys, max_size=5)),
        st.tuples(st.just("write"), st.tuples(keys, st.integers(1, 99))),
        st.tuples(st.just("reset"), keys),
    ),
    max_size=20,
)


def _apply(arena: Arena, steps: list) -> list:
    """Do the operations and return all that they told."""
    told = []
    for name, argument in steps:
        if name == "claim":
            slots, new = arena.claim(argument)
            told.append((slots.tolist(), new.tolist()))
        elif name == "write" and (slot := arena.find(argument[0])) is not None:
            _fill(arena, np.array([slot]), argument[1])
        elif name == "reset" and (slot := arena.find(argument)) is not None:
            arena.reset(np.array([slot]), keep=("encoder.mean",))
    return told


@given(operations, operations, operations)
def test_restore_and_go_on_is_go_on(before: list, after: list, dirt: list) -> None:
    """The law of resume: whatever the other arena held, it is the first one from now on."""
    arena, other = _arena(4), _arena(4)
    _apply(arena, before)
    _apply(other, dirt)
    other.restore(arena.snapshot())
    assert _apply(other, after) == _apply(arena, after)
    assert other.keys == arena.keys
    assert other.view().rows.tobytes() == arena.view().rows.tobytes()
    assert other.rows[other.scratch] == arena.rows[arena.scratch]


@given(operations)
def test_slots_and_keys_are_one_to_one(steps: list) -> None:
    arena = _arena(3)
    _apply(arena, steps)
    assert len(arena.keys) <= 3
    assert [arena.find(key) for key in arena.keys] == list(range(len(arena)))
