from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import HOUR_US, START_US, model
from networks import SPECS, network
from numba.core.runtime import _nrt_python, rtsys

from forecastd.artifact import Artifact
from forecastd.features.spec import PARTS, FeatureSpec
from forecastd.network.model import weights_of
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.runtime.kernel_stepper import AHEAD_ROWS_MAX, KernelStepper, unsupported
from forecastd.runtime.stepper import Stepper
from forecastd.runtime.torch_stepper import TorchStepper
from forecastd.series import ForecastBatch, Frequency, IntArray, Keys, ObservationBatch

KNOWN = sorted(name for name, spec in SPECS.items() if unsupported(spec) is None)
SERIES = 30
Kind = tuple[str, dict[str, object]]
QUANTILES = (0.05, 0.2, 0.5, 0.9)


def _observations(seed: int, rows: int, *, start: int = 0) -> ObservationBatch:
    """Return observations of few series in rising time, with holes, repeats and missing values."""
    dice = np.random.default_rng(seed)
    hours = np.sort(dice.integers(0, 9, rows)) + start
    values = (dice.normal(size=(rows, 2)) * 3 + 5).astype(np.float32)
    values[dice.random(values.shape) < 0.1] = np.nan
    keys = [f"s{number}" for number in dice.integers(0, SERIES, rows)]
    return ObservationBatch(Keys.of(keys), START_US + HOUR_US * hours, values)


def _cut(batch: ObservationBatch, cuts: list[int]) -> list[ObservationBatch]:
    places = [0, *sorted(cuts), len(batch)]
    parts = [np.arange(a, b) for a, b in itertools.pairwise(places)]
    return [
        ObservationBatch(batch.keys.take(rows), batch.times[rows], batch.values[rows])
        for rows in parts
    ]


def _artifact(spec: NetworkSpec, seed: int = 0) -> Artifact:
    base = model()
    signature = replace(base.signature, horizon=spec.head.horizon, quantiles=spec.head.quantiles)
    weights, dice = weights_of(network(spec, torch.float32, seed)), np.random.default_rng(seed)
    for array in weights.values():  # many biases and peepholes begin at zero
        array += dice.normal(scale=0.05, size=array.shape).astype(np.float32)
    return replace(base, spec=spec, signature=signature, weights=weights)


def _linear() -> st.SearchStrategy[list[Kind]]:
    """Return maps that have a kernel, with and without a relu."""
    options = st.fixed_dictionaries(
        {
            "size": st.integers(1, 4),
            "filters": st.integers(1, 40),
            "dilation": st.integers(1, 3),
            "padding": st.just("causal"),
        }
    )
    conv = st.tuples(st.just("conv1d"), options)
    whole = st.tuples(
        st.just("fully_connected"), st.fixed_dictionaries({"size": st.integers(1, 40)})
    )
    relu: st.SearchStrategy[list[Kind]] = st.sampled_from([[], [("relu", {})]])
    return st.builds(lambda one, after: [one, *after], st.one_of(conv, whole), relu)


def _recurrent() -> st.SearchStrategy[Kind]:
    """Return kinds of layers that have a kernel, with options that change what they compute."""
    resets = st.sampled_from(["after-multiplication", "recurrent-bias-after-multiplication"])
    hidden = st.integers(1, 40)
    return st.one_of(
        st.tuples(st.just("lstm"), st.fixed_dictionaries({"hidden": hidden})),
        st.tuples(st.just("gru"), st.fixed_dictionaries({"hidden": hidden, "reset": resets})),
        st.tuples(
            st.just("peephole_lstm"),
            st.fixed_dictionaries(
                {"hidden": hidden, "variant": st.sampled_from(["gers", "input-node"])}
            ),
        ),
        st.tuples(
            st.just("projected_lstm"),
            hidden.flatmap(
                lambda size: st.fixed_dictionaries(
                    {
                        "hidden": st.just(size),
                        "input_projector": st.just(1),
                        "output_projector": st.integers(1, size),
                    }
                )
            ),
        ),
    )


