"""Forecasts that a line asks for, and what crashes leave of every policy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from connector_harness import FakeClock, surroundings
from flow import STEPPERS, Flow, MakeStepper, asked, by_origin, lines_of_some_days, seen, whens

from forecastd.connectors.file import FileSink, FileSinkSettings, FileSource, FileSourceSettings
from forecastd.connectors.reply import ReplySettings, ReplySink
from forecastd.daemon.pipeline import Connectors, Pipeline, Timing, Translation
from forecastd.daemon.policy import EmitSettings
from forecastd.daemon.restart import restore
from forecastd.runtime.evicted import Evicted


@pytest.fixture(params=STEPPERS)
def make(request: pytest.FixtureRequest) -> MakeStepper:
    return STEPPERS[request.param]


def test_only_requests(make: MakeStepper) -> None:
    flow = Flow(make(), EmitSettings(when="request"))
    lines = [seen("a", 1), seen("b", 1), seen("a", 2)]
    assert flow.feed(*lines).forecasts == 0
    counts = flow.feed(asked("b"), asked("a"), asked("b"), tags=[7, 8, 9])
    assert flow.tags() == [7, 8, 9]
    sent = flow.sent()
    assert whens(sent) == [("b", 1), ("a", 2), ("b", 1)]
    everything = by_origin(make, lines)
    assert [everything[when] for when in whens(sent)] == sent
    assert (counts.lines, counts.observations, counts.forecasts, counts.requests) == (3, 0, 3, 3)


@pytest.mark.parametrize(
    "emit",
    [
        EmitSettings(),
        EmitSettings(when="last"),
        EmitSettings(when="interval", every=5.0),
        EmitSettings(when="request"),
    ],
    ids=lambda emit: emit.when,
)
def test_a_request_knows_what_came_before_it(make: MakeStepper, emit: EmitSettings) -> None:
    flow = Flow(make(), emit)
    counts = flow.feed(
        asked("a"), seen("a", 1), asked("a"), asked("z"), seen("a", 2), seen("b", 1), asked("a")
    )
    assert counts.rejected == {"unknown_series": 2}
    assert counts.examples["unknown_series"].line == asked("a")
    assert (counts.observations, counts.requests) == (3, 2)
    answered = [("a", 1), ("a", 2)]
    expected = {
        "step": [("a", 1), ("a", 1), ("a", 2), ("b", 1), ("a", 2)],
        "last": [("a", 1), ("a", 1), ("a", 2), ("b", 1), ("a", 2)],
    }
    assert whens(flow.sent()) == expected.get(emit.when, answered)


def test_requests_change_no_state(make: MakeStepper) -> None:
    lines = lines_of_some_days(120)
    plain, curious = Flow(make()), Flow(make(), EmitSettings(when="request"))
    plain.feed(*lines)
    mixed = [each for line in lines for each in (line, asked(json.loads(line)["unique_id"]))]
    curious.feed(*mixed)
    assert curious.sent() == plain.sent()
    one, other = plain.pipeline.stepper.arena.view(), curious.pipeline.stepper.arena.view()
    assert one.keys == other.keys
    np.testing.assert_array_equal(one.rows, other.rows)


def test_a_request_for_an_evicted_series_brings_it_back(make: MakeStepper, tmp_path: Path) -> None:
    stepper = make()
    stepper.arena.series_max = 2
    stepper.arena.evicted = Evicted(tmp_path, stepper.arena.layout.itemsize)
    flow = Flow(stepper, EmitSettings(when="request"))
    for key in "abcd":
        flow.feed(seen(key, 1))
    counts = flow.feed(asked("a"), asked("z"))
    assert counts.rejected == {"unknown_series": 1}
    everything = by_origin(make, [seen("a", 1)])
    assert flow.sent() == [everything["a", 1]]
    assert len(stepper.arena) == 2
    flow.pipeline.close()


EMITS = [
    EmitSettings(steps=5),
    EmitSettings(when="last"),
    EmitSettings(when="request"),
    EmitSettings(when="interval", every=10.0),
]


class Life:
    """A file-to-file pipeline as a start builds it: from what is on disk."""

    def __init__(self, folder: Path, make: MakeStepper, emit: EmitSettings, rows: int) -> None:
        self.clock = FakeClock()
        stepper = make()
        positions = restore(stepper, folder / "checkpoint")
        around = surroundings(folder, self.clock, batch_rows=rows)
        source = FileSource(
            "in",
            FileSourceSettings(type="file", path="in.ndjson", follow=False),
            around,
            positions.get("sources", {}).get("in"),
        )
        sink_settings = FileSinkSettings(type="file", path="out.ndjson")
        sink = FileSink("out", sink_settings, around, positions.get("sinks", {}).get("out"))
        reply = ReplySink("reply", ReplySettings(type="reply"), around)
        self.pipeline = Pipeline(
            (stepper, Translation.of(stepper)),
            Connectors({"in": source}, {"out": sink, "reply": reply}),
            None,
            folder / "checkpoint",
            Timing(1e9, emit),
            self.clock,
        )
        self.pipeline.emission.resume(positions.get("emit", {}))
        self.pipeline.commit()

    def tick(self) -> None:
        self.clock.now += 3.0
        self.pipeline.tick()


@pytest.mark.parametrize("emit", EMITS, ids=lambda emit: emit.when)
def test_crashes_lose_no_forecast(make: MakeStepper, emit: EmitSettings, tmp_path: Path) -> None:
    lines = lines_of_some_days()
    asking = [each for line in lines[:200] for each in (line, asked("b"))][2:]
    content = [*asking, *lines[200:]] if emit.when == "request" else lines
    folders = tmp_path / "whole", tmp_path / "broken"
    for folder in folders:
        folder.mkdir()
        (folder / "in.ndjson").write_bytes(b"".join(line + b"\n" for line in content))
    dice = np.random.default_rng(8)
    for _ in range(12):
        life = Life(folders[1], make, emit, int(dice.integers(3, 30)))
        for _ in range(int(dice.integers(1, 4))):
            life.tick()
        if dice.random() < 0.6:
            life.pipeline.commit()
        life.tick()
        life.pipeline.close()
    for folder in folders:
        life = Life(folder, make, emit, 16)
        while life.pipeline.running:
            life.tick()
        life.pipeline.end()
        life.pipeline.close()
    whole, broken = ((each / "out.ndjson").read_bytes().splitlines() for each in folders)
    everything = {line.rstrip(b"\n") for line in by_origin(make, lines).values()}
    newest = {key: hour for key, hour in whens([*by_origin(make, lines).values()])}
    if emit.when in ("step", "request"):
        assert broken == whole
    else:
        assert set(broken) <= everything
        assert newest.items() <= set(whens(broken))
        assert len(set(broken)) == len(broken), "none comes twice"
