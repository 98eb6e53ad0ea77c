"""`forecast state`: what lies in files of states, and forgetting it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from steppers import MeanStepper
from typer.testing import CliRunner, Result

from forecast_cli.main import app
from forecastd.daemon.restart import FolderLock, restore
from forecastd.errors import ArtifactError, UserError
from forecastd.runtime import checkpoint
from forecastd.runtime.arena import row_layout
from forecastd.runtime.checkpoint import Checkpoint, layout_of, layout_text
from forecastd.runtime.evicted import EvictedIndex
from forecastd.runtime.kept_states import forget, lock_of, open_kept
from forecastd.runtime.state_file import SavedStates, load_states, save_states
from forecastd.series import Keys, ObservationBatch

HOUR_US = 3_600_000_000
START_US = int(np.datetime64("2013-01-01", "us").astype(np.int64))
KEYS = ["a", "b", "é"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def told(*arguments: object) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.exception or result.output
    return json.loads(result.stdout)


def stepped(hours: int = 3) -> MeanStepper:
    """A stepper after some observations of three series."""
    stepper = MeanStepper()
    for hour in range(hours):
        keys, values = Keys.of(KEYS), np.arange(6, dtype=np.float32).reshape(3, 2) + 1
        times = np.full(3, START_US + hour * HOUR_US)
        static: dict[str, list[str | None]] = {"region": [None] * 3}
        stepper.step(ObservationBatch(keys, times, values, static))
    return stepper


def daemon_folder(folder: Path, **changes: Any) -> Path:
    """A daemon's state_dir with a checkpoint in it."""
    content: dict[str, Any] = {
        "digest": "mean", "snapshot": stepped().arena.snapshot(),
        "positions": {"sources": {"in": {"offset": 7}}, "sinks": {}, "emit": {}},
    }  # fmt: skip
    folder.mkdir()
    (folder / "lock").touch()
    checkpoint.save(folder / "checkpoint", Checkpoint(**(content | changes)))
    return folder


def states_file(path: Path) -> Path:
    arrays = {"layers.a.cell": np.arange(6.0).reshape(3, 2)}
    steps, times = np.array([3, 4, 5]), np.array([10, 20, 30])
    save_states(path, SavedStates("d" * 64, Keys.of(KEYS), times, steps, arrays))
    return path


def test_a_checkpoint_is_shown_without_its_model(tmp_path: Path) -> None:
    folder = daemon_folder(tmp_path / "state")
    facts = told("state", "show", folder)
    assert facts["digest"] == "mean"
    assert [row["key"] for row in facts["series"]] == KEYS
    assert facts["series"][0] == {"key": "a", "steps": 3, "last_time": START_US + 2 * HOUR_US}
    assert facts["arrays"] == {"encoder.sum": [], "network.count": []}
    one = told("state", "show", folder, "--series", "b")
    assert one["arrays"] == {"encoder.sum": 9.0, "network.count": 3.0}
    table = call("state", "show", folder).stdout
    assert "2013-01-01 02:00:00" in table
    assert "encoder.sum" in call("state", "show", folder, "--series", "b").stdout


@pytest.mark.shows("S97")
def test_a_file_of_states_is_shown(tmp_path: Path) -> None:
    path = states_file(tmp_path / "s.safetensors")
    assert told("state", "show", path)["arrays"] == {"layers.a.cell": [2]}
    one = told("state", "show", path, "--series", "é")
    assert one == {"key": "é", "steps": 5, "last_time": 30, "arrays": {"layers.a.cell": [4.0, 5.0]}}


@pytest.mark.trap(20)
@pytest.mark.shows("S39")
def test_a_series_that_is_reset_is_new_and_the_others_go_on(tmp_path: Path) -> None:
    folder = daemon_folder(tmp_path / "state")
    assert told("state", "reset", folder, "--series", "a")["forgotten"] == 1
    stepper = MeanStepper()
    positions = restore(stepper, folder / "checkpoint")
    assert positions["sources"] == {"in": {"offset": 7}}
    assert stepper.arena.keys.tolist() == ["b", "é"]
    slot = stepper.arena.find("é")
    assert slot is not None
    assert stepper.arena.rows["encoder.sum"][slot] == 15
    assert told("state", "reset", folder)["forgotten"] == 2
    assert told("state", "show", folder)["series"] == []


