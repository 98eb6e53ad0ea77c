from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from forecastd.data.prefetch import DEPTH, Prefetch


def counted(stop: int, made: list[int]) -> Iterator[int]:
    for number in range(stop):
        made.append(number)
        yield number


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_items_come_in_their_order(depth: int) -> None:
    with Prefetch(iter(range(1000)), depth=depth) as ahead:
        assert list(ahead) == list(range(1000))
        assert next(ahead, None) is None
    assert readers() == []


def test_the_reader_is_one_thread_that_stays_a_buffer_ahead() -> None:
    made: list[int] = []
    full = threading.Event()

    def watched() -> Iterator[int]:
        for number in counted(100, made):
            if number == DEPTH:  # the buffer is full, this one waits for room
                full.set()
            yield number

    with Prefetch(watched()) as ahead:
        assert full.wait(60)
        assert len(readers()) == 1
        assert made == list(range(DEPTH + 1))
        assert next(ahead) == 0


def test_an_error_comes_after_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        message = "the disk is gone"
        raise OSError(message)

    with Prefetch(broken()) as ahead:
        assert [next(ahead), next(ahead)] == [1, 2]
        with pytest.raises(OSError, match="the disk is gone"):
            next(ahead)
        with pytest.raises(StopIteration):
            next(ahead)
    assert readers() == []


def test_what_makes_items_ready_runs_in_the_reader_and_may_fail() -> None:
    names: set[str] = set()

    def ready(number: int) -> int:
        names.add(threading.current_thread().name)
        return 10 // (3 - number)

    with Prefetch(range(5), ready) as ahead:
        assert [next(ahead), next(ahead), next(ahead)] == [3, 5, 10]
        with pytest.raises(ZeroDivisionError):
            next(ahead)
    assert names == {"prefetch"}


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closed_early_the_thread_ends_and_so_does_the_iterable(taken: int) -> None:
    closed: list[bool] = []

    def endless() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.append(True)

    with Prefetch(endless()) as ahead:
        for number in range(taken):
            assert next(ahead) == number
    assert readers() == []
    assert closed == [True]
    with pytest.raises(StopIteration):
        next(ahead)


def test_an_iterable_that_cannot_be_closed_hangs_nobody() -> None:
    class Stubborn:
        def __iter__(self) -> Stubborn:
            return self

        def __next__(self) -> int:
            raise StopIteration

        def close(self) -> None:
            message = "will not close"
            raise RuntimeError(message)

    with Prefetch(Stubborn()) as ahead, pytest.raises(RuntimeError, match="will not close"):
        next(ahead)
    assert readers() == []


def test_an_error_of_the_consumer_ends_the_thread() -> None:
    def consume() -> None:
        with Prefetch(iter(range(10**9))) as ahead:
            raise KeyError(next(ahead))

    with pytest.raises(KeyError):
        consume()
    assert readers() == []


def test_waiting_is_measured() -> None:
    go = threading.Event()

    def held() -> Iterator[int]:
        go.wait()
        yield 1

    with Prefetch(held()) as ahead:
        assert ahead.waited == 0
        threading.Timer(0.05, go.set).start()
        assert next(ahead) == 1
        assert ahead.waited > 0.01
