"""Make the golden model: a saved artifact, observations, and the forecasts expected after each.

    python tests/golden/make_artifact.py

Run it by hand only, when the format changes on purpose, and give the reason in the commit: what a
released forecastd has written must stay readable. The weights are random, drawn once.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from forecastd import artifact
from forecastd.artifact import Artifact, Example
from forecastd.features.spec import FeatureSpec
from forecastd.features.vocabulary import Vocabulary
from forecastd.network.model import ForecastNetwork, weights_of
from forecastd.network.spec import HeadSpec, NetworkSpec, lstm_chain
from forecastd.runtime.torch_stepper import TorchStepper
from forecastd.series import Frequency, Keys, ObservationBatch, Signature

FOLDER = Path(__file__).parent / "model_format_1"
HOUR_US = 3_600_000_000
START_US = 1_356_998_400_000_000  # 2013-01-01
RTOL = 1e-4
"""Processors order the sums of a matrix product differently; nothing else may differ."""


def observations() -> tuple[list[str], list[int], list[list[float | None]]]:
    """Three series, one of them unknown, with missing values, filled holes and a reset."""
    dice = np.random.default_rng(11)
    keys: list[str] = []
    times: list[int] = []
    values: list[list[float | None]] = []
    hours = {"north": 0, "south": 5, "elsewhere": 7}
    for step in range(60):
        for place, key in enumerate(hours):
            hours[key] += int(dice.choice([1, 1, 1, 1, 2, 3, 9 if step > 30 else 1]))
            level = 50 * (place + 1) + 10 * np.sin(2 * np.pi * hours[key] / 24)
            row = [round(float(level + dice.normal()), 2), round(float(dice.normal()), 2)]
            keys.append(key)
            times.append(START_US + HOUR_US * hours[key])
            values.append([None if dice.random() < 0.1 else value for value in row])
    return keys, times, values


def batch_of(content: dict[str, list]) -> ObservationBatch:
    """Return the stored observations as the stepper takes them."""
    values = [[np.nan if v is None else v for v in row] for row in content["values"]]
    times = np.array(content["times"], np.int64)
    return ObservationBatch(Keys.of(content["keys"]), times, np.array(values, np.float32))


def make() -> Artifact:
    """Return a small model that uses every part of the format."""
    torch.manual_seed(2013)
    vocabulary = Vocabulary.learn(["north", "south"], {"coast": ["yes", None]})
    spec = NetworkSpec(
        FeatureSpec(2, ("hour", "weekday"), 24.0, 6, 2, vocabulary.sizes),
        lstm_chain(6, 2, 0.1, "sequence"),
        HeadSpec("quantile", 3, (0.1, 0.5, 0.9), 6),
    )
    network = ForecastNetwork(spec)
    torch.nn.init.normal_(network.head.highway.weight, std=0.3)
    network.encoder.embed_unknown_as_mean()
    signature = Signature(
        id="station",
        time="ds",
        target="load",
        past=("heat",),
        static=("coast",),
        frequency=Frequency.parse("1h"),
        season=24,
        horizon=3,
        quantiles=(0.1, 0.5, 0.9),
        time_zone=True,
    )
    return Artifact(
        signature=signature,
        spec=spec,
        vocabulary=vocabulary,
        statistics={
            "mean": np.array([50.0, 100.0]),
            "std": np.array([7.0, 7.5]),
            "mase_scale": np.array([1.1, 1.2]),
        },
        max_gap=3,
        weights=weights_of(network),
        provenance={"config": {"split": {"train": None, "valid": 0.1, "test": 0.1}}},
        metrics={"epochs": 0},
    )


def main() -> None:
    """Write the model and what it forecasts."""
    made = make()
    keys, times, values = observations()
    content = {"keys": keys, "times": times, "values": values}
    first = batch_of({name: column[:60] for name, column in content.items()})
    north = [row for row, key in enumerate(first.keys) if key == "north"]
    artifact.save(FOLDER, made, Example("north", first.times[north], first.values[north]))
    stepper = TorchStepper(artifact.load(FOLDER), 3)
    result = stepper.step(batch_of(content))
    forecasts = [[[float(q) for q in step] for step in made] for made in result.forecasts.values]
    text = json.dumps(content | {"forecasts": forecasts, "resets": result.resets})
    (FOLDER.parent / "forecasts_format_1.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
