"""A network that drops at random when it is used, as it does in training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from forecastd.network.model import ForecastNetwork

LEARNS_IN_TRAINING = frozenset({"batch_norm"})
"""Kinds of layers that change in training mode by what they see: they stay as they are."""


@contextlib.contextmanager
def dropping(network: ForecastNetwork, seed: int) -> Iterator[None]:
    """Let dropout drop while the block runs; what is drawn follows from the seed.

    Two passes with one seed over the same rows give the same numbers, two seeds do not. The random
    numbers of torch go on afterwards as if nothing had been drawn.
    """
    kinds = {node.name: node.kind for node in network.layers.wiring.nodes}
    devices = [network.device] if network.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for name, kind in kinds.items():
            network.layers[name].train(kind not in LEARNS_IN_TRAINING)
        try:
            yield
        finally:
            network.eval()
