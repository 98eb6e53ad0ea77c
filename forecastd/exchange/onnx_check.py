"""An exported step tried beside the network, its states carried from step to step."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch

from forecastd.exchange.onnx_head import LAGS
from forecastd.exchange.onnx_step import NEXT, state_name
from forecastd.exchange.parts import Arrays
from forecastd.network.graph import States
from forecastd.network.model import ForecastNetwork

STEPS = 50
SERIES = 3


def difference(content: bytes, network: ForecastNetwork, seed: int = 0) -> float:
    """Return the largest difference of answers and states over STEPS random steps.

    content: what `export_step` returned for the network, which is on the CPU in evaluation mode.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    nodes = network.layers.wiring.nodes
    dice = torch.Generator().manual_seed(seed)
    states = network.layers.initial_state(SERIES)
    carried = _named(network, states)
    largest = 0.0
    for _ in range(STEPS):
        x = torch.randn((SERIES, *network.spec.features.sizes), generator=dice)
        lags = torch.randn((SERIES, network.spec.head.lags), generator=dice)
        fed = {"x": x.numpy(), **carried}
        if network.spec.head.lags:
            fed[LAGS] = lags.numpy()
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, fed), strict=True))
        with torch.inference_mode():
            y, states = network.layers.step(x, states)
            raw = network.head(y.flatten(1)[:, None], lags[:, None])
            wanted = {"y": network.head.forecast(raw)[:, 0].numpy()}
        wanted |= {name + NEXT: array for name, array in _named(network, states).items()}
        largest = max(largest, *(float(np.abs(found[n] - wanted[n]).max()) for n in wanted))
        carried = {
            name: found[name + NEXT]
            for node in nodes
            for name in (state_name(node, field) for field in node.facts.state)
        }
    return largest


def _named(network: ForecastNetwork, states: States) -> Arrays:
    """Return the states of layers by the names they have in the graph."""
    return {
        state_name(node, field): getattr(state, field).numpy()
        for node, state in zip(network.layers.wiring.nodes, states, strict=True)
        for field in node.facts.state
    }
