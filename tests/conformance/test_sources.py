"""Every source keeps the contract of connectors/contract.py."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from connector_harness import SOURCE_HARNESSES, harness_of, idle, rest, take

from forecastd.connectors import SOURCES
from forecastd.connectors.contract import SourceEnded

LINES = [b'{"n":%d}' % number for number in range(300)]


@pytest.fixture(params=SOURCE_HARNESSES)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    yield from harness_of(SOURCE_HARNESSES[request.param], tmp_path)


def test_each_source_is_tested() -> None:
    assert set(SOURCE_HARNESSES) == set(SOURCES)


def test_it_is_empty_when_idle(harness: Any) -> None:
    source = harness.open()
    assert len(idle(source)) == 0
    assert len(idle(source)) == 0
    source.close()


def test_it_gives_all_lines_in_order(harness: Any) -> None:
    source = harness.open()
    harness.send(LINES[:100])
    assert take(source, 100) == LINES[:100]
    harness.send(LINES[100:])
    assert take(source, 200) == LINES[100:]
    assert len(idle(source)) == 0
    source.close()


def test_a_batch_has_at_most_batch_rows(harness: Any) -> None:
    object.__setattr__(harness.surroundings, "batch_rows", 7)
    source = harness.open()
    harness.send(LINES)
    lines: list[bytes] = []
    while len(lines) < len(LINES):
        batch = source.next_batch()
        assert len(batch) <= 7
        lines += batch.lines
    assert lines == LINES
    source.close()


def test_tags_belong_to_lines(harness: Any) -> None:
    source = harness.open()
    harness.send(LINES[:5])
    batch = source.next_batch()
    while not batch.lines:
        batch = source.next_batch()
    assert batch.source == "in"
    assert batch.tags is None or len(batch.tags) == len(batch.lines)
    source.close()


def test_it_resumes_after_the_last_line_returned(harness: Any) -> None:
    object.__setattr__(harness.surroundings, "batch_rows", 40)
    source = harness.open()
    harness.send(LINES)
    returned = take(source, 100)
    position = source.position()
    take(source, 40)  # taken, but after the position: must come again
    source.close()
    if not harness.resumes:
        assert position == {}
        return
    source = harness.open(position)
    harness.resend_from(position, LINES)
    assert returned + take(source, len(LINES) - len(returned)) == LINES
    source.close()


def test_acknowledging_changes_nothing_that_is_returned(harness: Any) -> None:
    source = harness.open()
    harness.send(LINES[:10])
    assert take(source, 10) == LINES[:10]
    source.acknowledge(source.position())
    harness.send(LINES[10:20])
    assert take(source, 10) == LINES[10:20]
    source.close()


def test_draining_gives_what_has_arrived_and_ends(harness: Any) -> None:
    object.__setattr__(harness.surroundings, "batch_rows", 10)
    source = harness.open()
    harness.send(LINES[:50])
    first = take(source, 10)
    source.drain()
    assert first + rest(source) == LINES[:50]
    with pytest.raises(SourceEnded):
        source.next_batch()
    source.close()


def test_nothing_comes_after_close(harness: Any) -> None:
    source = harness.open()
    harness.send(LINES[:10])
    source.close()
    source.close()
    with pytest.raises(SourceEnded):
        source.next_batch()


def test_the_daemon_may_wait_until_there_is_work(harness: Any) -> None:
    source = harness.open()
    harness.send(LINES[:1])
    take(source, 1)
    assert len(idle(source)) == 0
    assert not _is_woken(source, wait_ms=0)
    harness.send(LINES[1:2])
    assert source.poll_interval_s is not None or _is_woken(source, wait_ms=None)
    source.close()


def _is_woken(source: Any, wait_ms: int | None) -> bool:
    poll = select.poll()
    for descriptor in source.descriptors():
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(wait_ms))
