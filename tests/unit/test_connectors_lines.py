"""Cutting bytes into lines, in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forecastd.connectors.lines import HEAD_BYTES, LineSplitter

LIMIT = 16


@given(
    st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line)),
    st.integers(1, 9),
    st.integers(1, 5),
)
def test_any_chunking_gives_the_same_lines(lines: list[bytes], chunk: int, rows: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter(LIMIT)
    found: list[bytes] = []
    too_long: list[bytes] = []
    for start in range(0, len(data), chunk):
        splitter.feed(data[start : start + chunk])
        while (taken := splitter.take(rows)).count:
            assert taken.count <= rows
            found += taken.lines
            too_long += taken.too_long
    assert found == [line for line in lines if len(line) <= LIMIT]
    long = [line for line in lines if len(line) > LIMIT]
    assert all(line.startswith(head) for line, head in zip(long, too_long, strict=True))
    assert splitter.consumed_bytes == len(data)
    assert splitter.is_empty


def test_a_line_of_ten_megabytes_takes_the_memory_of_a_short_one() -> None:
    splitter = LineSplitter(1000)
    for _ in range(10_000):
        splitter.feed(b"x" * 1000)
        assert splitter.take(100).count == 0
        assert len(splitter._buffer) <= 1000
    splitter.feed(b"\ngood\n")
    taken = splitter.take(100)
    assert taken.lines == [b"good"]
    assert taken.too_long == [b"x" * HEAD_BYTES]
    assert splitter.consumed_bytes == 10_000_000 + 6


def test_the_position_stays_before_a_line_that_is_being_skipped() -> None:
    splitter = LineSplitter(10)
    splitter.feed(b"one\n" + b"x" * 50)
    splitter.take(10)
    assert splitter.consumed_bytes == 4


def test_the_unfinished_last_line_is_a_line_at_the_end() -> None:
    splitter = LineSplitter(LIMIT)
    splitter.feed(b"one\ntwo")
    assert splitter.take(10).lines == [b"one"]
    assert splitter.finish().lines == [b"two"]
    assert splitter.finish().count == 0
    assert splitter.consumed_bytes == 7
