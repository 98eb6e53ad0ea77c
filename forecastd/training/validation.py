"""The loss on what does not train, which chooses the weights."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from forecastd.network.model import ForecastNetwork
from forecastd.network.walker import Walker
from forecastd.training.averaging import Loss
from forecastd.training.passes import Task, ahead, validation_pass


def validation_loss(task: Task, network: ForecastNetwork, loss: Loss) -> float | None:
    """Return the loss on the validation part; None if nothing in it counts.

    Leaves the network in evaluation, with an unknown category as it is met live.
    """
    material = task.material
    codes: NDArray[np.integer] = material.codes(task.vocabulary)
    if (held := material.valid_store) is not None:
        codes = task.vocabulary.encode(held.keys, held.static)
    deviation = torch.from_numpy(material.validation_deviation()).to(network.device)
    walker = Walker(network, task.clocks, codes)
    network.encoder.embed_unknown_as_mean()
    network.eval()
    way = validation_pass(task)
    total, count = 0.0, 0
    with torch.inference_mode(), ahead(way.walk(0), network.device) as chunks:
        for number, chunk in enumerate(chunks):
            found, counted = loss.of_chunk(walker, chunk, way.marks(chunk, number), deviation)
            total, count = total + found.item() * counted, count + counted
    return total / count if count else None
