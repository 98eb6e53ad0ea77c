"""The whole network: encoder, layers, head. `unroll` equals `step` repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forecastd.features.encoder import Encoded, Encoder, EncoderState, Inputs
from forecastd.features.scaling import ScaleState
from forecastd.network.graph import LayerGraph, States
from forecastd.network.heads import Head, head_of
from forecastd.network.layers.contract import LayerState, Signal
from forecastd.network.shapes import weight_shapes, wiring_of
from forecastd.network.spec import NetworkSpec


class NetworkState(NamedTuple):
    """Everything a series remembers inside the network; the leading axis of each is the series.

    latest [B, ...]: the last layer's output after the newest step, or [B, 0] where the layers'
    states tell it.
    """

    encoder: EncoderState
    layers: States
    latest: Tensor


class Forecast(NamedTuple):
    """What a network says at T' steps of B series.

    raw [B, T', horizon, P]: what the head gave and the loss takes. location and spread [B, T']
    float64 undo the scaling; they are 0 and 1 where the head says it in the units of the data.
    """

    raw: Tensor
    location: Tensor
    spread: Tensor
    head: Head

    @property
    def values(self) -> Tensor:
        """The numbers [B, T', horizon, Q], scaled, made of `raw`."""
        return self.head.forecast(self.raw)

    def unscaled(self) -> Tensor:
        """Return the forecast in the units of the data, float64."""
        return self.values.double() * self.spread[..., None, None] + self.location[..., None, None]

    def chosen(self, rows: NDArray[np.integer], steps: NDArray[np.integer]) -> Tensor:
        """Return the forecasts [n, horizon, Q] of some rows and steps, in the units of the data."""
        some = (torch.from_numpy(index).to(self.raw.device) for index in (rows, steps))
        at = tuple(some)
        return Forecast(self.raw[at], self.location[at], self.spread[at], self.head).unscaled()


class ForecastNetwork(nn.Module):
    """A network built from its spec. Raises ArtifactError when the spec asks for none there is."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        weight_shapes(spec)
        self.spec = spec
        self.encoder = Encoder(spec.features)
        self.layers = LayerGraph(wiring_of(spec))
        self.head = head_of(self.layers.wiring, spec.head)
        with torch.no_grad():
            self._tells = self.layers.recall(self.layers.initial_state(1)) is not None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.device

    def initial_state(self, series_count: int) -> NetworkState:
        """Return the state of series that were never observed."""
        sizes = (0,) if self._tells else self.layers.wiring.output.sizes
        latest = torch.zeros((series_count, *sizes), dtype=self.encoder.dtype, device=self.device)
        encoder = self.encoder.initial_state(series_count, self.device)
        return NetworkState(encoder, self.layers.initial_state(series_count), latest)

    def warm(self, x: Inputs, state: NetworkState) -> NetworkState:
        """Advance only the features' memory, which is cheap, and leave the layers as they are."""
        return state._replace(encoder=self.encoder.unroll(x, state.encoder)[1])

    def step(self, x: Inputs, state: NetworkState) -> tuple[Forecast, NetworkState]:
        """Advance B series by one observation (x with T = 1) and forecast after it."""
        encoded, y, after = self._step(x, state)
        return self._forecast(y[:, None], encoded), after

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
        y = self.layers.recall(state.layers) if self._tells else state.latest
        assert y is not None
        return self._forecast(y[:, None], encoded)

    def _step(self, x: Inputs, state: NetworkState) -> tuple[Encoded, Tensor, NetworkState]:
        """Return what was encoded, the last layer's output [B, ...] and the next state."""
        encoded, encoder = self.encoder.step(x, state.encoder)
        y, after = self.layers.step(encoded.inputs[:, 0], state.layers)
        return encoded, y, NetworkState(encoder, after, state.latest if self._tells else y)

    def unroll(
        self,
        x: Inputs,
        state: NetworkState,
        at: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Forecast, NetworkState]:
        """Advance B series by T observations.

        at: the steps [T'] to forecast from; all if None. What gives one value a sequence is
        forecast from at its last step alone, T' = 1. lengths [B]: real steps of each series, the
        rest is padding at the end, which changes nothing; None: all.
        """
        encoded, encoder = self.encoder.unroll(x, state.encoder, lengths)
        entering = Signal(encoded.inputs, lengths)
        wanted = at if self._tells else None  # the newest output is to be kept as well
        signal, after = self.layers.unroll(entering, state.layers, wanted)
        last = _last_steps(x.values, lengths)
        once = not self.layers.wiring.output.time
        ys, latest = signal.values, state.latest
        if not self._tells:
            latest = ys[:, 0] if once else ys[torch.arange(len(ys)), last]
            ys = ys if at is None or once else ys[:, at]
        said = self._forecast(ys, encoded, last[:, None] if once else at)
        return said, NetworkState(encoder, after, latest)

    def _forecast(self, ys: Tensor, encoded: Encoded, at: Tensor | None = None) -> Forecast:
        """Forecast from the outputs ys [B, T', ...] of the steps `at`, [T'] or [B, T'].

        None: of all steps that are encoded.
        """
        location, spread, started = encoded.location, encoded.spread, encoded.started
        windows = None
        if self.spec.head.lags:
            windows = encoded.history.unfold(1, self.spec.head.lags, 1)[:, 1:]
        if at is not None:
            rows = torch.arange(len(ys), device=ys.device)[:, None]
            location, spread, started = (part[rows, at] for part in (location, spread, started))
            windows = None if windows is None else windows[rows, at]
        lags = None
        if windows is not None:
            lags = _scaled(windows, location, spread, started).to(encoded.inputs.dtype)
        raw = self.head.placed(self.head(ys.flatten(2), lags), location, spread)
        if self.head.supervised or self.head.in_units:
            location, spread = torch.zeros_like(location), torch.ones_like(spread)
        return Forecast(raw, location, spread, self.head)


def _scaled(windows: Tensor, location: Tensor, spread: Tensor, started: Tensor) -> Tensor:
    """Return the last L values [B, T', L] of steps, scaled as each step is; 0 before the first."""
    kind = windows.dtype
    scaled = (windows - location[..., None].to(kind)) / spread[..., None].to(kind)
    return torch.where(started[..., None], scaled, 0)


def _last_steps(values: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the last real step [B] of each row; the first of a row that has none."""
    if lengths is None:
        count, steps = values.shape[:2]
        return torch.full((count,), steps - 1, device=values.device)
    return lengths.clamp(min=1) - 1


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
    layers = tuple(type(s)(*(t.detach() for t in s)) for s in state.layers)
    encoder = EncoderState(*(t.detach() for t in state.encoder))
    return NetworkState(encoder, layers, state.latest.detach())


def flatten(state: NetworkState, names: list[str]) -> dict[str, Tensor]:
    """Return the tensors of a state by dotted name, "encoder.ring" or "layers.lstm_1.cell".

    names: of the layers, in order.
    """
    flat = {f"encoder.{name}": tensor for name, tensor in state.encoder._asdict().items()}
    for layer, memory in zip(names, state.layers, strict=True):
        flat |= {f"layers.{layer}.{name}": t for name, t in _fields(memory).items()}
    if state.latest.shape[1:] != (0,):
        flat["latest"] = state.latest
    return flat


def unflatten(flat: dict[str, Tensor], like: NetworkState, names: list[str]) -> NetworkState:
    """Return the state whose flatten() is `flat`; `like` gives its structure."""
    encoder = EncoderState(*(flat[f"encoder.{name}"] for name in EncoderState._fields))
    layers = tuple(
        type(memory)(*(flat[f"layers.{layer}.{name}"] for name in _fields(memory)))
        for layer, memory in zip(names, like.layers, strict=True)
    )
    latest = flat.get("latest", encoder.seen[:, :0].to(like.latest.dtype))
    return NetworkState(encoder, layers, latest)


def _fields(memory: LayerState) -> dict[str, Tensor]:
    """Return the tensors of a layer's state by name."""
    named: dict[str, Tensor] = memory._asdict()  # type: ignore[attr-defined]  # a NamedTuple
    return named
