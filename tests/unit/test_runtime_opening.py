"""Opening a model: what steps it is chosen, tried on the example, and told where it is slow."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import HOUR_US, START_US, example, model
from networks import SPECS

from forecastd import artifact
from forecastd.artifact import Example
from forecastd.errors import ArtifactError, UserError
from forecastd.runtime.kernels.support import unsupported
from forecastd.runtime.opening import Opened, Stepping, open_model
from forecastd.runtime.torch_stepper import TorchStepper
from forecastd.series import Keys, ObservationBatch

SERIES_MAX = 4
KERNELS = "forecastd.runtime.kernel_stepper"


def silent(remark: str) -> None:
    if not remark.startswith("compiling for this machine"):  # after a change of the kernels
        raise AssertionError(remark)


def opened(folder: Path) -> Opened:
    return open_model(folder, "cpu", SERIES_MAX, silent)


def observations() -> ObservationBatch:
    """Three series, one unknown, with a hole and a missing value."""
    hours = np.array([0, 0, 0, 1, 1, 3], np.int64)
    values = np.random.default_rng(4).normal(size=(6, 2)).astype(np.float32)
    values[3, 0] = np.nan
    return ObservationBatch(Keys.of("abzabz"), START_US + HOUR_US * hours, values)


@pytest.mark.parametrize("name", [n for n, spec in SPECS.items() if unsupported(spec) is None])
def test_an_opened_model_forecasts_as_torch_does(name: str, tmp_path: Path) -> None:
    trained = artifact.save(tmp_path / "model", model(name), example())
    found = opened(tmp_path)
    assert (found.stepper.digest, found.artifact.digest) == (trained.digest, trained.digest)
    assert (len(found.stepper.arena), found.stepper.arena.series_max) == (0, SERIES_MAX)
    result = found.stepper.step(observations())
    expected = TorchStepper(trained, SERIES_MAX).step(observations())
    np.testing.assert_allclose(
        result.forecasts.values, expected.forecasts.values, rtol=1e-4, atol=1e-5
    )
    assert (result.filled, result.resets) == (expected.filled, expected.resets)


def test_a_stepper_that_forecasts_something_else_is_refused(tmp_path: Path) -> None:
    wrong = model()
    assert wrong.network is not None  # what answers the example
    wrong.weights["head.centre.bias"] = wrong.weights["head.centre.bias"] + 1
    artifact.save(tmp_path / "model", wrong, example())
    with pytest.raises(ArtifactError, match=r"example\.json is damaged.*no longer forecasts"):
        opened(tmp_path / "model")


def test_an_example_with_holes_is_answered_as_when_it_was_saved(tmp_path: Path) -> None:
    values = np.random.default_rng(5).normal(size=(5, 2)).astype(np.float32)
    times = START_US + HOUR_US * np.array([0, 1, 4, 5, 900])
    artifact.save(tmp_path / "model", model(), Example("a", times, values))
    assert len(opened(tmp_path / "model").stepper.arena) == 0


def test_a_device_that_is_not_there_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no device cuda:99"):
        open_model(tmp_path, "cuda:99", SERIES_MAX, silent)


def test_threads_and_latency_reach_the_kernels(tmp_path: Path) -> None:
    artifact.save(tmp_path / "model", model(), example())
    found: Any = open_model(tmp_path, "cpu", SERIES_MAX, silent, Stepping(3, latency=True)).stepper
    assert len(found.programs) == 3
    assert found.arena.derived is not None


def test_what_has_no_kernel_is_told_and_stepped_by_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = importlib.import_module(KERNELS)
    monkeypatch.setattr(kernels, "unsupported", lambda _spec: "layer 'x' has no kernel")
    artifact.save(tmp_path / "model", model(), example())
    told: list[str] = []
    found = open_model(tmp_path / "model", "cpu", SERIES_MAX, told.append)
    assert isinstance(found.stepper, TorchStepper)
    assert [remark.startswith("layer 'x' has no kernel; ") for remark in told] == [True]
