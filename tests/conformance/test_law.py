"""The law: `unroll` equals `step` repeated, for any chunking, and rows do not touch each other.

For the scaler, each head of the table, and whole networks; for layers see test_layers.py. The
tolerances are those of DESIGN: 1e-10 in float64; 1e-5 in float32, whose sums are ordered by the
kernel.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import MORE_SPECS, SPECS, SUPERVISED_SPECS, cut, inputs, network
from torch import Tensor

from forecastd.features.encoder import Inputs
from forecastd.features.scaling import RunningScale
from forecastd.network.heads import HEADS
from forecastd.network.model import Forecast, flatten
from forecastd.network.outputs import SUPERVISED
from forecastd.network.spec import HeadSpec

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
WIDTH = 6

ALL_SPECS = SPECS | MORE_SPECS | SUPERVISED_SPECS
dtypes = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=6)
seeds = st.integers(0, 10_000)


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Assert equality within the tolerance, relative to the size of the numbers."""
    torch.testing.assert_close(
        found, expected, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype], equal_nan=True
    )


def told(forecast: Forecast) -> Tensor:
    """Return all that the numbers of a forecast are made of, number by number."""
    scale = torch.stack([forecast.location, forecast.spread], -1).to(forecast.raw.dtype)
    return torch.cat([forecast.raw.flatten(2), scale], -1)


def chunks(lengths: list[int]) -> list[slice]:
    ends = list(itertools.accumulate(lengths))
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def test_every_head_is_in_a_network_here() -> None:
    assert {spec.head.kind for spec in ALL_SPECS.values()} == HEADS.keys()


@pytest.mark.trap(22)
@given(lengths=cuts, seed=seeds, series=st.integers(1, 5))
def test_scaler_folds(lengths: list[int], seed: int, series: int) -> None:
    scaler = RunningScale(2, 7.0)
    xs = inputs(series, sum(lengths), seed, torch.float64).values
    whole, last = scaler.unroll(xs, scaler.initial_state(series, xs.device))
    state, stepped = scaler.initial_state(series, xs.device), []
    for t in range(xs.shape[1]):
        scale, state = scaler.step(xs[:, t], state, torch.isfinite(xs[:, t]))
        stepped.append(torch.stack(scale))
    close(torch.stack(stepped, 2), torch.stack(whole), torch.float64)
    state = scaler.initial_state(series, xs.device)
    for part in chunks(lengths):
        _, state = scaler.unroll(xs[:, part], state)
    for found, expected in zip(state, last, strict=True):
        close(found, expected, torch.float64)


