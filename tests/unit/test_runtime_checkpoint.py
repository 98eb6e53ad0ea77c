from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastd.errors import ArtifactError, UserError
from forecastd.runtime import checkpoint
from forecastd.runtime.arena import Arena, blank_row, row_layout
from forecastd.runtime.checkpoint import Checkpoint

LAYOUT = row_layout({"hidden": (np.dtype(np.float32), (2,))})


def _checkpoint(keys: list[str], positions: dict[str, Any] | None = None) -> Checkpoint:
    arena = Arena(LAYOUT, max(len(keys), 1), blank_row(LAYOUT))
    slots, _ = arena.claim(keys)
    arena.rows["hidden"][slots] = np.arange(2 * len(keys)).reshape(-1, 2) + 0.5
    arena.rows["steps"][slots] = slots + 1
    return Checkpoint("d" * 64, arena.snapshot(), positions or {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(
    st.lists(st.text(max_size=12), unique=True, max_size=6),
    st.dictionaries(st.text(max_size=6), json_values, max_size=3),
    st.randoms(use_true_random=False),
)
def test_load_returns_what_save_got(tmp_path: Path, keys, positions, random) -> None:
    made = _checkpoint(keys, positions)
    made.snapshot.rows["hidden"] = random.random()
    path = tmp_path / "state"
    assert checkpoint.save(path, made) == path.stat().st_size
    found = checkpoint.load(path, LAYOUT)
    assert found is not None
    assert (found.digest, found.positions) == (made.digest, positions)
    assert found.snapshot.keys == keys
    assert found.snapshot.rows.tobytes() == made.snapshot.rows.tobytes()
    assert found.snapshot.rows.flags.writeable


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "none", LAYOUT) is None


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    checkpoint.save(path, _checkpoint(["a", "b"], {"file": 12}))
    return path


def test_every_flipped_bit_is_noticed(small: Path) -> None:
    """Each byte in turn, one bit and all bits of it: never another state, never another error."""
    good = small.read_bytes()
    for index in range(len(good)):
        for flip in (0x01, 0xFF):
            bad = bytearray(good)
            bad[index] ^= flip
            small.write_bytes(bad)
            with pytest.raises(ArtifactError, match=r"damaged|newer|older"):
                checkpoint.load(small, LAYOUT)


def test_every_truncation_is_noticed(small: Path) -> None:
    good = small.read_bytes()
    for length in range(len(good)):
        small.write_bytes(good[:length])
        with pytest.raises(ArtifactError, match="damaged"):
            checkpoint.load(small, LAYOUT)


@pytest.mark.parametrize("tail", [b"\0", b"x" * 100])
def test_what_is_appended_is_noticed(small: Path, tail: bytes) -> None:
    small.write_bytes(small.read_bytes() + tail)
    with pytest.raises(ArtifactError, match="damaged"):
        checkpoint.load(small, LAYOUT)


def test_a_newer_format_is_not_called_damaged(small: Path) -> None:
    content = bytearray(small.read_bytes())
    content[7:8] = b"3"
    small.write_bytes(content)
    with pytest.raises(ArtifactError, match="newer") as error:
        checkpoint.load(small, LAYOUT)
    assert error.value.hint


def test_an_older_format_says_how_to_go_on(small: Path) -> None:
    content = bytearray(small.read_bytes())
    content[7:8] = b"1"
    small.write_bytes(content)
    with pytest.raises(ArtifactError, match="older format") as error:
        checkpoint.load(small, LAYOUT)
    assert error.value.hint


@pytest.mark.trap(23)
@pytest.mark.parametrize(
    "other",
    [
        row_layout({"hidden": (np.dtype(np.float32), (3,))}),
        row_layout({"hidden": (np.dtype(np.float64), (2,))}),
        row_layout({"cell": (np.dtype(np.float32), (2,))}),
    ],
    ids=["shape", "type", "name"],
)
def test_another_layout_is_told_as_such(small: Path, other: np.dtype) -> None:
    with pytest.raises(ArtifactError, match="another shape") as error:
        checkpoint.load(small, other)
    assert error.value.hint


def test_a_sealed_file_with_rows_missing_is_damaged(small: Path) -> None:
    """Whoever made it had the digest right: the count of keys and rows is checked all the same."""
    body = small.read_bytes()[:-32]
    shorter = body[: -LAYOUT.itemsize]
    small.write_bytes(shorter + hashlib.sha256(shorter).digest())
    with pytest.raises(ArtifactError, match="damaged"):
        checkpoint.load(small, LAYOUT)


def test_a_header_that_claims_to_be_huge_is_damaged(small: Path) -> None:
    content = bytearray(small.read_bytes()[:-32])
    content[8:16] = struct.pack("<Q", 1 << 62)
    small.write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(ArtifactError, match="damaged"):
        checkpoint.load(small, LAYOUT)


def test_the_old_checkpoint_stays_when_the_new_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        checkpoint.save(tmp_path / "none" / "state", _checkpoint(["a"]))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_its_place_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot read"):
        checkpoint.load(tmp_path, LAYOUT)


def test_layout_texts_differ_where_layouts_do() -> None:
    layouts = [
        row_layout({"a": (np.dtype(kind), shape)})
        for kind in (np.float32, np.float64, np.int32)
        for shape in ((), (1,), (2,), (1, 2))
    ]
    assert len({checkpoint.layout_text(layout) for layout in layouts}) == len(layouts)
    assert json.loads(checkpoint.layout_text(LAYOUT))
