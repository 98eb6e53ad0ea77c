"""The ten points that every store keeps, each on stores made from files."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from models import stored, waves
from small_runs import LENGTHS, as_bytes, prepared, trained, weights

from forecastd.config import DataSettings, SplitSettings
from forecastd.data.lanes import (
    Chunk,
    Pieces,
    Plan,
    Shape,
    lane_plan,
    partition,
    pieces_of,
    sweep_plan,
    walk,
    window_plan,
)
from forecastd.data.split import split
from forecastd.data.statistics import train_statistics
from forecastd.data.store import Store, prepare
from forecastd.training.run import resume_run
from forecastd.training.trainer import Trainer

SHAPE = Shape(sequence=24, horizon=4, lead=12)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Forty series of 1 to 200 rows, one with a hole that resets, from a shuffled file."""
    dice = np.random.default_rng(0)
    lengths = {f"s{number:02}": int(dice.integers(2, 200)) for number in range(39)} | {"one": 1}
    frame = waves(lengths).vstack(waves({"s00": 30}, first_hour=400))
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    return stored(tmp_path_factory.mktemp("contract"), shuffled, max_gap=3)


def all_pieces(store: Store) -> Pieces:
    ends = store.offsets[1:]
    return pieces_of(store, store.offsets[:-1], ends, ends)


def planned(store: Store, seed: int = 0) -> Plan:
    return lane_plan(all_pieces(store), 8, np.random.default_rng(seed), SHAPE.sequence)


def rows_of(chunks: Iterator[Chunk]) -> list[int]:
    return [
        int(chunk.rows[lane]) + step
        for chunk in chunks
        for lane in range(len(chunk.rows))
        for step in range(int(chunk.length[lane]))
    ]


def as_tuples(chunks: Iterator[Chunk]) -> list[tuple[bytes, ...]]:
    """Return what chunks hold, less the lead of lanes that have none."""
    return [
        tuple(array.tobytes() for array in chunk[:9])
        + tuple(chunk.lead_values[lane].tobytes() for lane in np.flatnonzero(chunk.fresh))
        for chunk in chunks
    ]


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most memory that Python and numpy held at once for some work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.shows("S55")
def test_01_walked_again_a_plan_gives_the_same_chunks(store: Store) -> None:
    plan = planned(store)
    assert as_tuples(walk(store, plan, SHAPE)) == as_tuples(walk(store, plan, SHAPE))


@pytest.mark.shows("S55")
def test_02_an_epoch_has_every_row_once(store: Store) -> None:
    found = Counter(rows_of(walk(store, planned(store), SHAPE)))
    assert found == Counter(range(len(store.times)))


@pytest.mark.shows("S55")
def test_03_a_shuffle_is_a_permutation_that_the_seed_repeats(store: Store) -> None:
    pieces = all_pieces(store)
    one, same, other = (planned(store, seed) for seed in (1, 1, 2))
    assert list(one) == list(same)
    assert list(one) != list(other)
    table = one.pieces.table
    assert sorted(table[:, 0].tolist()) != table[:, 0].tolist()  # the series are shuffled
    assert one.pieces.lengths.sum() == pieces.lengths.sum()
    for piece in one.pieces:  # and the rows of each stay in the order of time
        assert (np.diff(store.times[piece.begin : piece.end]) > 0).all()
    assert table.nbytes <= 2 * pieces.table.nbytes + 8 * 5 * 8


@pytest.mark.shows("S55")
@pytest.mark.parametrize("count", [1, 2, 3, 8, 11])
def test_04_parts_are_disjoint_and_together_the_whole(store: Store, count: int) -> None:
    plan = planned(store)
    parts = [rows_of(walk(store, partition(plan, count, i), SHAPE)) for i in range(count)]
    assert Counter(row for part in parts for row in part) == Counter(range(len(store.times)))


@pytest.mark.shows("S55")
def test_05_walks_are_lazy_and_compose(store: Store) -> None:
    """A walk is an iterator: `map` transforms it, a strict `zip` combines two of them."""
    read: list[int] = []

    def means(chunk: Chunk) -> float:
        read.append(1)
        return float(np.nanmean(chunk.values))

    plan = planned(store)
    once = map(means, walk(store, plan, SHAPE))
    assert read == []
    both = zip(once, walk(store, plan, SHAPE), strict=True)
    mean, chunk = next(both)
    assert mean == float(np.nanmean(chunk.values))
    assert len(read) == 1
    part = walk(store, partition(plan, 2, 0), dataclasses.replace(SHAPE, sequence=5))
    with pytest.raises(ValueError, match="zip"):
        list(zip(walk(store, plan, SHAPE), part, strict=True))


