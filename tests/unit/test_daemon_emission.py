"""When forecasts are sent: after which steps, and when the time has come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from flow import (
    STEPPERS,
    Flow,
    Given,
    Kept,
    MakeStepper,
    by_origin,
    lines_of_some_days,
    seen,
    whens,
)
from models import model
from steppers import SIGNATURE, MeanStepper

from forecastd.daemon.emission import rows_at_once
from forecastd.daemon.pipeline import Timing, Translation
from forecastd.daemon.policy import EmitSettings, parse_policy
from forecastd.daemon.restart import restore
from forecastd.errors import UserError
from forecastd.runtime.kernel_stepper import KernelStepper


@pytest.fixture(params=STEPPERS)
def make(request: pytest.FixtureRequest) -> MakeStepper:
    return STEPPERS[request.param]


def test_every_step_is_the_default(make: MakeStepper) -> None:
    flow = Flow(make())
    counts = flow.feed(seen("a", 1), seen("b", 1), seen("a", 2))
    assert whens(flow.sent()) == [("a", 1), ("b", 1), ("a", 2)]
    assert (counts.forecasts, counts.requests) == (3, 0)


@pytest.mark.parametrize("rows", [1, 7, 400])
def test_every_few_steps_of_each_series_however_they_are_batched(
    make: MakeStepper, rows: int
) -> None:
    lines = lines_of_some_days()
    flow = Flow(make(), EmitSettings(steps=3))
    everything = by_origin(make, lines)
    for start in range(0, len(lines), rows):
        flow.feed(*lines[start : start + rows])
    sent = flow.sent()
    assert all(everything[when] == line for when, line in zip(whens(sent), sent, strict=True))
    whole = Flow(make(), EmitSettings(steps=3))
    whole.feed(*lines)
    assert whole.sent() == sent
    assert 60 < len(sent) < 200


def test_filled_steps_count() -> None:
    flow = Flow(KernelStepper(model(), 50, 1), EmitSettings(steps=4))
    flow.feed(seen("a", 1), seen("a", 2), seen("a", 4), seen("a", 5), seen("a", 8))
    assert whens(flow.sent()) == [("a", 4), ("a", 8)]


def test_the_last_of_each_series_in_what_was_taken_at_once(make: MakeStepper) -> None:
    flow = Flow(make(), EmitSettings(when="last"))
    first = [seen("a", 1), seen("b", 1), seen("a", 2), seen("c", 1), seen("b", 0), seen("a", 2)]
    counts = flow.feed(*first, tags=[1, 2, 3, 4, 5, 6])
    assert flow.tags() == [2, 3, 4]
    sent = flow.sent()
    assert whens(sent) == [("b", 1), ("a", 2), ("c", 1)]
    everything = by_origin(make, first)
    assert [everything[when] for when in whens(sent)] == sent
    assert (counts.forecasts, counts.observations) == (3, 4)
    assert counts.rejected == {"late": 1, "repeat": 1}
    flow.feed(seen("b", 1))
    assert flow.sent() == [], "a series that did not change has no forecast"


def test_an_interval_sends_what_changed_since(make: MakeStepper) -> None:
    flow = Flow(make(), EmitSettings(when="interval", every=10.0))
    first = [seen("a", 1), seen("b", 1), seen("a", 2)]
    flow.feed(*first, tags=[1, 2, 3])
    assert flow.sent() == []
    assert flow.pipeline.emission.seconds_left() == 10.0
    flow.clock.now += 9.5
    assert flow.pipeline.tick().forecasts == 0
    assert flow.pipeline.seconds_to_work() == 0.5
    flow.clock.now += 0.5
    assert flow.pipeline.tick().forecasts == 2
    assert [batch.tags for batch in flow.sink.taken if len(batch.ends)] == [None]
    sent = flow.sent()
    assert sorted(whens(sent)) == [("a", 2), ("b", 1)]
    everything = by_origin(make, first)
    assert [everything[when] for when in whens(sent)] == sent
    assert flow.pipeline.emission.seconds_left() is None
    flow.clock.now += 33
    assert flow.pipeline.tick().forecasts == 0, "nothing changed"
    flow.feed(seen("b", 2), seen("b", 2))
    assert flow.pipeline.emission.seconds_left() == 7.0, "intervals follow from the start"
    flow.clock.now += 7
    flow.pipeline.tick()
    assert whens(flow.sent()) == [("b", 2)]


def test_the_end_sends_what_waits_for_its_time(make: MakeStepper) -> None:
    flow = Flow(make(), EmitSettings(when="interval", every=10.0))
    flow.feed(seen("a", 1))
    assert flow.pipeline.end().forecasts == 1
    assert whens(flow.sent()) == [("a", 1)]
    assert flow.pipeline.end().forecasts == 0
    assert flow.pipeline.counts.forecasts == 1


def test_another_model_takes_over_after_what_waits(make: MakeStepper) -> None:
    flow = Flow(make(), EmitSettings(when="interval", every=10.0))
    flow.feed(seen("a", 1))
    stepper = make()
    counts = flow.pipeline.swap((stepper, Translation.of(stepper)), Timing(1e9))
    assert counts.forecasts == 1
    flow.sent()
    flow.feed(seen("b", 1))
    assert whens(flow.sent()) == [("b", 1)]


def test_what_waits_survives_a_crash(make: MakeStepper, tmp_path: Path) -> None:
    emit = EmitSettings(when="interval", every=10.0)
    path = tmp_path / "checkpoint"
    flow = Flow(make(), emit, path)
    flow.feed(*[seen(f"s{number}", 1) for number in range(20)])
    flow.clock.now += 10
    flow.pipeline.tick()
    flow.sent()
    flow.feed(seen("s3", 2), seen("s17", 2))
    flow.pipeline.commit()
    stepper = make()
    positions = restore(stepper, path)
    other = Flow(stepper, emit)
    other.pipeline.emission.resume(positions["emit"])
    other.clock.now += 10
    other.pipeline.tick()
    flow.clock.now += 10
    flow.pipeline.tick()
    sent = other.sent()
    assert whens(sent) == [("s3", 2), ("s17", 2)]
    assert sent == flow.sent()


def test_the_next_step_is_made_ahead_after_the_replies_and_only_when_nothing_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []
    flow = Flow(MeanStepper())
    monkeypatch.setattr(MeanStepper, "prepare", lambda self: happened.append("prepare"))
    monkeypatch.setattr(Kept, "write", lambda self, batch: happened.append("write"))
    flow.feed(seen("a", 1))
    assert happened == ["write", "prepare"]
    flow.pipeline.tick()
    assert happened == ["write", "prepare"]
    with (Path("/dev/zero")).open("rb") as readable:
        monkeypatch.setattr(Given, "descriptors", lambda self: [readable.fileno()])
        flow.feed(seen("a", 2))
    assert happened == ["write", "prepare", "write"]


def test_latency_mode_sends_the_same() -> None:
    lines = lines_of_some_days(100)
    plain = Flow(KernelStepper(model(), 50, 1))
    ahead = Flow(KernelStepper(model(), 50, 1, latency=True))
    for line in lines:
        plain.feed(line)
        ahead.feed(line)
    assert ahead.sent() == plain.sent()


@pytest.mark.parametrize(
    ("when", "every", "expected"),
    [
        ("step", None, EmitSettings()),
        ("step", "24", EmitSettings(steps=24)),
        ("last", None, EmitSettings(when="last")),
        ("interval", "500ms", EmitSettings(when="interval", every=0.5)),
        ("request", None, EmitSettings(when="request")),
    ],
)
def test_options(when: str, every: str | None, expected: EmitSettings) -> None:
    assert parse_policy(when, every) == expected


@pytest.mark.parametrize(
    ("when", "every", "problem"),
    [
        ("step", "10s", r"--every 10s is not a number of steps \(a time such as 10s goes with"),
        ("step", "0", "--every 0 is not a number of steps"),
        ("last", "3", r"--every 3 means nothing with --emit last \(leave it out\)"),
        ("interval", None, r"--emit interval needs a time \(such as --every 10s\)"),
        ("interval", "24", "--every: '24' is not a duration"),
        ("interval", "0s", "--every 0s is no time"),
    ],
)
def test_options_that_do_not_fit(when: str, every: str | None, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        parse_policy(when, every)


@pytest.mark.parametrize(
    ("horizon", "quantiles", "wanted", "rows"),
    [(24, (0.1, 0.5, 0.9), 16_384, 16_384), (10_000, (), 16_384, 209), (1 << 30, (), 50, 1)],
)
def test_long_forecasts_go_in_smaller_batches(
    horizon: int, quantiles: tuple[float, ...], wanted: int, rows: int
) -> None:
    signature = replace(SIGNATURE, horizon=horizon, quantiles=quantiles)
    assert rows_at_once(wanted, signature) == rows
