"""The torch stepper on a GPU: graphs, states that stay there, and the CPU, all within 1e-5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from live_steps import same_steps, some_batches
from models import HOUR_US, START_US, model
from networks import SPECS

from forecastd.runtime import checkpoint, device_rows
from forecastd.runtime.checkpoint import Checkpoint
from forecastd.runtime.measuring import untrained, wave_turn
from forecastd.runtime.stepper import StepResult
from forecastd.runtime.torch_stepper import ON_DEVICE, Placement, TorchStepper
from forecastd.series import Keys, ObservationBatch

pytestmark = pytest.mark.gpu

SERIES_MAX = 80
STEPS = 200


def silent(remark: str) -> None:
    """Let no wave be launched kernel by kernel."""
    raise AssertionError(remark)


def on_gpu(name: str = "lstm_quantile", series_max: int = SERIES_MAX) -> TorchStepper:
    return TorchStepper(model(name), series_max, "cuda", tell=silent)


def stepped(stepper: TorchStepper, hour: int, keys: Keys) -> StepResult:
    """Step all series once; the values are those of the hour."""
    values = np.random.default_rng(hour).normal(size=(len(keys), 2)).astype(np.float32)
    return stepper.step(
        ObservationBatch(keys, np.full(len(keys), START_US + hour * HOUR_US), values)
    )


@pytest.mark.parametrize("name", SPECS)
def test_a_gpu_forecasts_as_the_cpu(name: str) -> None:
    same_steps(on_gpu(name), TorchStepper(model(name), SERIES_MAX), some_batches(1))


@pytest.mark.parametrize("count", [1, 5, 70])
def test_carried_steps_stay_with_the_cpu(count: int) -> None:
    gpu, cpu = on_gpu(), TorchStepper(model(), SERIES_MAX)
    keys = Keys.of(f"s{number}" for number in range(count))
    for hour in range(STEPS):
        ours, theirs = stepped(gpu, hour, keys), stepped(cpu, hour, keys)
    scale = np.abs(theirs.forecasts.values).max()
    np.testing.assert_allclose(
        ours.forecasts.values, theirs.forecasts.values, rtol=1e-5, atol=1e-5 * scale
    )


def test_a_checkpoint_goes_to_the_gpu_and_back(tmp_path: Path) -> None:
    parts, path = list(some_batches(2)), tmp_path / "state"
    first, gpu, last = (
        TorchStepper(model(), SERIES_MAX),
        on_gpu(),
        TorchStepper(model(), SERIES_MAX),
    )
    reference = TorchStepper(model(), SERIES_MAX)
    for before, after, some in (
        (None, first, parts[:2]),
        (first, gpu, parts[2:4]),
        (gpu, last, parts[4:]),
    ):
        if before is not None:
            checkpoint.save(path, Checkpoint(before.digest, before.arena.view(), {}))
            found = checkpoint.load(path, after.arena.layout)
            assert found is not None
            after.arena.restore(found.snapshot)
        same_steps(after, reference, iter(some))


def test_rows_grow_after_they_were_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_rows, "FIRST_ROWS", 10)
    same_steps(on_gpu(), TorchStepper(model(), SERIES_MAX), some_batches(3))


def test_large_waves_forecast_as_small_ones() -> None:
    count = 3000
    keys = Keys.of(f"s{number}" for number in range(count))
    large = on_gpu(series_max=count)
    small = TorchStepper(model(), count, "cuda", Placement(True, (64,)), silent)
    for hour in range(3):
        ours, theirs = stepped(large, hour, keys), stepped(small, hour, keys)
        np.testing.assert_allclose(
            ours.forecasts.values, theirs.forecasts.values, rtol=1e-5, atol=1e-5
        )


def test_a_wave_is_timed_with_its_crossing() -> None:
    turn = wave_turn(untrained(64, 1), ON_DEVICE.sizes[-1], "cuda")
    assert turn is not None
    assert turn.before is not None
    turn.before()
    assert np.isfinite(turn.call()).all()


def test_products_are_not_rounded() -> None:
    on_gpu()
    left = torch.randn(256, 256, device="cuda")
    exact = (left.double() @ left.double()).float()
    torch.testing.assert_close(left @ left, exact, rtol=1e-5, atol=1e-4)