@pytest.mark.shows("S48", "S55", "S56")
def test_06_memory_is_bounded_by_the_chunk_and_not_by_the_data(tmp_path: Path) -> None:
    peaks = []
    for rows in (3_000, 24_000):
        made = stored(tmp_path, waves({"a": rows, "b": rows}), f"rows{rows}")

        def read(made: Store = made) -> None:
            plan = lane_plan(all_pieces(made), 8, np.random.default_rng(0), SHAPE.sequence)
            for _ in walk(made, plan, SHAPE):
                pass

        read()
        peaks.append(peak_bytes(read))
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 24_000 * 2 * 4  # much less than a copy of the data


@pytest.mark.shows("S55")
def test_07_a_series_may_span_row_groups_and_files(tmp_path: Path) -> None:
    frame = waves({"a": 300, "b": 200, "c": 50})
    whole = stored(tmp_path, frame)
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, start in enumerate(range(0, frame.height, 70)):
        part = frame.slice(start, 70)
        part.write_parquet(folder / f"{number:03}.parquet", row_group_size=16)
    settings = {"path": "parts", "id": "unique_id", "past": ["x"], "freq": "1h", "season": 24}
    data = DataSettings.model_validate(settings)
    parts = prepare(data, tmp_path, tmp_path / "other")
    assert parts.keys == whole.keys
    for name in ("offsets", "segments", "times", "values", "observed"):
        one, other = getattr(whole, name), getattr(parts, name)
        assert one.tobytes() == other.tobytes(), name


@pytest.mark.shows("S54", "S55")
def test_08_statistics_are_those_of_the_training_rows_whatever_their_order(
    store: Store, tmp_path: Path
) -> None:
    parts = split(store, SplitSettings(valid=2, test=2))
    found = train_statistics(store, parts)
    for series in range(store.series_count):
        rows = slice(int(store.offsets[series]), int(parts.train_end[series]))
        target = store.values[rows, 0].astype(np.float64)
        if len(target) > 2:
            np.testing.assert_allclose(found.mean[series], np.nanmean(target), rtol=1e-9)
            np.testing.assert_allclose(found.std[series], np.nanstd(target), rtol=1e-6)
    spoiled = np.array(store.values)
    for series in range(store.series_count):
        spoiled[int(parts.train_end[series]) : int(store.offsets[series + 1])] = 1e9
    again = train_statistics(dataclasses.replace(store, values=spoiled), parts)
    np.testing.assert_array_equal(again.mean, found.mean)
    np.testing.assert_array_equal(again.mase_scale, found.mase_scale)


@pytest.mark.shows("S55")
@pytest.mark.parametrize("planner", [lane_plan, window_plan])
def test_09_a_position_resumes_exactly(store: Store, planner) -> None:
    plan = planner(all_pieces(store), 8, np.random.default_rng(0), SHAPE.sequence)
    whole = as_tuples(walk(store, plan, SHAPE))
    for done in range(0, len(whole) + 1, 5):
        assert as_tuples(walk(store, plan, SHAPE, done)) == whole[done:]


def test_09_a_training_resumes_from_its_checkpoint_to_the_bit(tmp_path: Path) -> None:
    whole = trained(prepared(tmp_path))
    stopped = trained(prepared(tmp_path), 4)
    assert weights(trained(resume_run(stopped.folder))) == weights(whole)


@pytest.mark.shows("S55", "S56")
def test_10_a_mapped_store_trains_as_one_in_memory_to_the_bit(tmp_path: Path) -> None:
    mapped = trained(prepared(tmp_path, waves(LENGTHS)))
    ready = prepared(tmp_path)
    arrays = ("offsets", "segments", "times", "values", "observed")
    copies = {name: np.array(getattr(ready.store, name)) for name in arrays}
    in_memory = dataclasses.replace(ready.store, **copies)
    material = dataclasses.replace(ready.task.material, store=in_memory)
    trainer = Trainer(dataclasses.replace(ready.task, material=material), tmp_path / "last")
    outcome = trainer.fit(lambda news: None, lambda: False)
    assert as_bytes(outcome.network.state_dict()) == weights(mapped)
    assert torch.get_num_threads() == 1


def test_a_sweep_reads_every_row_of_every_series_in_order(store: Store) -> None:
    plan = sweep_plan(all_pieces(store), 5)
    seen: dict[int, list[int]] = {}
    for chunk in walk(store, plan, SHAPE):
        for lane in np.flatnonzero(chunk.length).tolist():
            rows = int(chunk.rows[lane]) + np.arange(int(chunk.length[lane]))
            seen.setdefault(int(chunk.series[lane]), []).extend(rows.tolist())
    for series in range(store.series_count):
        assert seen[series] == list(range(*store.rows_of(series).indices(len(store.times))))