@dtypes
@pytest.mark.parametrize("kind", HEADS)
def test_head_takes_steps_one_by_one(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    quantiles = () if kind == "point" or kind in SUPERVISED else (0.1, 0.5, 0.9)
    spec = HeadSpec(kind, 1, (), 0, 3) if kind in SUPERVISED else HeadSpec(kind, 4, quantiles, 3)
    head = HEADS[kind](WIDTH, spec).to(dtype)
    y, lags = torch.randn(2, 9, WIDTH, dtype=dtype), torch.randn(2, 9, 3, dtype=dtype)
    scale = torch.rand(2, 2, 9, dtype=torch.float64) + 1
    with torch.no_grad():
        whole = head.placed(head(y, lags), *scale)
        parts = [head.placed(head(y[:, t], lags[:, t]), *scale[:, :, t]) for t in range(9)]
        forecast = head.forecast(whole)
    assert forecast.shape == (2, 9, spec.horizon, spec.outputs or max(1, len(quantiles)))
    close(torch.stack(parts, 1), whole, dtype)


@pytest.mark.shows("S36", "S81")
@pytest.mark.trap(22)
@dtypes
@pytest.mark.parametrize("name", ALL_SPECS)
@given(lengths=cuts, seed=seeds, series=st.integers(1, 6))
@settings(max_examples=25)
def test_network_folds(
    name: str, dtype: torch.dtype, lengths: list[int], seed: int, series: int
) -> None:
    net = network(ALL_SPECS[name], dtype, seed)
    x = inputs(series, sum(lengths), seed, dtype)
    with torch.no_grad():
        whole, last = net.unroll(x, net.initial_state(series))
        state, stepped = net.initial_state(series), []
        for t in range(sum(lengths)):
            forecast, state = net.step(cut(x, slice(t, t + 1)), state)
            stepped.append(told(forecast))
        close(torch.cat(stepped, 1), told(whole), dtype)
        names = list(net.layers)
        for found, expected in zip(
            flatten(state, names).values(), flatten(last, names).values(), strict=True
        ):
            close(found, expected, dtype)
        state, parts = net.initial_state(series), []
        for part in chunks(lengths):
            forecast, state = net.unroll(cut(x, part), state)
            parts.append(told(forecast))
        close(torch.cat(parts, 1), told(whole), dtype)


@pytest.mark.shows("S43")
@dtypes
@pytest.mark.parametrize("name", ALL_SPECS)
def test_a_batch_is_its_rows_one_by_one(name: str, dtype: torch.dtype) -> None:
    net = network(ALL_SPECS[name], dtype)
    x = inputs(7, 40, 3, dtype)
    with torch.no_grad():
        whole, _ = net.unroll(x, net.initial_state(7))
        for row in range(7):
            one = Inputs(*(part[row : row + 1] for part in x[:3]))
            alone, _ = net.unroll(one, net.initial_state(1))
            close(told(alone), told(whole)[row : row + 1], dtype)


@pytest.mark.shows("S88")
@pytest.mark.parametrize("name", ALL_SPECS)
@given(seed=seeds, moment=st.integers(0, 29))
@settings(max_examples=25)
def test_no_step_sees_its_future(name: str, seed: int, moment: int) -> None:
    net = network(ALL_SPECS[name], torch.float64, seed)
    x = inputs(4, 30, seed, torch.float64)
    other = inputs(4, 30, seed + 1, torch.float64)
    changed = torch.cat([x.values[:, : moment + 1], other.values[:, moment + 1 :]], 1)
    with torch.no_grad():
        before, _ = net.unroll(x, net.initial_state(4))
        after, _ = net.unroll(x._replace(values=changed), net.initial_state(4))
    upto = slice(0, moment + 1)
    close(told(after)[:, upto], told(before)[:, upto], torch.float64)


@pytest.mark.parametrize("name", SPECS | MORE_SPECS)
@given(seed=seeds)
@settings(max_examples=10)
def test_forecasts_are_finite_and_quantiles_never_cross(name: str, seed: int) -> None:
    net = network(ALL_SPECS[name], torch.float32, seed)
    x = inputs(6, 50, seed, torch.float32)
    with torch.no_grad():
        forecast, _ = net.unroll(x, net.initial_state(6))
    values = forecast.unscaled()
    assert torch.isfinite(values).all()
    assert (values.diff(dim=-1) >= 0).all()


def test_forecasts_from_chosen_steps_are_those_of_all_steps() -> None:
    net = network(SPECS["two_layers"], torch.float64)
    x = inputs(3, 20, 1, torch.float64)
    at = torch.tensor([0, 7, 19])
    with torch.no_grad():
        every, _ = net.unroll(x, net.initial_state(3))
        chosen, _ = net.unroll(x, net.initial_state(3), at)
    close(chosen.unscaled(), every.unscaled()[:, at], torch.float64)


def test_warming_the_features_is_what_unroll_does_to_them() -> None:
    net = network(SPECS["lstm_quantile"], torch.float64)
    x = inputs(3, 20, 1, torch.float64)
    with torch.no_grad():
        warmed = net.warm(x, net.initial_state(3))
        _, unrolled = net.unroll(x, net.initial_state(3))
    for found, expected in zip(warmed.encoder, unrolled.encoder, strict=True):
        assert torch.equal(found, expected)
    assert all(not part.any() for part in warmed.layers[0])
