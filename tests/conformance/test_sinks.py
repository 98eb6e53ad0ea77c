"""Every sink keeps the contract of connectors/contract.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from connector_harness import SINK_HARNESSES, harness_of

from forecastd.connectors import SINKS

FIRST = [b'{"n":1}\n', b'{"n":2}\n']
SECOND = [b'{"n":3}\n']


@pytest.fixture(params=SINK_HARNESSES)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    yield from harness_of(SINK_HARNESSES[request.param], tmp_path)


def test_each_sink_is_tested() -> None:
    assert set(SINK_HARNESSES) == set(SINKS)


def test_lines_arrive_whole_and_in_order(harness: Any) -> None:
    sink = harness.open()
    sink.write(harness.batch(FIRST))
    sink.write(harness.batch(SECOND))
    sink.flush()
    assert harness.arrived() == b"".join(FIRST + SECOND)
    sink.close()


def test_an_empty_batch_is_nothing(harness: Any) -> None:
    sink = harness.open()
    sink.write(harness.batch([]))
    sink.write(harness.batch(FIRST))
    sink.flush()
    assert harness.arrived() == b"".join(FIRST)
    sink.close()


def test_it_resumes_at_the_position(harness: Any) -> None:
    """Lines written after the position are dropped where the sink can, so none comes twice."""
    sink = harness.open()
    sink.write(harness.batch(FIRST))
    sink.flush()
    position = sink.position()
    sink.write(harness.batch(SECOND))
    sink.write(harness.batch([b'{"torn"']))
    sink.close()
    sink = harness.open(position)
    sink.write(harness.batch(SECOND))
    sink.flush()
    arrived = harness.arrived()
    if harness.resumes:
        assert arrived == b"".join(FIRST + SECOND)
    else:
        assert position == {}
        assert arrived == b"".join([*FIRST, *SECOND, b'{"torn"', *SECOND])
    sink.close()


def test_it_closes_twice_without_harm(harness: Any) -> None:
    sink = harness.open()
    sink.write(harness.batch(FIRST))
    sink.close()
    sink.close()
    assert harness.arrived() == b"".join(FIRST)
