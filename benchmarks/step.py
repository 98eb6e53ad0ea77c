"""One observation through the live stepper, beside one step of torch.nn.LSTM."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from measure import keep, median_s

from forecastd.artifact import Artifact
from forecastd.features.spec import FeatureSpec
from forecastd.features.vocabulary import Vocabulary
from forecastd.network.model import ForecastNetwork, weights_of
from forecastd.network.spec import HeadSpec, NetworkSpec, lstm_chain
from forecastd.runtime.torch_stepper import TorchStepper
from forecastd.series import Frequency, Keys, ObservationBatch, Signature

QUANTILES = (0.1, 0.5, 0.9)
HOUR_US = 3_600_000_000


def artifact_of(hidden: int) -> Artifact:
    """Return an untrained model of the default shape."""
    features = FeatureSpec(1, ("hour", "weekday"), 24.0, 336, 4, (1,))
    layers = lstm_chain(hidden, 1, 0.3, "sequence")
    spec = NetworkSpec(features, layers, HeadSpec("quantile", 24, QUANTILES, 336))
    signature = Signature("unique_id", "ds", "y", (), (), Frequency.parse("1h"), 24, 24, QUANTILES)
    weights = weights_of(ForecastNetwork(spec))
    return Artifact(signature, spec, Vocabulary((), {}, {}), {}, 24, weights, {}, {}, "benchmark")


def measure(hidden: int, batch: int) -> dict[str, object]:
    stepper = TorchStepper(artifact_of(hidden), batch)
    keys = Keys.of(f"series-{number}" for number in range(batch))
    values = np.random.default_rng(0).normal(size=(batch, 1)).astype(np.float32)
    hours = itertools.count(1)

    def step() -> None:
        times = np.full(batch, next(hours) * HOUR_US, np.int64)
        stepper.step(ObservationBatch(keys, times, values))

    lstm = torch.nn.LSTM(8, hidden, batch_first=True).eval()
    x, state = torch.randn(batch, 1, 8), (torch.zeros(1, batch, hidden),) * 2

    def reference() -> None:
        with torch.inference_mode():
            lstm(x, state)

    repeats = max(10, 400 // max(1, batch // 16))
    ours, theirs = median_s(step, repeats), median_s(reference, repeats)
    return {
        "hidden": hidden,
        "batch": batch,
        "us_per_observation": round(ours / batch * 1e6, 2),
        "nn_lstm_us_per_observation": round(theirs / batch * 1e6, 2),
        "ratio_nn_lstm": round(ours / theirs, 2),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep("step", [measure(h, b) for h in (64, 128) for b in (1, 16, 256, 4096)])