@st.composite
def _heads(draw: st.DrawFn) -> tuple[HeadSpec, list[Kind]]:
    """Return a head that has a kernel, and the layers that map to it where it has no map."""
    kind = draw(st.sampled_from(["point", "quantile", "gaussian", "responses", "classes"]))
    size, lags = draw(st.integers(1, 40)), draw(st.integers(0, 40))
    if kind in {"responses", "classes"}:
        head = HeadSpec(kind, 1, (), 0, size + 1, draw(st.booleans()))
        last: list[Kind] = [("fully_connected", {"size": size + 1})]
        if kind == "classes" and draw(st.booleans()):
            last.append(("softmax", {}))
    elif kind == "point":
        head = HeadSpec(kind, size, (), lags, 0, draw(st.booleans()))
        last = [("fully_connected", {"size": size})]
    else:
        quantiles = draw(st.sampled_from([(0.1, 0.5, 0.9), QUANTILES]))
        head, last = HeadSpec(kind, size, quantiles, lags), draw(_linear())
    return head, last if not head.linear or draw(st.booleans()) else []


@st.composite
def _specs(draw: st.DrawFn) -> NetworkSpec:
    """Return networks that have kernels, from what goes in to what comes out."""
    maps = draw(st.lists(_linear(), max_size=2))
    recurrent = draw(st.lists(_recurrent(), max_size=3))
    head, last = draw(_heads())
    dropout: list[Kind] = draw(st.sampled_from([[], [("dropout", {"share": 0.5})]]))
    after = draw(_linear()) if head.linear else []
    kinds = [*itertools.chain(*maps), *recurrent, *after, *dropout, *last]
    kinds = kinds or [("lstm", {"hidden": 3})]
    layers = tuple(LayerSpec(f"layer_{n}", *kind) for n, kind in enumerate(kinds))
    clocks = ("hour", "weekday", "yearday", "season")[: draw(st.integers(0, 4))]
    scaling = draw(st.sampled_from(["running", "zscore"]))
    parts = draw(st.sampled_from([PARTS, ("value",), ("value", "observed"), ("change",)]))
    features = FeatureSpec(2, clocks, 12.0, head.lags, 3, (4,), scaling, parts)
    return NetworkSpec(features, layers, head)


def _same(one: ForecastBatch, other: ForecastBatch) -> None:
    assert list(one.keys) == list(other.keys)
    np.testing.assert_array_equal(one.origins, other.origins)
    np.testing.assert_array_equal(one.values, other.values)


@settings(max_examples=60)
@given(_specs(), st.integers(0, 1000))
def test_kernels_forecast_what_torch_does(spec: NetworkSpec, seed: int) -> None:
    artifact = _artifact(spec, seed)
    kernels, reference = KernelStepper(artifact, SERIES), TorchStepper(artifact, SERIES)
    for number in range(4):
        batch = _observations(seed + number, 50, start=7 * number)
        ours, theirs = kernels.step(batch), reference.step(batch)
        assert ours[1:4] == theirs[1:4]
        scale = 1e-5 * max(1.0, float(np.abs(theirs.forecasts.values).max(initial=0)))
        np.testing.assert_allclose(
            ours.forecasts.values, theirs.forecasts.values, rtol=1e-5, atol=scale
        )
        assert kernels.arena.layout == reference.arena.layout
        slots = np.unique(ours.slots)
        again = kernels.forecast(slots).values
        np.testing.assert_allclose(again, reference.forecast(slots).values, rtol=1e-5, atol=scale)


@settings(max_examples=20)
@given(
    st.sampled_from(KNOWN),
    st.integers(0, 1000),
    st.lists(st.integers(0, 300), max_size=8),
    st.integers(1, 3),
)
def test_batches_and_threads_change_no_bit(
    name: str, seed: int, cuts: list[int], threads: int
) -> None:
    whole, parts = (
        KernelStepper(model(name), SERIES, 1),
        KernelStepper(model(name), SERIES, threads),
    )
    batch = _observations(seed, 300)
    expected = whole.step(batch)
    results = [parts.step(part) for part in _cut(batch, cuts)]
    assert sum(result.filled for result in results) == expected.filled
    values = np.concatenate([result.forecasts.values for result in results])
    np.testing.assert_array_equal(values, expected.forecasts.values)
    np.testing.assert_array_equal(
        whole.arena.rows[: len(whole.arena)], parts.arena.rows[: len(parts.arena)]
    )