def test_series_leave_a_file_of_states(tmp_path: Path) -> None:
    path = states_file(tmp_path / "s.safetensors")
    assert told("state", "reset", path, "--series", "a", "--series", "b")["forgotten"] == 2
    left = load_states(path)
    assert left.keys.tolist() == ["é"]
    assert left.arrays["layers.a.cell"].tolist() == [[4, 5]]


def test_what_a_running_daemon_uses_is_refused(tmp_path: Path) -> None:
    folder = daemon_folder(tmp_path / "state")
    before = (folder / "checkpoint").read_bytes()
    lock = FolderLock(folder / "lock", "state_dir")
    try:
        for place in (folder, folder / "checkpoint"):
            for words in (("show",), ("reset",)):
                refused = call("state", *words, place)
                assert isinstance(refused.exception, UserError)
                assert "used by another process" in str(refused.exception)
    finally:
        lock.close()
    assert (folder / "checkpoint").read_bytes() == before
    assert told("state", "show", folder)["digest"] == "mean"


def test_the_file_of_a_running_stream_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "states"
    checkpoint.save(path, Checkpoint("mean", stepped().arena.snapshot(), {}))
    assert lock_of(path) == tmp_path / ".states.lock"
    lock = FolderLock(tmp_path / ".states.lock", "the states in")
    refused = call("state", "reset", path)
    lock.close()
    assert "used by another process" in str(refused.exception)
    assert told("state", "reset", path)["forgotten"] == 3


def test_unknown_series_and_places_are_told(tmp_path: Path) -> None:
    folder = daemon_folder(tmp_path / "state")
    before = (folder / "checkpoint").read_bytes()
    for arguments, said in (
        (("show", folder, "--series", "z"), "series 'z'"),
        (("reset", folder, "--series", "z"), "series 'z'"),
        (("show", tmp_path), "no states in"),
    ):
        refused = call("state", *arguments)
        assert isinstance(refused.exception, UserError)
        assert said in str(refused.exception)
    assert (folder / "checkpoint").read_bytes() == before
    (folder / "checkpoint").write_bytes(before[:-1])
    assert isinstance(call("state", "show", folder).exception, ArtifactError)


def test_evicted_series_are_listed_and_forgotten(tmp_path: Path) -> None:
    index = EvictedIndex(1, 5, Keys.of(["x", "y"]), np.array([1, 4]))
    folder = daemon_folder(tmp_path / "state", evicted=index)
    assert told("state", "show", folder)["evicted"] == ["x", "y"]
    asked = call("state", "show", folder, "--series", "x")
    assert "evicted" in str(asked.exception)
    told("state", "reset", folder, "--series", "x")
    left = checkpoint.load_as_written(folder / "checkpoint")
    assert left is not None
    assert left.evicted is not None
    assert left.evicted.keys.tolist() == ["y"]
    assert left.evicted.places.tolist() == [4]
    assert left.snapshot.keys.tolist() == KEYS


@given(st.lists(st.booleans(), min_size=3, max_size=3), st.sets(st.sampled_from(KEYS), min_size=1))
def test_marks_of_waiting_forecasts_stay_with_their_series(
    tmp_path_factory: pytest.TempPathFactory, waits: list[bool], gone: set[str]
) -> None:
    folder = daemon_folder(
        tmp_path_factory.mktemp("w") / "state",
        positions={"emit": {"changed": base64.b64encode(np.packbits(waits).tobytes()).decode()}},
    )
    forget(open_kept(folder), gone)
    left = checkpoint.load_as_written(folder / "checkpoint")
    assert left is not None
    emit = left.positions["emit"]
    raw = np.frombuffer(base64.b64decode(emit.get("changed", "")), np.uint8)
    marks = np.unpackbits(raw)
    waiting = {key for key, mark in zip(left.snapshot.keys, marks, strict=False) if mark}
    assert waiting == {k for k, wait in zip(KEYS, waits, strict=True) if wait} - gone
    assert bool(emit) == bool(waiting)


kinds = st.sampled_from([np.float64, np.float32, np.int64, np.uint8]).map(np.dtype)
fields = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4),
    st.tuples(kinds, st.lists(st.integers(1, 3), max_size=2).map(tuple)),
    max_size=4,
)


@given(fields)
def test_a_layout_comes_back_from_its_text(chosen: Any) -> None:
    layout = row_layout(chosen)
    assert layout_of(layout_text(layout)) == layout


@pytest.mark.parametrize("text", ['[["x", "O"]]', '[["x", "object"]]', "[[1]]", "{}", "[]"])
def test_a_layout_that_is_none_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        layout_of(text)
