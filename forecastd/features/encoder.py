"""The encoder: raw values and times to what the layers read, with its memory as state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from forecastd.features.scaling import FixedScale, RunningScale, ScaleState
from forecastd.features.spec import CHANGE, OBSERVED, VALUE, FeatureSpec


class Inputs(NamedTuple):
    """What a network takes for B series.

    values [B, T, C] raw, NaN where missing; clocks [B, T, 2 * clocks]; codes [B, columns] int64.
    filled [B, T]: NaN, or the number that all inputs of the first layer are at a step of padding;
    None: there is no such step.
    """

    values: Tensor
    clocks: Tensor
    codes: Tensor
    filled: Tensor | None = None


class EncoderState(NamedTuple):
    """What the features remember of a series.

    seen, mean, variance: see RunningScale. latest [B, C]: last observed values. ring [B, L]: the
    last L values of the target, holes filled with the value before.
    """

    seen: Tensor
    mean: Tensor
    variance: Tensor
    latest: Tensor
    ring: Tensor


class Encoded(NamedTuple):
    """What the layers and the head take.

    inputs [B, T, F], or [B, T, C, ...] of frames. location, spread [B, T] of the target, float64.
    history [B, L + T]: raw target values; those before step t + 1 end at index L + t. started
    [B, T]: the target was observed.
    """

    inputs: Tensor
    location: Tensor
    spread: Tensor
    history: Tensor
    started: Tensor


class Encoder(nn.Module):
    """Scales, differences, masks and embeds; keeps the ring of lags."""

    _unit: Tensor

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.spec = spec
        running = spec.scaling == "running"
        self.scale: RunningScale | FixedScale = (
            RunningScale(spec.channels, spec.half_life) if running else FixedScale(spec.channels)
        )
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, spec.embedding) for size in spec.vocabulary if spec.embedding
        )
        self.register_buffer("_unit", torch.ones(()), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """The element type of inputs and memory, that of the whole network."""
        return self._unit.dtype

    @property
    def device(self) -> torch.device:
        """Where it is, and the network with it."""
        return self._unit.device

    def initial_state(self, series_count: int, device: torch.device) -> EncoderState:
        """Return the state of series that were never observed."""
        scale = self.scale.initial_state(series_count, device)
        latest = torch.zeros(series_count, self.spec.channels, dtype=self.dtype, device=device)
        ring = torch.zeros(series_count, self.spec.lags, dtype=self.dtype, device=device)
        return EncoderState(*scale, latest, ring)

    def unroll(
        self, x: Inputs, state: EncoderState, lengths: Tensor | None = None
    ) -> tuple[Encoded, EncoderState]:
        """Encode T steps. A missing value is the running mean (zero when scaled) and is marked.

        lengths [B]: steps that are real; the rest is padding, NaN, which changes no memory.
        """
        observed = torch.isfinite(x.values)
        (location, spread), scale = self.scale.unroll(x.values, ScaleState(*state[:3]))
        filled = _carry_forward(x.values, observed, state.latest)
        before = torch.cat([state.latest[:, None].to(filled.dtype), filled[:, :-1]], 1)
        seen_before = torch.cat([state.seen[:, None] > 0, observed.cumsum(1)[:, :-1] > 0], 1)
        seen_before |= (state.seen > 0)[:, None]
        scaled = torch.where(observed, (filled.double() - location) / spread, 0)
        moved = torch.where(observed & seen_before, (filled.double() - before) / spread, 0)
        inputs = self._joined(x, {VALUE: scaled, CHANGE: moved, OBSERVED: observed})
        history, ring = self._extend_ring(filled[..., 0], observed[..., 0], state)
        if lengths is not None:
            ring = self._ring_after(history, lengths)
        started = (state.seen[:, :1] > 0) | (observed[..., 0].cumsum(1) > 0)
        encoded = Encoded(inputs, location[..., 0], spread[..., 0], history, started)
        return encoded, EncoderState(*scale, filled[:, -1].to(self.dtype), ring)

    def step(self, x: Inputs, state: EncoderState) -> tuple[Encoded, EncoderState]:
        """Encode one step, x with T = 1: what `unroll` gives, to the last bit, in less time."""
        values, seen_before = x.values[:, 0], state.seen > 0
        observed = torch.isfinite(values)
        (location, spread), scale = self.scale.step(values, ScaleState(*state[:3]), observed)
        before = state.latest.to(values.dtype)
        filled = torch.where(observed, values, before)
        exact = filled.double()
        scaled = torch.where(observed, (exact - location) / spread, 0)
        moved = torch.where(observed & seen_before, (exact - before) / spread, 0)
        given = {VALUE: scaled, CHANGE: moved, OBSERVED: observed}
        inputs = self._joined(x, {name: part[:, None] for name, part in given.items()})
        target, known = filled[:, :1], seen_before[:, :1]
        ring = torch.where(known, state.ring.to(filled.dtype), target)
        history = torch.cat([ring, target], 1)
        started = known | observed[:, :1]
        encoded = Encoded(inputs, location[:, :1], spread[:, :1], history, started)
        return encoded, EncoderState(*scale, filled.to(self.dtype), history[:, 1:].to(self.dtype))

    def _joined(self, x: Inputs, given: Mapping[str, Tensor]) -> Tensor:
        """Return all that the layers read, for the parts [B, T, C] made of the values."""
        width = self.dtype
        parts = [given[part].to(width) for part in self.spec.parts] + [x.clocks.to(width)]
        parts += [e[:, None].expand(-1, x.values.shape[1], -1) for e in self._embedded(x.codes)]
        inputs = torch.cat(parts, -1)
        if x.filled is not None:
            padding = x.filled[..., None].to(width)
            inputs = torch.where(padding.isnan(), inputs, padding)
        if self.spec.frame:
            inputs = inputs.view(*inputs.shape[:-1], *self.spec.frame).movedim(-1, 2)
        return inputs

    def _ring_after(self, history: Tensor, lengths: Tensor) -> Tensor:
        places = lengths[:, None] + torch.arange(self.spec.lags, device=history.device)
        return history.gather(1, places).to(self.dtype)

    def embed_unknown_as_mean(self) -> None:
        """Make code 0, the unknown category, the mean of the known ones. Call after training."""
        with torch.no_grad():
            for table in self.embeddings:
                assert isinstance(table, nn.Embedding)
                if table.num_embeddings > 1:
                    table.weight[0] = table.weight[1:].mean(0)

    def _embedded(self, codes: Tensor) -> list[Tensor]:
        return [table(codes[:, place]) for place, table in enumerate(self.embeddings)]

    def _extend_ring(
        self, target: Tensor, observed: Tensor, state: EncoderState
    ) -> tuple[Tensor, Tensor]:
        """Return ring and target end to end, and the new ring.

        The ring of a series is filled with its first value when that arrives; what stands before
        it here is masked by `Encoded.started`, so no step sees its own future.
        """
        fresh = state.seen[:, 0] == 0
        first = torch.argmax(observed.to(torch.int8), 1, keepdim=True)
        opening = torch.where(fresh[:, None], target.gather(1, first), 0)
        position = torch.arange(target.shape[1], device=target.device)[None]
        unseen = fresh[:, None] & (position < first)
        steps = torch.where(unseen, opening, target)
        ring = torch.where(fresh[:, None], opening, state.ring.to(target.dtype))
        history = torch.cat([ring, steps], 1)
        return history, history[:, history.shape[1] - self.spec.lags :].to(self.dtype)


def _carry_forward(values: Tensor, observed: Tensor, latest: Tensor) -> Tensor:
    """Return values with each hole filled by the value before it, or by `latest` at the start."""
    steps = torch.arange(1, values.shape[1] + 1, device=values.device)[None, :, None]
    newest = torch.where(observed, steps, 0).cummax(1).values
    extended = torch.cat([latest[:, None].to(values.dtype), torch.nan_to_num(values)], 1)
    return extended.gather(1, newest)