def test_more_rows_than_a_stretch_and_two_threads() -> None:
    dice = np.random.default_rng(0)
    series, rounds = 3000, 4
    keys = Keys.of([f"s{number}" for number in range(series)] * rounds)
    times = START_US + HOUR_US * np.repeat(np.arange(rounds), series)
    batch = ObservationBatch(keys, times, dice.normal(size=(len(keys), 2)).astype(np.float32))
    one, two = KernelStepper(model(), series, 1), KernelStepper(model(), series, 2)
    _same(one.step(batch).forecasts, two.step(batch).forecasts)


def test_states_move_between_kernels_and_torch() -> None:
    first, second = _observations(1, 200), _observations(2, 200, start=9)
    kernels, reference = KernelStepper(model(), SERIES), TorchStepper(model(), SERIES)
    kernels.step(first)
    reference.arena.restore(kernels.arena.snapshot())
    ours, theirs = kernels.step(second).forecasts, reference.step(second).forecasts
    np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text", ["1mo", "3mo", "1d", "7"])
def test_holes_of_every_frequency_are_filled_alike(text: str) -> None:
    base = model()
    frequency = Frequency.parse(text)
    artifact = replace(base, signature=replace(base.signature, frequency=frequency), max_gap=4)
    kernels, reference = KernelStepper(artifact, SERIES), TorchStepper(artifact, SERIES)
    start = int(np.datetime64("2019-10-31", "us").astype(np.int64))
    dice = np.random.default_rng(5)
    steps = np.cumsum(dice.integers(1, 7, 60))
    times = frequency.advance(np.full(60, start), steps)
    values = dice.normal(size=(60, 2)).astype(np.float32)
    batch = ObservationBatch(Keys.of(["a"] * 60), times, values)
    ours, theirs = kernels.step(batch), reference.step(batch)
    assert (ours.filled, ours.resets) == (theirs.filled, theirs.resets)
    assert ours.filled > 0 < ours.resets
    np.testing.assert_allclose(ours.forecasts.values, theirs.forecasts.values, rtol=1e-5, atol=1e-5)


def test_what_has_no_kernel_is_named() -> None:
    spec = SPECS["lstm_quantile"]
    assert unsupported(spec) is None
    odd = replace(spec, layers=(LayerSpec("strange", "bilstm", {"hidden": 3}),))
    assert unsupported(odd) == "layer 'strange' of kind 'bilstm'"


@pytest.mark.parametrize("stepper", [KernelStepper, TorchStepper])
def test_states_forecast_what_the_last_step_did(stepper: type[Stepper]) -> None:
    for name in KNOWN:
        one, other = stepper(model(name), SERIES), stepper(model(name), SERIES)
        batch = _observations(4, 120)
        expected = one.step(batch).forecasts
        silent = other.step(batch, forecast=0)
        assert len(silent.forecasts) == 0
        np.testing.assert_array_equal(one.arena.view().rows, other.arena.view().rows)
        slots = np.arange(len(other.arena))
        found = other.forecast(slots)
        newest = {key: row for row, key in enumerate(expected.keys)}
        rows = [newest[key] for key in found.keys]
        np.testing.assert_array_equal(found.origins, expected.origins[rows])
        np.testing.assert_array_equal(found.values, expected.values[rows])


