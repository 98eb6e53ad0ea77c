"""A pipeline between lists, and lines to put through it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from connector_harness import FakeClock
from models import model
from steppers import MeanStepper

from forecastd.connectors.contract import ForecastLines, LineBatch
from forecastd.daemon.pipeline import Connectors, Pipeline, TickCounts, Timing, Translation
from forecastd.daemon.policy import EmitSettings
from forecastd.runtime.kernel_stepper import KernelStepper
from forecastd.runtime.stepper import Stepper

MakeStepper = Callable[[], Stepper]
STEPPERS: dict[str, MakeStepper] = {
    "kernels": lambda: KernelStepper(model(), 50, 1),
    "mean": MeanStepper,
}


class Given:
    """A source that gives the batches it is told to."""

    poll_interval_s = None
    commit_wanted = False

    def __init__(self) -> None:
        self.batches: list[LineBatch] = []

    def next_batch(self) -> LineBatch:
        return self.batches.pop(0) if self.batches else LineBatch("in", [])

    def position(self) -> dict:
        return {}

    def acknowledge(self, position: dict) -> None: ...

    def descriptors(self) -> list[int]:
        return []

    def close(self) -> None: ...


class Kept:
    """A sink that keeps what it takes."""

    format = "ndjson"

    def __init__(self) -> None:
        self.taken: list[ForecastLines] = []

    def write(self, batch: ForecastLines) -> None:
        self.taken.append(batch)

    def flush(self) -> None: ...

    def position(self) -> dict:
        return {}

    def close(self) -> None: ...


class Flow:
    """A pipeline between lists."""

    def __init__(
        self, stepper: Stepper, emit: EmitSettings | None = None, path: Path | None = None
    ) -> None:
        self.clock = FakeClock()
        self.source, self.sink = Given(), Kept()
        self.pipeline = Pipeline(
            (stepper, Translation.of(stepper)),
            Connectors({"in": self.source}, {"out": self.sink}),
            None,
            path,
            Timing(1e9, emit or EmitSettings()),
            self.clock,
        )
        self.pipeline.commit()

    def feed(self, *lines: bytes, tags: list[int] | None = None) -> TickCounts:
        column = None if tags is None else np.array(tags, np.int32)
        self.source.batches.append(LineBatch("in", list(lines), column))
        return self.pipeline.tick()

    def sent(self) -> list[bytes]:
        """Return what has come since the last call."""
        lines = [line for batch in self.sink.taken for line in batch.lines]
        self.sink.taken.clear()
        return lines

    def tags(self) -> list[int]:
        columns = [batch.tags for batch in self.sink.taken if len(batch.ends)]
        return [tag for column in columns for tag in column.tolist()]


def seen(key: str, hour: int, value: float | None = None) -> bytes:
    stamp = np.datetime64("2013-01-01T00", "h") + hour
    y = hour * 1.5 if value is None else value
    return json.dumps({"unique_id": key, "ds": f"{stamp}:00:00", "y": y}).encode()


def asked(key: str) -> bytes:
    return json.dumps({"unique_id": key, "forecast": True}).encode()


def whens(lines: list[bytes]) -> list[tuple[str, int]]:
    """Return series and hour of some forecasts."""
    found = [json.loads(line) for line in lines]
    start = np.datetime64("2013-01-01T00", "h")
    return [
        (each["unique_id"], int((np.datetime64(each["cutoff"], "h") - start).astype(int)))
        for each in found
    ]


def lines_of_some_days(count: int = 400) -> list[bytes]:
    dice = np.random.default_rng(3)
    hours = dict.fromkeys(["a", "b", "c", "d"], 0)
    lines = []
    for key in dice.choice(list(hours), count).tolist():
        hours[key] += int(dice.choice([1, 1, 1, 2]))
        lines.append(seen(key, hours[key], round(float(dice.normal(9, 2)), 2)))
    return lines


def by_origin(make: MakeStepper, lines: list[bytes]) -> dict[tuple[str, int], bytes]:
    """Return the forecast after each observation."""
    flow = Flow(make())
    flow.feed(*lines)
    sent = flow.sent()
    return dict(zip(whens(sent), sent, strict=True))
