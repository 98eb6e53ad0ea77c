"""What the kernels say after ten thousand steps, beside the same network in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from models import HOUR_US, START_US, model
from networks import network
from numpy.typing import NDArray

from forecastd.artifact import Artifact
from forecastd.features.encoder import Inputs
from forecastd.features.spec import FeatureSpec
from forecastd.network.model import network_of, weights_of
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.runtime.kernel_stepper import KernelStepper
from forecastd.series import FloatArray, IntArray, Keys, ObservationBatch

STEPS = 10_000
QUANTILES = HeadSpec("quantile", 6, (0.1, 0.5, 0.9), 24)
HIDDEN = {"hidden": 64}
PROJECTED = {**HIDDEN, "input_projector": 4, "output_projector": 16}
CONVOLVED = {"filters": 32, "size": 3, "dilation": 2, "padding": "causal"}
MAP = ("fully_connected", {"size": 5})
NETWORKS: dict[str, tuple[list[tuple[str, dict[str, object]]], HeadSpec, str]] = {
    "two_lstm": ([("lstm", HIDDEN), ("lstm", HIDDEN)], QUANTILES, "running"),
    "gru": ([("gru", HIDDEN)], QUANTILES, "running"),
    "peephole": ([("peephole_lstm", HIDDEN)], QUANTILES, "running"),
    "projected": ([("projected_lstm", PROJECTED)], QUANTILES, "running"),
    "convolution": ([("conv1d", CONVOLVED), ("relu", {}), ("gru", HIDDEN)], QUANTILES, "running"),
    "gaussian": ([("lstm", HIDDEN)], HeadSpec("gaussian", 3, (0.1, 0.5, 0.9), 8), "zscore"),
    "responses": ([("lstm", HIDDEN), MAP], HeadSpec("responses", 1, (), 0, 5, False), "zscore"),
    "classes": (
        [("lstm", HIDDEN), MAP, ("softmax", {})],
        HeadSpec("classes", 1, (), 0, 5, False),
        "zscore",
    ),
}


def artifact_of(name: str) -> Artifact:
    """Return a random model, the bias and peepholes too, that reads two channels."""
    layers, head, scaling = NETWORKS[name]
    features = FeatureSpec(2, ("hour",), 24.0, head.lags, 3, (4,), scaling)
    spec = NetworkSpec(
        features, tuple(LayerSpec(f"layer_{n}", *layer) for n, layer in enumerate(layers)), head
    )
    weights, dice = weights_of(network(spec, torch.float32)), np.random.default_rng(0)
    for array in weights.values():
        array += dice.normal(scale=0.05, size=array.shape).astype(np.float32)
    if scaling == "zscore":
        weights["encoder.scale.location"][:] = 10.0
        weights["encoder.scale.spread"][:] = 5.0
    base = model()
    signature = replace(base.signature, horizon=head.horizon, quantiles=head.quantiles)
    return replace(base, spec=spec, signature=signature, weights=weights)


def exactly(artifact: Artifact, times: IntArray, values: FloatArray) -> NDArray[np.float64]:
    """Return what the network says in float64 at each step of one series."""
    inputs = Inputs(
        torch.from_numpy(values[None]).double(),
        torch.from_numpy(artifact.clocks(times[None])).double(),
        torch.from_numpy(artifact.vocabulary.encode(["a"])),
    )
    exact = network_of(artifact.spec, artifact.weights).double()
    with torch.inference_mode():
        found: NDArray[np.float64] = (
            exact.unroll(inputs, exact.initial_state(1))[0].unscaled()[0].numpy()
        )
    return found


def furthest(name: str, times: IntArray, values: FloatArray) -> float:
    """Return the largest difference, as a share of the largest number that is said."""
    artifact = artifact_of(name)
    batch = ObservationBatch(Keys.of(["a"] * len(times)), times, values)
    ours = KernelStepper(artifact, 1).step(batch).forecasts.values
    expected = exactly(artifact, times, values)
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_ten_thousand_carried_steps_stay_with_the_exact_network(name: str) -> None:
    dice = np.random.default_rng(7)
    wave = 10 + 5 * np.sin(np.arange(STEPS) * 2 * np.pi / 24)
    values = np.stack([wave + dice.normal(size=STEPS), dice.normal(size=STEPS)], 1)
    values[dice.random(values.shape) < 0.02] = np.nan
    times = START_US + HOUR_US * np.arange(STEPS)
    assert furthest(name, times, values.astype(np.float32)) < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_and_so_they_do_on_hours_of_a_transformer(name: str, project: Path) -> None:
    path = project.parent / "shared/data/ETTh1.parquet"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    rows = pl.read_parquet(path).head(STEPS)
    values = rows.select("OT", "HUFL").to_numpy().astype(np.float32)
    times = START_US + HOUR_US * np.arange(STEPS)
    assert furthest(name, times, values) < 1e-5