@settings(max_examples=10)
@given(
    st.sampled_from(KNOWN),
    st.integers(0, 100),
    st.lists(st.integers(0, 199), max_size=4),
    st.integers(2, 4),
)
def test_a_forecast_after_every_few_steps_of_a_series(
    name: str, seed: int, cuts: list[int], every: int
) -> None:
    batch = _observations(seed, 200)
    plain = KernelStepper(model(name), SERIES, 1)
    wanted = []
    for row in range(len(batch)):
        one = plain.step(_cut(batch, [row, row + 1])[1])
        steps = plain.arena.rows["steps"][one.slots]
        if len(one.forecasts) and steps[0] % every == 0:
            wanted.append(one.forecasts)
    for some in (KernelStepper(model(name), SERIES, 2), TorchStepper(model(name), SERIES)):
        found = [some.step(part, forecast=every).forecasts for part in _cut(batch, cuts)]
        assert [key for part in found for key in part.keys] == [one.keys[0] for one in wanted]
        origins = np.concatenate([part.origins for part in found])
        np.testing.assert_array_equal(origins, [one.origins[0] for one in wanted])
        values = np.concatenate([part.values for part in found])
        expected = np.concatenate([one.values for one in wanted])
        close = 1e-5 if isinstance(some, TorchStepper) else 0.0
        np.testing.assert_allclose(values, expected, rtol=close, atol=close)


@settings(max_examples=20)
@given(st.sampled_from(KNOWN), st.integers(0, 100), st.lists(st.integers(0, 99)))
def test_latency_mode_changes_no_bit(name: str, seed: int, cuts: list[int]) -> None:
    plain = KernelStepper(model(name), SERIES, 1)
    ahead = KernelStepper(model(name), SERIES, 1, latency=True)
    for part in _cut(_observations(seed, 100), cuts):
        expected, found = plain.step(part), ahead.step(part)
        _same(found.forecasts, expected.forecasts)
        ahead.prepare()
        assert ahead.arena.derived is not None
        made = ahead.arena.derived[found.slots] != 0
        assert made.all() == (len(part) <= AHEAD_ROWS_MAX or len(part) == 0)
    for key in list(plain.arena.keys):
        at = int(plain.arena.rows["last_time"].max()) + HOUR_US
        one = ObservationBatch(Keys.of([key]), np.array([at]), np.ones((1, 2), np.float32))
        _same(ahead.step(one).forecasts, plain.step(one).forecasts)


def test_a_row_that_others_wrote_is_made_ahead_anew() -> None:
    plain, ahead = (
        KernelStepper(model(), SERIES, 1),
        KernelStepper(model(), SERIES, 1, latency=True),
    )
    first, second = _observations(1, 40), _observations(2, 40, start=9)
    plain.step(first)
    ahead.step(_observations(3, 40))
    ahead.prepare()
    ahead.arena.restore(plain.arena.snapshot())
    for row in range(len(second)):
        rows = np.array([row])
        one = ObservationBatch(second.keys.take(rows), second.times[rows], second.values[rows])
        _same(ahead.step(one).forecasts, plain.step(one).forecasts)


def test_a_step_is_one_call_that_allocates_no_more_than_an_empty_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stepper = KernelStepper(model(), SERIES, 1)
    stepper.step(_observations(1, 200))
    step = stepper._kernel
    calls: list[int] = []

    def allocated(table: IntArray, count: int) -> int:
        before = rtsys.get_allocation_stats().alloc
        step(table, count)
        return int(rtsys.get_allocation_stats().alloc - before)

    def counted(table: IntArray, count: int) -> None:
        calls.append(count)
        assert allocated(table, count) == handles

    _nrt_python.memsys_enable_stats()
    handles = allocated(stepper.programs[0].table, 0)
    monkeypatch.setattr(stepper, "_kernel", counted)
    stepper.step(_observations(2, 200, start=9))
    capacity = stepper.batch.capacity
    keys = Keys.of([f"s{number % SERIES}" for number in range(capacity + 5)])
    times = START_US + HOUR_US * (100 + np.arange(capacity + 5) // SERIES)
    stepper.step(ObservationBatch(keys, times, np.ones((capacity + 5, 2), np.float32)))
    _nrt_python.memsys_disable_stats()
    assert calls == [200, capacity, 5]
