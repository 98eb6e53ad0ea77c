"""The whole network: encoder, layers, head. `unroll` equals `step` repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forecastd.features.encoder import Encoded, Encoder, EncoderState, Inputs
from forecastd.features.scaling import ScaleState
from forecastd.network.heads import HEADS
from forecastd.network.layers import LAYERS, Layer, LayerState, LstmState, NoState
from forecastd.network.shapes import weight_shapes
from forecastd.network.spec import NetworkSpec


class NetworkState(NamedTuple):
    """Everything a series remembers inside the network; the leading axis of each is the series."""

    encoder: EncoderState
    layers: tuple[LayerState, ...]


class Forecast(NamedTuple):
    """values [B, T', horizon, Q] scaled; location and spread [B, T'] float64 undo the scaling."""

    values: Tensor
    location: Tensor
    spread: Tensor

    def unscaled(self) -> Tensor:
        """Return the forecast in the units of the data, float64."""
        return self.values.double() * self.spread[..., None, None] + self.location[..., None, None]


class ForecastNetwork(nn.Module):
    """A network built from its spec. Raises ArtifactError when the spec asks for none there is."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        weight_shapes(spec)
        self.spec = spec
        self.encoder = Encoder(spec.features)
        self.layers = nn.ModuleDict()
        width = spec.features.width
        for layer in spec.layers:
            self.layers[layer.name] = LAYERS[layer.kind](width, **layer.options)
            width = self._layer(layer.name).width
        self.head = HEADS[spec.head.kind](width, spec.head)
        states = [self._layer(name).initial_state(1) for name in self.layers]
        with_memory = [place for place, memory in enumerate(states, 1) if len(memory)]
        self._memory = max(with_memory, default=0)  # layers from here on remember nothing

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def initial_state(self, series_count: int) -> NetworkState:
        """Return the state of series that were never observed."""
        layers = tuple(self._layer(name).initial_state(series_count) for name in self.layers)
        return NetworkState(self.encoder.initial_state(series_count, self.device), layers)

    def warm(self, x: Inputs, state: NetworkState) -> NetworkState:
        """Advance only the features' memory, which is cheap, and leave the layers as they are."""
        return state._replace(encoder=self.encoder.unroll(x, state.encoder)[1])

    def step(self, x: Inputs, state: NetworkState) -> tuple[Forecast, NetworkState]:
        """Advance B series by one observation (x with T = 1) and forecast after it."""
        encoded, y, after = self._step(x, state)
        return self._forecast(y[:, None], encoded, torch.zeros(1, dtype=torch.long)), after

    def advance(self, x: Inputs, state: NetworkState) -> NetworkState:
        """Advance B series by one observation, as `step`, without a forecast."""
        return self._step(x, state)[2]

    def forecast(self, state: NetworkState) -> Forecast:
        """Return the forecast that `step` gave, or would have given, when it left this state."""
        encoder = state.encoder
        location, spread = self.encoder.scale.of(ScaleState(*encoder[:3]))
        history = torch.cat([torch.zeros_like(encoder.ring[:, :1]), encoder.ring], 1)
        started = encoder.seen[:, :1] > 0
        encoded = Encoded(encoder.latest, location[:, :1], spread[:, :1], history, started)
        memory = state.layers[self._memory - 1]
        assert isinstance(memory, LstmState)
        y = memory.hidden
        for name in list(self.layers)[self._memory :]:
            y, _ = self._layer(name).step(y, NoState())
        return self._forecast(y[:, None], encoded, torch.zeros(1, dtype=torch.long))

    def _step(self, x: Inputs, state: NetworkState) -> tuple[Encoded, Tensor, NetworkState]:
        """Return what was encoded, the last layer's output [B, width] and the next state."""
        encoded, encoder = self.encoder.unroll(x, state.encoder)
        y = encoded.inputs[:, 0]
        after = []
        for name, before in zip(self.layers, state.layers, strict=True):
            y, next_state = self._layer(name).step(y, before)
            after.append(next_state)
        return encoded, y, NetworkState(encoder, tuple(after))

    def unroll(
        self, x: Inputs, state: NetworkState, at: Tensor | None = None
    ) -> tuple[Forecast, NetworkState]:
        """Advance B series by T observations.

        at: the steps [T'] to forecast from; all if None. With an output "last" layer only the
        last step is forecast from.
        """
        encoded, encoder = self.encoder.unroll(x, state.encoder)
        steps = x.values.shape[1]
        ys, remembered = self._through(slice(self._memory), encoded.inputs, state)
        if ys.shape[1] != steps:
            at = torch.tensor([steps - 1], device=ys.device)
        elif at is None:
            at = torch.arange(steps, device=ys.device)
        else:
            ys = ys[:, at]  # layers that remember nothing need no other steps
        ys, rest = self._through(slice(self._memory, None), ys, state)
        return self._forecast(ys, encoded, at), NetworkState(encoder, (*remembered, *rest))

    def _through(
        self, some: slice, ys: Tensor, state: NetworkState
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """Unroll some of the layers, one after another."""
        after = []
        for name, before in zip(list(self.layers)[some], state.layers[some], strict=True):
            ys, next_state = self._layer(name).unroll(ys, before)
            after.append(next_state)
        return ys, tuple(after)

    def _forecast(self, ys: Tensor, encoded: Encoded, at: Tensor) -> Forecast:
        location, spread = encoded.location[:, at], encoded.spread[:, at]
        lags = self._lags(encoded, at, location, spread) if self.spec.head.lags else None
        return Forecast(self.head(ys, lags), location, spread)

    def _lags(self, encoded: Encoded, at: Tensor, location: Tensor, spread: Tensor) -> Tensor:
        """Return the last L values before and at each step in `at`, scaled as that step is."""
        window = encoded.history.unfold(1, self.spec.head.lags, 1)[:, at + 1]
        kind = window.dtype
        scaled = (window - location[..., None].to(kind)) / spread[..., None].to(kind)
        return torch.where(encoded.started[:, at, None], scaled, 0).to(encoded.inputs.dtype)

    def _layer(self, name: str) -> Layer:
        return cast(Layer, self.layers[name])


def weights_of(network: ForecastNetwork) -> dict[str, NDArray[np.float32]]:
    """Return a copy of the weights by name, as an artifact keeps them."""
    state = network.state_dict()
    return {name: tensor.numpy(force=True).astype(np.float32) for name, tensor in state.items()}


def network_of(spec: NetworkSpec, weights: Mapping[str, NDArray[np.float32]]) -> ForecastNetwork:
    """Return a network with these weights, on the CPU, ready to forecast."""
    network = ForecastNetwork(spec)
    network.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return network.eval()


def detach(state: NetworkState) -> NetworkState:
    """Return the state cut off from its gradient history."""
    layers = tuple(
        LstmState(s.hidden.detach(), s.cell.detach()) if isinstance(s, LstmState) else s
        for s in state.layers
    )
    return NetworkState(EncoderState(*(t.detach() for t in state.encoder)), layers)


def flatten(state: NetworkState, names: list[str]) -> dict[str, Tensor]:
    """Return the tensors of a state by dotted name, "encoder.ring" or "layers.lstm_1.cell".

    names: of the layers, in order.
    """
    flat = {f"encoder.{name}": tensor for name, tensor in state.encoder._asdict().items()}
    for layer, memory in zip(names, state.layers, strict=True):
        flat |= {f"layers.{layer}.{name}": tensor for name, tensor in memory._asdict().items()}
    return flat


def unflatten(flat: dict[str, Tensor], like: NetworkState, names: list[str]) -> NetworkState:
    """Return the state whose flatten() is `flat`; `like` gives its structure."""
    encoder = EncoderState(*(flat[f"encoder.{name}"] for name in EncoderState._fields))
    layers = tuple(
        type(memory)(*(flat[f"layers.{layer}.{name}"] for name in memory._fields))
        for layer, memory in zip(names, like.layers, strict=True)
    )
    return NetworkState(encoder, layers)
