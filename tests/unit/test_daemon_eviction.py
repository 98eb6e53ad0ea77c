"""[model] series_max, memory_max and when_full: what they promise at a start and at a reload."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from steppers import MeanModels, MeanStepper

from forecastd.daemon import build
from forecastd.daemon.restart import restore
from forecastd.daemon.settings import load_settings
from forecastd.errors import ArtifactError, ConfigError, UserError
from forecastd.runtime import checkpoint
from forecastd.runtime.checkpoint import Checkpoint
from forecastd.runtime.evicted import Evicted
from forecastd.series import Keys, ObservationBatch

CONFIG = """
state_dir = "state"
limits = { batch_rows = 4 }
sources = { in = { type = "stdin" } }
sinks = { out = { type = "stdout" } }
[model]
path = "mean"
"""


def origin_in(folder: Path, model: str) -> build.Origin:
    (folder / "forecastd.toml").write_text(CONFIG + model)
    return build.Origin(folder / "forecastd.toml", [])


def batch(keys: str, hour: int) -> ObservationBatch:
    values = np.full((len(keys), 2), hour, np.float32)
    return ObservationBatch(Keys.of(keys), np.full(len(keys), hour, np.int64), values)


def full(folder: Path, digest: str = "mean") -> MeanStepper:
    """Return a stepper with rows for two of its four series."""
    stepper = MeanStepper(2, digest)
    stepper.arena.evicted = Evicted(folder, stepper.arena.layout.itemsize)
    for hour, keys in enumerate(("ab", "cd", "ab")):
        stepper.step(batch(keys, hour))
    return stepper


def sums(stepper: MeanStepper) -> dict[str, float]:
    """Return what each series has added up, after one more observation of 10."""
    found = {}
    for key in "abcd":
        stepper.step(batch(key, 10))
        found[key] = float(stepper.arena.rows["encoder.sum"][stepper.arena.find(key)])
    return found


def counts(stepper: MeanStepper) -> dict[str, float]:
    found = {}
    for key in "abcd":
        slots, _ = stepper.arena.claim(Keys.of([key]))
        found[key] = float(stepper.arena.rows["network.count"][slots[0]])
    return found


SUMS = {"a": 12.0, "b": 12.0, "c": 11.0, "d": 11.0}


def test_a_memory_limit_lowers_series_max_and_says_so(tmp_path: Path) -> None:
    told: list[str] = []
    model = "series_max = 100_000_000\nmemory_max = 10_000_000"
    stepper = build.check(origin_in(tmp_path, model), MeanModels(), told.append)
    assert stepper.arena.series_max == 10_000_000 // (32 + 96)
    assert told == ["memory_max holds 78,125 series, so series_max is 78,125"]
    stepper.arena.claim(Keys.of("ab"))


def test_a_memory_limit_above_the_need_says_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    model = "series_max = 100\nmemory_max = 10_000_000"
    assert build.check(origin_in(tmp_path, model), MeanModels(), told.append)
    assert told == []


def test_to_evict_a_batch_has_to_fit(tmp_path: Path) -> None:
    origin = origin_in(tmp_path, 'series_max = 3\nwhen_full = "evict"')
    with pytest.raises(ConfigError, match=r"batch_rows must be at most the 3 rows"):
        load_settings(origin.path)
    model = 'memory_max = 1_048_576\nwhen_full = "evict"'
    origin = build.Origin(origin_in(tmp_path, model).path, ["limits.batch_rows=9000"])
    with pytest.raises(UserError, match=r"at most the 8192 rows") as error:
        build.check(origin, MeanModels(), lambda remark: None)
    assert error.value.hint


def test_a_start_finds_evicted_series(tmp_path: Path) -> None:
    stepper, path = full(tmp_path), tmp_path / "checkpoint"
    index = stepper.arena.evicted.settle()
    checkpoint.save(path, Checkpoint("mean", stepper.arena.view(), {"x": 1}, index))
    again = MeanStepper(2)
    assert restore(again, path, evict=True) == {"x": 1}
    assert sums(again) == sums(stepper) == SUMS
    with pytest.raises(ArtifactError, match=r"2 series are evicted.*when_full") as error:
        restore(MeanStepper(9), path)
    assert error.value.hint


def test_a_first_start_can_evict(tmp_path: Path) -> None:
    stepper = MeanStepper(1)
    assert restore(stepper, tmp_path / "checkpoint", evict=True) == {}
    assert [stepper.arena.claim(Keys.of(key))[0].tolist() for key in "aba"] == [[0], [0], [0]]


@pytest.mark.parametrize(
    ("digest", "counted"),
    [("mean", {"a": 2.0, "b": 2.0, "c": 1.0, "d": 1.0}), ("other", dict.fromkeys("abcd", 0.0))],
)
def test_a_reload_carries_evicted_series(tmp_path: Path, digest: str, counted: dict) -> None:
    """The same model keeps all; another one what the encoder knows, in memory and on disk."""
    old, new = full(tmp_path), MeanStepper(2, digest)
    told = build.carry_states(old, new, MeanModels(), tmp_path, evict=True)
    assert told.startswith("kept")
    assert len(new.arena) == len(new.arena.evicted) == 2
    assert counts(new) == counted
    assert sums(new) == sums(old) == SUMS


def test_a_reload_that_would_forget_evicted_series_is_refused(tmp_path: Path) -> None:
    old = full(tmp_path)
    with pytest.raises(ArtifactError, match="2 series are evicted"):
        build.carry_states(old, MeanStepper(9), MeanModels(), tmp_path, evict=False)
    assert sums(old) == SUMS


def test_a_reload_can_begin_to_evict(tmp_path: Path) -> None:
    old, new = MeanStepper(2), MeanStepper(2)
    old.step(batch("ab", 0))
    build.carry_states(old, new, MeanModels(), tmp_path, evict=True)
    assert new.step(batch("cd", 1)).refused == []
