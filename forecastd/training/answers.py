"""The scale of the answers that a network is to give, found in the rows that train."""

from __future__ import annotations

import numpy as np

from forecastd.config import TrainConfig
from forecastd.data.moments import train_moments
from forecastd.network.model import ForecastNetwork
from forecastd.training.plan import Material


def fit_answers(network: ForecastNetwork, config: TrainConfig, material: Material) -> None:
    """Tell the head mean and deviation of the targets that train, where these are answers.

    Changes buffers of `network.head`. A target that never differs is not scaled.
    """
    if config.task.kind == "regression":
        answers = len(material.store.columns.targets)
        found = train_moments(material.store, material.parts)
        deviation = np.where(found.constant, 0.0, found.deviation)
        network.head.fit(found.mean[:answers], deviation[:answers])
