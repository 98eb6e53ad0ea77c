"""From errors of steps to the loss of a mini-batch, and which steps have a part in it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_runs import trained
from torch import Tensor

from forecastd.config import TrainConfig
from forecastd.data.lanes import Piece, Pieces
from forecastd.features.scaling import FixedScale
from forecastd.network.heads import PointHead
from forecastd.network.model import Forecast
from forecastd.network.spec import HeadSpec
from forecastd.training.averaging import Loss
from forecastd.training.passes import cut, training_pass, validation_pass
from forecastd.training.run import Prepared, start_run

LENGTHS = {"a": 3, "b": 10, "c": 5, "d": 7}


class Given:
    """Errors that are the targets themselves; those that are NaN are unknown."""

    def __init__(self, power: int = 0) -> None:
        self.power = power

    def __call__(self, forecast: Forecast, target: Tensor) -> tuple[Tensor, Tensor]:
        return torch.nan_to_num(target), torch.isfinite(target)


def forecast(rows: int, steps: int, spread: float = 1.0) -> Forecast:
    head = PointHead(1, HeadSpec("point", 1))
    spreads = torch.full((rows, steps), spread, dtype=torch.float64)
    return Forecast(torch.zeros(rows, steps, 1, 1), torch.zeros_like(spreads), spreads, head)


def found(loss: Loss, errors: Tensor, counts: Tensor, spread: float = 1.0) -> tuple[float, int]:
    deviation = torch.full((len(errors),), 2.0, dtype=torch.float64)
    value, stands_for = loss(forecast(*counts.shape, spread), errors, counts, deviation)
    return value.item(), stands_for


@pytest.mark.trap(12)
@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    seed=st.integers(0, 99),
    unknown=st.booleans(),
)
def test_a_mini_batch_is_the_mean_over_sequences_of_the_mean_over_their_steps(
    lengths: list[int], seed: int, unknown: bool
) -> None:
    errors = torch.from_numpy(np.random.default_rng(seed).random((len(lengths), 6, 2)))
    if unknown:
        errors[:, 1] = torch.nan
    counts = torch.arange(6) < torch.tensor(lengths)[:, None]
    value, stands_for = found(Loss(Given(), weighed=False, by_row=True), errors, counts)
    means = []
    for row, length in zip(errors.tolist(), lengths, strict=True):
        known = [e for t, step in enumerate(row[:length]) for e in step if not (unknown and t == 1)]
        means += [sum(known) / len(known)] if known else []
    assert stands_for == len(means)
    assert value == pytest.approx(sum(means) / len(means) if means else 0.0, rel=1e-6)


def test_lanes_are_the_mean_over_all_steps() -> None:
    errors = torch.tensor([[[4.0], [2.0]], [[1.0], [9.0]]])
    counts = torch.tensor([[True, True], [True, False]])
    assert found(Loss(Given(), weighed=False), errors, counts) == (pytest.approx(7 / 3), 3)


@pytest.mark.parametrize(("power", "expected"), [(0, 3.0), (1, 9.0), (2, 27.0)])
def test_errors_of_forecasts_count_in_deviations_of_their_series(
    power: int, expected: float
) -> None:
    errors, counts = torch.full((1, 2, 1), 3.0), torch.ones(1, 2, dtype=torch.bool)
    loss = Loss(Given(power), weighed=True)
    assert found(loss, errors, counts, spread=6.0)[0] == pytest.approx(expected)
    plain = Loss(Given(power), weighed=False)
    assert found(plain, errors, counts, spread=6.0)[0] == pytest.approx(3.0)


def prepared(folder: Path, network: dict[str, Any], **train: Any) -> Prepared:
    """Make a regression ready: the answer at each step of four short series."""
    frames = [
        pl.DataFrame(
            {"id": [key] * n, "t": range(n), "x": np.sin(np.arange(n)), "y": np.arange(n) * 1.0}
        )
        for key, n in LENGTHS.items()
    ]
    pl.concat(frames).write_parquet(folder / "short.parquet")
    settings = {
        "data": {"path": "short.parquet", "id": "id", "time": "t", "target": "y", "past": ["x"]},
        "task": {"kind": "regression"},
        "split": {"valid": 0, "test": 0},
        "network": network if "layers" in network else {"hidden": 3, "dropout": 0.0, **network},
        "train": {"threads": 1, "mode": "sequences", "batch": 4, "epochs": 1, **train},
    }
    return start_run(TrainConfig.model_validate(settings), folder, folder / "runs")


def marked(ready: Prepared) -> list[tuple[int, list[int]]]:
    """Return steps of each chunk, and how many of each row carry loss."""
    way = training_pass(ready.task, 0)
    chunks = list(way.walk(0))
    assert len(chunks) == way.chunks
    return [
        (chunk.values.shape[1], way.marks(chunk, number).counts.sum(1).tolist())
        for number, chunk in enumerate(chunks)
    ]


@pytest.mark.trap(14)
def test_every_real_step_of_a_sequence_carries_loss_once(tmp_path: Path) -> None:
    ready = prepared(tmp_path, {}, sequence_length=5, shuffle="never")
    assert marked(ready) == [(5, [3, 5, 5, 5]), (5, [0, 5, 0, 2])]  # 10 steps are two pieces of 5
    assert trained(ready).outcome.progress.steps == 2


@pytest.mark.shows("S47")
def test_what_is_said_once_carries_loss_where_its_sequence_ends(tmp_path: Path) -> None:
    ready = prepared(tmp_path, {"output": "last"}, sequence_length=4, shuffle="never")
    assert marked(ready) == [(4, [1, 0, 0, 0]), (4, [0, 0, 1, 1]), (2, [0, 1, 0, 0])]
    assert trained(ready).outcome.progress.steps == 3


@pytest.mark.shows("S4", "S9")
@pytest.mark.trap(31)
def test_the_loss_of_a_training_is_half_the_squares_by_hand(tmp_path: Path) -> None:
    ready = prepared(tmp_path, {}, solver="sgdm", lr=1e-9, l2=0.0, clip=0.0)
    run = trained(ready)
    store, network = ready.store, ready.trainer.network
    targets = np.array(store.values[:, 0], np.float64)
    scaled = (targets - targets.mean()) / targets.std(ddof=1)
    weight = network.head.state_dict()["responses.weight"]
    halves = []
    for number, key in enumerate(LENGTHS):
        assert store.keys[number] == key
        rows = slice(int(store.offsets[number]), int(store.offsets[number + 1]))
        chunk_inputs = ready.trainer.walker._inputs(
            np.array(store.values[rows])[None],
            np.array(store.times[rows])[None],
            np.array([number]),
        )
        with torch.no_grad():
            raw = network.unroll(chunk_inputs, network.initial_state(1))[0].raw[0, :, 0, 0]
        halves.append((0.5 * (raw.numpy() - scaled[rows]) ** 2).mean())
    assert weight.shape == (1, 3)
    assert run.outcome.progress.history[0]["loss"] == pytest.approx(np.mean(halves), rel=1e-4)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    window=st.integers(1, 8),
    overlap=st.integers(0, 7),
)
def test_windows_cover_the_end_of_each_piece(lengths: list[int], window: int, overlap: int) -> None:
    stride = max(1, window - overlap)
    begins = np.cumsum([0, *lengths])
    pieces = Pieces.of(
        Piece(n, int(begins[n]), int(begins[n + 1]), int(begins[n]), int(begins[n + 1]))
        for n in range(len(lengths))
    )
    cuts = list(cut(pieces, window, stride))
    for piece in pieces:
        own = [one for one in cuts if one.series == piece.series]
        assert own[0].begin == piece.begin
        assert own[-1].end == piece.end
        assert all(0 < one.end - one.begin <= window for one in own)
        assert all(b.begin - a.begin == stride for a, b in itertools.pairwise(own))


@pytest.mark.parametrize("output", ["sequence", "last"])
def test_a_network_that_needs_the_future_is_validated_in_windows(
    output: str, tmp_path: Path
) -> None:
    network = {"kind": "bilstm", "output": output}
    ready = prepared(tmp_path, network, mode="windows", sequence=3, epochs=2)
    task = ready.task
    object.__setattr__(task.material.parts, "valid_begin", ready.store.offsets[:-1] + 1)
    object.__setattr__(task.material.parts, "valid_end", ready.store.offsets[1:])
    way = validation_pass(task)
    for number, chunk in enumerate(way.walk(0)):
        assert chunk.ends is not None
        assert chunk.fresh[chunk.length > 0].all()  # from a cold state, each
        marks = way.marks(chunk, number)
        first = chunk.rows[:, None] + marks.at
        counted = first[np.broadcast_to(marks.counts, first.shape)] if output == "sequence" else []
        assert all(row not in ready.store.offsets for row in counted)
    assert np.isfinite(trained(ready).outcome.progress.best)


@pytest.mark.shows("S14")
@pytest.mark.trap(18)
@pytest.mark.parametrize("mode", ["sequences", "lanes", "windows"])
def test_batch_norm_ends_with_the_statistics_of_all_rows_that_train(
    mode: str, tmp_path: Path
) -> None:
    layers = [{"type": "batch_norm", "statistics": "population"}, {"type": "lstm", "hidden": 3}]
    ready = prepared(tmp_path, {"layers": layers}, mode=mode, sequence=4)
    statistics = trained(ready).outcome.network.state_dict()
    rows = sum(LENGTHS.values())  # inputs are scaled to mean 0 and sample deviation 1
    assert statistics["layers.batch_norm_1.mean"].item() == pytest.approx(0.0, abs=1e-5)
    found = statistics["layers.batch_norm_1.variance"].item()
    assert found == pytest.approx((rows - 1) / rows, rel=1e-4)


@pytest.mark.trap(18)
def test_padding_of_lanes_is_kept_from_batch_norm(tmp_path: Path) -> None:
    layers = [{"type": "batch_norm"}, {"type": "lstm", "hidden": 3}]
    ready = prepared(tmp_path, {"layers": layers}, mode="lanes", sequence=4)
    way = training_pass(ready.task, 0)
    chunks = list(way.walk(0))
    assert any((chunk.length < chunk.values.shape[1]).any() for chunk in chunks)
    network = ready.trainer.network
    scale = network.encoder.scale
    assert isinstance(scale, FixedScale)
    for chunk in chunks:
        before = network.state_dict()["layers.batch_norm_1.mean"].item()
        ready.trainer.walker.unroll(chunk)
        after = network.state_dict()["layers.batch_norm_1.mean"].item()
        real = np.arange(chunk.values.shape[1]) < chunk.length[:, None]
        inputs = (chunk.values[..., 1][real] - scale.location.item()) / scale.spread.item()
        assert after == pytest.approx(0.9 * before + 0.1 * inputs.mean(), abs=1e-5)
