from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import inputs

from forecastd.features.encoder import Encoded, Encoder, EncoderState, Inputs
from forecastd.features.spec import FeatureSpec

CPU = torch.device("cpu")
NAN = float("nan")


def encoded(
    *values: float, lags: int = 3, embedding: int = 0, code: int = 0
) -> tuple[Encoded, EncoderState]:
    """Encode one series of one channel without clocks."""
    encoder = Encoder(FeatureSpec(1, (), 4.0, lags, embedding, (3,)))
    torch.nn.init.constant_(encoder.embeddings[0].weight, 7.0) if embedding else None
    x = Inputs(
        torch.tensor(values, dtype=torch.float32)[None, :, None],
        torch.zeros(1, len(values), 0),
        torch.tensor([[code]]),
    )
    with torch.no_grad():
        return encoder.unroll(x, encoder.initial_state(1, CPU))


def test_value_difference_and_mark_of_each_channel() -> None:
    found, _ = encoded(10.0, 14.0, 12.0)
    location, spread = found.location[0], found.spread[0]
    scaled = (torch.tensor([10.0, 14.0, 12.0]) - location) / spread
    moved = torch.tensor([0.0, 4.0, -2.0]) / spread
    np.testing.assert_allclose(found.inputs[0, :, 0], scaled, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.inputs[0, :, 1], moved, rtol=1e-5, atol=1e-6)
    assert found.inputs[0, :, 2].tolist() == [1, 1, 1]


@pytest.mark.trap(26)
def test_a_missing_value_is_zero_and_marked() -> None:
    found, _ = encoded(NAN, 10.0, NAN, float("inf"), 16.0)
    assert found.inputs[0, :, 2].tolist() == [0, 1, 0, 0, 1]
    assert found.inputs[0, [0, 2, 3], :2].abs().sum() == 0
    # The difference reaches back to the last value there was.
    assert found.inputs[0, 4, 1].item() == pytest.approx(6 / found.spread[0, 4].item(), rel=1e-6)


def test_the_ring_is_filled_with_the_first_value_then_moves() -> None:
    found, state = encoded(NAN, 5.0, NAN, 8.0)
    assert state.ring.tolist() == [[5.0, 5.0, 8.0]]
    assert found.history.tolist() == [[5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 8.0]]
    assert found.started.tolist() == [[False, True, True, True]]
    assert state.latest.tolist() == [[8.0]]


def test_a_series_that_was_never_observed_remembers_nothing() -> None:
    found, state = encoded(NAN, NAN)
    assert not any(part.any() for part in state)
    assert not found.started.any()
    assert torch.isfinite(found.inputs).all()


def test_without_lags_there_is_no_ring() -> None:
    found, state = encoded(1.0, 2.0, lags=0)
    assert state.ring.shape == (1, 0)
    assert found.history.shape == (1, 2)


def test_the_category_is_appended_at_every_step() -> None:
    found, _ = encoded(1.0, 2.0, embedding=2, code=1)
    assert found.inputs.shape == (1, 2, 3 + 2)
    assert found.inputs[0, :, 3:].tolist() == [[7, 7], [7, 7]]


def test_width_counts_all_inputs() -> None:
    spec = FeatureSpec(2, ("hour", "weekday"), 4.0, 3, 5, (3, 4))
    assert spec.width == 3 * 2 + 2 * 2 + 5 * 2


@pytest.mark.trap(26)
@pytest.mark.parametrize("seed", range(5))
def test_inputs_are_always_finite(seed: int) -> None:
    encoder = Encoder(FeatureSpec(2, ("hour",), 12.0, 16, 3, (4,)))
    x = inputs(12, 60, seed, torch.float32)
    found, state = encoder.unroll(x, encoder.initial_state(12, CPU))
    for part in (found.inputs, found.location, found.spread, found.history, *state):
        assert torch.isfinite(part).all()
    assert (found.spread > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "spec",
    [
        FeatureSpec(2, ("hour",), 24.0, 3, 2, (4,)),
        FeatureSpec(2, ("hour",), 24.0, 0, 0, (4,)),
        FeatureSpec(2, (), 24.0, 0, 0, (4,), scaling="fixed", parts=("value",), frame=(1, 2)),
    ],
    ids=["lags", "no lags", "frames"],
)
def test_a_step_is_unrolling_one_to_the_last_bit(spec: FeatureSpec, dtype: torch.dtype) -> None:
    encoder = Encoder(spec).to(dtype)
    x = inputs(8, 30, 3, dtype)
    padding = torch.where(torch.rand(8, 30) < 0.1, 7.0, torch.nan).to(dtype)
    state = encoder.initial_state(8, x.values.device)
    for t in range(30):
        at = slice(t, t + 1)
        clocks = x.clocks[:, at, : 2 * len(spec.clocks)].to(dtype)
        one = Inputs(x.values[:, at], clocks, x.codes, padding[:, at])
        found, after = encoder.step(one, state)
        expected, state = encoder.unroll(one, state)
        for mine, its in zip((*found, *after), (*expected, *state), strict=True):
            torch.testing.assert_close(mine, its, rtol=0, atol=0, equal_nan=True)
