"""Resident rows: whoever reads the arena sees what was written last, here or on the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forecastd.runtime import device_rows
from forecastd.runtime.arena import Arena, blank_row, row_layout
from forecastd.runtime.device_rows import ResidentRows, Rows, RowsInPlace, fields_of
from forecastd.runtime.evicted import Evicted
from forecastd.series import Keys

LAYOUT = row_layout(
    {
        "seen": (np.dtype(np.float64), ()),
        "ring": (np.dtype(np.float32), (0,)),
        "hidden": (np.dtype(np.float32), (1, 3)),
        "codes": (np.dtype(np.int64), (2,)),
    }
)
ROWS_MAX = 5
KEYS = "abcdefgh"


@pytest.fixture(scope="module", autouse=True)
def _few_rows_at_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_rows, "FIRST_ROWS", 2)
        patch.setattr(device_rows, "CHUNK_ROWS", 2)
        yield


def arena_of(series_max: int = ROWS_MAX) -> Arena:
    initial = blank_row(LAYOUT)
    initial["hidden"] = 7.0
    return Arena(LAYOUT, series_max, initial)


def rows_of(arena: Arena, *, resident: bool) -> Rows:
    return ResidentRows(arena, torch.device("cpu")) if resident else RowsInPlace(arena)


def advance(arena: Arena, rows: Rows, slots: np.ndarray, number: float) -> None:
    """Change rows as a stepper does: states where they live, bookkeeping in the arena."""
    rows.settle()
    fields = fields_of(rows.words, LAYOUT)
    fields["seen"][slots] = fields["seen"][slots] * 2 + number
    fields["hidden"][slots] += torch.tensor([[number, -number, fields["hidden"].shape[1]]])
    rows.stepped(slots)
    arena.rows["steps"][slots] += 1


def begin(arena: Arena, keys: list[str], number: int) -> np.ndarray:
    """Claim rows; as a stepper does, write what a new series brings into the arena's."""
    slots, new = arena.claim(Keys.of(keys))
    arena.rows["codes"][slots[new]] = number
    return np.unique(slots[slots >= 0])


some_keys = st.lists(st.sampled_from(KEYS), max_size=4)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("step"), some_keys, st.integers(1, 9)),
        st.tuples(st.just("claim"), some_keys, st.integers(1, 9)),
        st.tuples(st.just("reset"), st.lists(st.sampled_from(KEYS), max_size=1), st.booleans()),
        st.tuples(st.just("look"), some_keys, st.just(0)),
        st.tuples(st.just("again"), some_keys, st.just(0)),
    ),
    max_size=15,
)


def done(steps: list, folder: Path | None, *, resident: bool) -> list[bytes]:
    """Do operations; return the rows as they were seen now and then, and at the end."""
    arena = arena_of()
    if folder is not None:
        arena.evicted = Evicted(folder, LAYOUT.itemsize)
    rows = rows_of(arena, resident=resident)
    seen = []
    for name, keys, number in steps:
        if name == "reset":
            found = [slot for key in keys if (slot := arena.find(key)) is not None]
            arena.reset(np.array(found, np.int64), keep=("codes", "seen") if number else ())
        elif name == "look":
            seen.append(arena.view().rows.tobytes())
        elif name == "again":
            arena.restore(arena.snapshot())
        else:
            slots = begin(arena, keys, number)
            if name == "step":
                advance(arena, rows, slots, number)
    if arena.evicted is not None:
        arena.evicted.close()
    return [*seen, arena.view().rows.tobytes(), arena.keys.data.tobytes()]


@given(operations)
def test_resident_rows_look_like_those_in_place(steps: list) -> None:
    assert done(steps, None, resident=True) == done(steps, None, resident=False)


@given(operations)
def test_evicted_rows_take_what_happened_on_the_device_with_them(
    tmp_path_factory: pytest.TempPathFactory, steps: list
) -> None:
    folders = [tmp_path_factory.mktemp("evicted") for _ in range(2)]
    found = [done(steps, folders[resident], resident=resident) for resident in (False, True)]
    assert found[0] == found[1]


def test_only_what_changed_crosses() -> None:
    arena = arena_of()
    rows = ResidentRows(arena, torch.device("cpu"))
    slots = begin(arena, list("abcd"), 3)
    advance(arena, rows, slots, 1)
    arena.view()
    advance(arena, rows, slots[:2], 1)
    rows.words[:4] = 0  # what was fetched before is not fetched again
    hidden = arena.view().rows["hidden"].reshape(4, 3)
    assert hidden[:2].tolist() == [[0] * 3] * 2
    assert (hidden[2:] != 0).all()
    assert arena.dirty[:5].tolist() == [1, 1, 1, 1, 0]


def test_room_grows_by_doubling_and_keeps_what_is_there() -> None:
    arena = arena_of()
    rows = ResidentRows(arena, torch.device("cpu"))
    assert (rows.scratch, rows.moves) == (2, 0)
    advance(arena, rows, begin(arena, list("ab"), 1), 1)
    before = rows.words[:2].clone()
    begin(arena, list("cd"), 2)
    rows.settle()
    assert (rows.scratch, rows.moves, len(rows.words)) == (4, 1, 5)
    torch.testing.assert_close(rows.words[:2], before, rtol=0, atol=0)
    begin(arena, ["e"], 2)
    rows.settle()
    assert (rows.scratch, rows.moves) == (ROWS_MAX, 2)
    fields = fields_of(rows.words, LAYOUT)
    assert fields["hidden"][rows.scratch].tolist() == [[7.0] * 3]
    assert fields["codes"][:5].tolist() == [[1, 1]] * 2 + [[2, 2]] * 3


def test_fields_are_views_of_their_own_types_and_shapes() -> None:
    arena = arena_of()
    fields = fields_of(RowsInPlace(arena).words, LAYOUT)
    shapes = {name: (values.dtype, tuple(values.shape)) for name, values in fields.items()}
    assert shapes == {
        "seen": (torch.float64, (6,)),
        "ring": (torch.float32, (6, 0)),
        "hidden": (torch.float32, (6, 1, 3)),
        "codes": (torch.int64, (6, 2)),
    }
    fields["hidden"][3] = 9
    assert arena.rows["hidden"][3].tolist() == [[9.0] * 3]
    assert arena.rows["steps"][3] == 0
