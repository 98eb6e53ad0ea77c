"""An exported step tried beside the network, its states carried from step to step."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch

from forecastd.exchange.onnx_head import LAGS
from forecastd.exchange.onnx_step import NEXT, state_name
from forecastd.exchange.parts import Arrays
from forecastd.features.encoder import Inputs
from forecastd.network.graph import States
from forecastd.network.model import ForecastNetwork, NetworkState, flatten

STEPS = 50
SERIES = 3
HOLES = 0.1
"""The share of values that are missing where a graph has the features too."""


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


def difference_of_all(content: bytes, network: ForecastNetwork, seed: int = 0) -> float:
    """Return the same of a graph that has the features too, relative to the spread of the series.

    Its values are walks with holes; answers are compared in units of the data over the spread.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    spec, names = network.spec.features, list(network.layers)
    dice = np.random.default_rng(seed)
    state = network.initial_state(SERIES)
    wanted_inputs = [each.name for each in session.get_inputs()]
    outputs = [each.name for each in session.get_outputs()]
    carried = _all_named(state, names)
    values = dice.normal(size=(SERIES, STEPS, spec.channels)).cumsum(1) * 3 + 50
    values[dice.random(values.shape) < HOLES] = np.nan
    largest = 0.0
    for step in range(STEPS):
        x = Inputs(
            torch.from_numpy(values[:, step : step + 1].astype(np.float32)),
            torch.from_numpy(dice.normal(size=(SERIES, 1, 2 * len(spec.clocks)))).float(),
            torch.from_numpy(
                dice.integers(0, min(spec.vocabulary), (SERIES, len(spec.vocabulary)))
            ),
        )
        given = {"values": x.values[:, 0], "clocks": x.clocks[:, 0], "codes": x.codes}
        fed = {name: tensor.numpy() for name, tensor in given.items()} | carried
        run = session.run(outputs, {name: fed[name] for name in wanted_inputs})
        found = dict(zip(outputs, run, strict=True))
        with torch.inference_mode():
            forecast, state = network.step(x, state)
        spread = forecast.spread[:, 0, None, None].numpy()
        away = np.abs(found["y"] - forecast.unscaled()[:, 0].numpy()) / spread
        largest = max(largest, float(away.max()))
        carried = {name.removesuffix(NEXT): found[name] for name in outputs if name != "y"}
    return largest


def _all_named(state: NetworkState, names: list[str]) -> Arrays:
    flat = flatten(state, names)
    return {name.removeprefix("layers."): tensor.numpy() for name, tensor in flat.items()}


def _named(network: ForecastNetwork, states: States) -> Arrays:
    """Return the states of layers by the names they have in the graph."""
    return {
        state_name(node, field): getattr(state, field).numpy()
        for node, state in zip(network.layers.wiring.nodes, states, strict=True)
        for field in node.facts.state
    }
