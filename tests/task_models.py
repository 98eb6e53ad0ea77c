"""Models of classifications and regressions that several tests share; nothing here trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from answers import STEPS

from forecastd.artifact import Artifact
from forecastd.data.store import Store
from forecastd.features.encoder import Inputs
from forecastd.features.spec import FeatureSpec
from forecastd.features.vocabulary import Vocabulary
from forecastd.network.heads import ResponsesHead
from forecastd.network.model import ForecastNetwork, weights_of
from forecastd.network.outputs import head_of_task
from forecastd.network.shapes import wiring_of
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.scoring.predict import predict

CLASSES = ("bird", "cat", "dog")
LABELS = ("dog", "cat", "bird")
KEYS = tuple(STEPS)


def lstm(output: str = "sequence", kind: str = "lstm") -> LayerSpec:
    return LayerSpec("only", kind, {"hidden": 4, "output": output})


NETWORKS: dict[str, tuple[LayerSpec, ...]] = {
    "every_step": (lstm(),),
    "at_the_end": (lstm("last"),),
    "both_ways": (lstm(kind="bilstm"),),
    "both_ways_at_the_end": (lstm("last", "bilstm"),),
    "convolution": (
        LayerSpec("conv", "conv1d", {"filters": 3, "size": 2, "padding": "causal"}),
        LayerSpec("pool", "global_average_pooling1d", {}),
    ),
    "dropping": (lstm(), LayerSpec("drop", "dropout", {"share": 0.5})),
}


def trained(store: Store, layers: tuple[LayerSpec, ...], seed: int = 0) -> Artifact:
    """Return a model of random weights for the answers of a store."""
    torch.manual_seed(seed)
    features = FeatureSpec(2, (), 4.0, 0, 0, (len(KEYS) + 1,), "zscore", ("value",))
    signature = store.signature(1, ())
    plain = NetworkSpec(features, layers, HeadSpec("point", 1))
    head = head_of_task(signature, layers, wiring_of(plain).output)
    network = ForecastNetwork(NetworkSpec(features, layers, head)).eval()
    network.encoder.scale.spread.fill_(10.0)  # type: ignore[union-attr,operator]
    if isinstance(network.head, ResponsesHead):
        network.head.fit(np.array([20.0, 110.0]), np.array([10.0, 5.0]))
    zeros = dict.fromkeys(("mean", "std", "mase_scale"), np.ones(len(KEYS)))
    return Artifact(
        signature=signature,
        spec=network.spec,
        vocabulary=Vocabulary(KEYS, {}, {}),
        statistics=zeros,
        max_gap=0,
        weights=weights_of(network),
        provenance={"config": {"train": {"sequence": 24}}},
        metrics={"epochs": 1},
    )


def alone(model: Artifact, store: Store, series: int) -> np.ndarray:
    """Return what the network says of one series read by itself, [T', K]."""
    rows = store.rows_of(series)
    answers = store.values.shape[1] - 2
    inputs = Inputs(
        torch.from_numpy(np.array(store.values[rows, answers:])[None]),
        torch.zeros(1, rows.stop - rows.start, 0),
        torch.from_numpy(model.vocabulary.encode([store.keys[series]])),
    )
    with torch.inference_mode():
        network = model.network.eval()
        return network.unroll(inputs, network.initial_state(1))[0].unscaled()[0, :, 0].numpy()


def written(model: Artifact, store: Store, folder: Path, **how: Any) -> pl.DataFrame:
    return pl.read_parquet(predict(model, store, folder / "out.parquet", **how).path)
