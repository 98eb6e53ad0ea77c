"""The tick and the commit: order of steps, and a crash between any two of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from connector_harness import FakeClock, surroundings
from steppers import MeanStepper

from forecastd.connectors.contract import LineBatch, SourceEnded
from forecastd.connectors.file import FileSink, FileSinkSettings, FileSource, FileSourceSettings
from forecastd.daemon import pipeline as pipeline_module
from forecastd.daemon.dead_letter import DeadLetter
from forecastd.daemon.pipeline import Connectors, Pipeline, Timing, Translation
from forecastd.daemon.restart import FolderLock, restore
from forecastd.errors import ArtifactError, PeerError, UserError
from forecastd.runtime import checkpoint
from forecastd.runtime.checkpoint import Checkpoint

HOURS = [str(np.datetime64("2013-01-01T00", "h") + hour) for hour in range(200)]
LINES = [
    json.dumps({"unique_id": f"s{number % 3}", "ds": f"{HOURS[number // 3]}:00:00", "y": number})
    for number in range(len(HOURS) * 3)
]


class CrashError(Exception):
    """Stands for the end of the process at this point."""


class Life:
    """A file-to-file pipeline as a start builds it: from what is on disk."""

    def __init__(self, folder: Path, batch_rows: int = 50, interval_s: float = 5.0) -> None:
        self.clock = FakeClock()
        self.stepper = MeanStepper()
        positions = restore(self.stepper, folder / "checkpoint")
        around = surroundings(folder, self.clock, batch_rows=batch_rows)
        self.source = FileSource(
            "in",
            FileSourceSettings(type="file", path="in.ndjson", follow=False),
            around,
            positions.get("sources", {}).get("in"),
        )
        sink_settings = FileSinkSettings(type="file", path="out.ndjson")
        self.sink = FileSink("out", sink_settings, around, positions.get("sinks", {}).get("out"))
        self.pipeline = Pipeline(
            (self.stepper, Translation.of(self.stepper)),
            Connectors({"in": self.source}, {"out": self.sink}),
            DeadLetter(folder / "rejects.ndjson", 1 << 20),
            folder / "checkpoint",
            Timing(interval_s),
            self.clock,
        )
        self.pipeline.commit()

    def finish(self) -> None:
        while self.pipeline.running:
            self.pipeline.tick()
        self.pipeline.commit()
        self.pipeline.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in.ndjson").write_text("".join(f"{line}\n" for line in LINES))
    return tmp_path


@pytest.fixture
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    other = tmp_path_factory.mktemp("uninterrupted")
    (other / "in.ndjson").write_text("".join(f"{line}\n" for line in LINES))
    Life(other, batch_rows=10_000).finish()
    output = (other / "out.ndjson").read_bytes()
    assert output.count(b"\n") == len(LINES)
    return output


def test_batches_of_any_size_give_the_same_bytes(folder: Path, expected: bytes) -> None:
    life = Life(folder, batch_rows=7)
    life.finish()
    assert (folder / "out.ndjson").read_bytes() == expected
    assert life.pipeline.counts.observations == life.pipeline.counts.forecasts == len(LINES)


@pytest.mark.parametrize(
    "where",
    [
        "before 1",
        "between 1 and 2",
        "within 2",
        "between 2 and 3",
        "after 3",
    ],
)
def test_a_crash_at_any_step_of_a_commit_changes_nothing(
    folder: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    life = Life(folder)
    life.pipeline.tick()
    life.pipeline.commit()
    life.pipeline.tick()
    life.pipeline.tick()
    save = checkpoint.save

    def crash(*arguments: object) -> int:
        raise CrashError

    def save_then_crash(path: Path, content: Checkpoint) -> int:
        save(path, content)
        raise CrashError

    with monkeypatch.context() as patch:
        if where == "before 1":
            patch.setattr(life.sink, "flush", crash)
        elif where == "between 1 and 2":
            patch.setattr(pipeline_module.checkpoint, "save", crash)
        elif where == "within 2":
            patch.setattr(checkpoint, "write_pieces_durably", crash)
        elif where == "between 2 and 3":
            patch.setattr(pipeline_module.checkpoint, "save", save_then_crash)
        else:
            patch.setattr(life.source, "acknowledge", crash)
        with pytest.raises(CrashError):
            life.pipeline.commit()
    life.pipeline.close()
    Life(folder).finish()
    assert (folder / "out.ndjson").read_bytes() == expected


def test_nothing_is_acknowledged_before_it_is_durable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(folder)
    acknowledged = []
    monkeypatch.setattr(
        life.source, "acknowledge", lambda position: acknowledged.append((position, saved()))
    )

    def saved() -> dict:
        found = checkpoint.load(folder / "checkpoint", life.stepper.arena.layout)
        assert found is not None
        return found.positions["sources"]["in"]

    for _ in range(3):
        life.pipeline.tick()
        life.pipeline.commit()
    assert len(acknowledged) == 3
    assert all(position == on_disk for position, on_disk in acknowledged)
    assert acknowledged[-1][0]["offset"] > 0
    life.pipeline.close()


def test_a_commit_is_due_after_the_interval_and_only_after_a_change(folder: Path) -> None:
    life = Life(folder, batch_rows=1000, interval_s=5.0)
    first = life.pipeline.committed
    assert life.pipeline.seconds_to_commit() is None
    life.pipeline.tick()
    assert life.pipeline.committed is first
    assert life.pipeline.seconds_to_commit() == 5.0
    life.clock.now += 5
    life.pipeline.tick()
    assert life.pipeline.committed is not first
    assert life.pipeline.seconds_to_commit() is None
    life.pipeline.close()


def test_a_commit_comes_at_once_when_a_client_wants_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(folder)
    first = life.pipeline.committed
    monkeypatch.setattr(FileSource, "commit_wanted", True)
    life.pipeline.tick()
    assert life.pipeline.committed is not first
    life.pipeline.close()


def test_rejects_are_counted_and_kept_with_the_stepper_s_refusals(folder: Path) -> None:
    good = LINES[3]
    (folder / "in.ndjson").write_text("\n".join([good, "bad \x1b", good, LINES[0], LINES[1]]))
    life = Life(folder)
    life.finish()
    assert life.pipeline.counts.rejected == {"bad_json": 1, "repeat": 1, "late": 1}
    kept = [json.loads(line) for line in (folder / "rejects.ndjson").read_text().splitlines()]
    assert {(each["reason"], each["line"]) for each in kept} == {
        ("bad_json", "bad \x1b"),
        ("repeat", good),
        ("late", LINES[0]),
    }
    assert {each["source"] for each in kept} == {"in"}
    assert all(each["detail"] and each["time"].startswith("20") for each in kept)


def test_a_full_arena_refuses_new_series_and_serves_the_others(folder: Path) -> None:
    life = Life(folder)
    life.stepper.arena = MeanStepper(series_max=2).arena
    life.finish()
    assert life.pipeline.counts.rejected == {"arena_full": len(LINES) // 3}
    assert life.pipeline.counts.forecasts == len(LINES) * 2 // 3


def test_a_failing_disk_ends_the_pipeline_without_an_acknowledgement(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "out.ndjson").symlink_to("/dev/full")
    monkeypatch.setattr(FileSink, "flush", lambda self: None)  # a device has no fsync
    life = Life(folder)
    with pytest.raises(PeerError, match="No space left"):
        life.pipeline.tick()
    life.pipeline.close()


def test_a_checkpoint_of_another_model_says_what_to_do(tmp_path: Path) -> None:
    stepper = MeanStepper(digest="old")
    path = tmp_path / "checkpoint"
    checkpoint.save(path, Checkpoint("old", stepper.arena.snapshot(), {}))
    assert restore(MeanStepper(digest="old"), path) == {}
    with pytest.raises(ArtifactError, match=r"made by another model \(use that model, or move"):
        restore(MeanStepper(digest="new"), path)


def test_a_checkpoint_of_more_series_than_there_is_room_for(tmp_path: Path) -> None:
    stepper = MeanStepper()
    stepper.arena.claim(["a", "b", "c"])
    path = tmp_path / "checkpoint"
    checkpoint.save(path, Checkpoint("mean", stepper.arena.snapshot(), {}))
    with pytest.raises(ArtifactError, match=r"has 3 series.*set series_max to 3 or more"):
        restore(MeanStepper(series_max=2), path)


def test_a_state_dir_has_one_user(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "state" / "lock", "state_dir")
    with pytest.raises(UserError, match=r"state_dir .*state is used by another process"):
        FolderLock(tmp_path / "state" / "lock", "state_dir")
    lock.close()
    FolderLock(tmp_path / "state" / "lock", "state_dir").close()


def test_an_ended_source_is_not_asked_again(folder: Path) -> None:
    life = Life(folder)
    life.finish()
    assert life.pipeline.tick().lines == 0
    with pytest.raises(SourceEnded):
        life.source.next_batch()


def test_a_batch_of_rejects_alone_is_counted(folder: Path, monkeypatch) -> None:
    life = Life(folder)
    batches = iter([LineBatch("in", [b"bad", b"worse"])])
    monkeypatch.setattr(life.source, "next_batch", lambda: next(batches))
    counts = life.pipeline.tick()
    assert (counts.lines, counts.observations, counts.rejected.total()) == (2, 0, 2)
    life.pipeline.close()
