"""Scoring that goes on from saved states, and keeps those it ends with.

It is the live life of each series in batch: rows that are not newer than a series' state are
passed over, stamps missing since then are stepped over or, where they are too many, the series
starts afresh, by the rule of the daemon.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from forecastd.artifact import Artifact
from forecastd.data.grid import missing_stamps
from forecastd.data.lanes import Chunk, Pieces, Shape, pieces_of
from forecastd.data.sequences import Batching, SequencePlan, sequence_plan, sequence_walk
from forecastd.data.store import Store
from forecastd.errors import UserError
from forecastd.features.encoder import Inputs
from forecastd.network.device import take_threads
from forecastd.network.kinds.contract import Shapes
from forecastd.network.model import ForecastNetwork, NetworkState, flatten, unflatten
from forecastd.network.sweep import (
    LANES,
    Swept,
    Wanted,
    last_pieces,
    newest,
    observed_between,
    says_once,
)
from forecastd.network.walker import STEPS_MAX, Walker, steps_at_once
from forecastd.runtime.state_file import SavedStates
from forecastd.scoring.predict import Report, Scored, write
from forecastd.series import IntArray, Keys

Row = dict[str, NDArray[Any]]
"""What one series remembers, by name."""


class Continued(NamedTuple):
    """What was written, the states after it, and how many rows were too old to be used."""

    scored: Scored
    states: SavedStates
    passed_over: int


def state_shapes(network: ForecastNetwork) -> Shapes:
    """Return the shape of what a series remembers, by name."""
    flat = flatten(network.initial_state(1), list(network.layers))
    return {name: tuple(tensor.shape[1:]) for name, tensor in flat.items()}


def predict_on(
    artifact: Artifact,
    store: Store,
    target: Path,
    before: SavedStates | None = None,
    *,
    last: bool = False,
    report: Report = lambda done, total: None,
) -> Continued:
    """Write what a model says of a store, as `predict` does, from states that were saved.

    before: of this model, see state_file.states_for; None: every series is new. The states that
    come back are those of all series, also of those that the store does not have. Raises UserError
    where the network needs the future, so that it has no state to go on from.
    """
    reason = artifact.network.layers.wiring.needs_future()
    if reason is not None:
        message = f"{reason}, so there is no state to go on from"
        raise UserError(message, hint="leave --state-in and --state-out out")
    take_threads(artifact.spec)
    run = _Run(artifact, store, before, last=last)
    scored = write(artifact, store, target, run.parts(), report)
    return Continued(scored, run.states(), int((run.begin - store.offsets[:-1]).sum()))


class _Run:
    """One way through a store from some states, keeping those that it ends with."""

    def __init__(
        self, artifact: Artifact, store: Store, before: SavedStates | None, *, last: bool
    ) -> None:
        self.artifact, self.store, self.before = artifact, store, before
        self.codes = artifact.vocabulary.encode(store.keys, store.static)
        self.places = np.full(store.series_count, -1, np.int64)
        if before is not None:
            self.places = before.places(store.keys.tolist())
        self.begin = self._begin()
        self.steps = np.zeros(store.series_count, np.int64)
        wanted = newest if last else observed_between
        self.wanted: Wanted = wanted(store, self.begin, store.offsets[1:])
        self.ended: dict[int, Row] = {}
        network = artifact.network
        self.walker = _SeededWalker(network, artifact.clocks, self.codes)
        self.walker.seeds = self._seeds()
        self.walker.begin = self.begin

    def parts(self) -> Iterator[Swept]:
        """Yield what is said, and note the states at the end of each series."""
        store, spec = self.store, self.artifact.spec
        once = self.artifact.signature.supervised and says_once(spec)
        ends = store.offsets[1:]
        pieces = pieces_of(store, self.begin, ends, ends)
        pieces = last_pieces(pieces) if once else pieces
        length = steps_at_once(spec, LANES) if not once else STEPS_MAX
        plan = sequence_plan(pieces, Batching(LANES, length=length, sort="descending"))
        batch = -1
        for chunk in sequence_walk(store, plan, Shape(1, spec.head.horizon, 0)):
            batch += bool(chunk.fresh.all())
            yield self._said(chunk, once=once)
            self._keep(chunk, plan, batch)

    def states(self) -> SavedStates:
        """Return the states of all series, sorted as they came: known ones, then new ones."""
        store, before = self.store, self.before
        moved = sorted(self.ended)
        names = list(state_shapes(self.artifact.network))
        keys = store.keys.take(np.array(moved, np.int64))
        ends = np.asarray(store.offsets[1:])[moved]
        gone = self.steps[moved]
        arrays = {name: np.stack([self.ended[s][name] for s in moved]) for name in names if moved}
        times = np.asarray(store.times)[ends - 1] if moved else np.zeros(0, np.int64)
        if before is None:
            made = arrays or {n: a[:0] for n, a in self._blank().items()}
            return SavedStates(self.artifact.digest, keys, times, gone, made)
        stay = np.setdiff1d(np.arange(len(before)), self.places[moved])
        kept = before.take(stay)
        if not moved:
            return kept
        joined = {name: np.concatenate([kept.arrays[name], arrays[name]]) for name in names}
        return SavedStates(
            self.artifact.digest,
            Keys.of([*kept.keys.tolist(), *keys.tolist()]),
            np.concatenate([kept.last_time, times]),
            np.concatenate([kept.steps, gone]),
            joined,
        )

    def _begin(self) -> IntArray:
        """Return the first row of each series that is newer than its state."""
        store = self.store
        begin = np.array(store.offsets[:-1])
        for series in np.flatnonzero(self.places >= 0):
            assert self.before is not None
            rows = store.rows_of(int(series))
            newest = self.before.last_time[self.places[series]]
            begin[series] += np.searchsorted(store.times[rows], newest, side="right")
        return begin

    def _seeds(self) -> dict[int, Row]:
        """Return the states that series go on from, stepped over stamps that are missing."""
        store, before, signature = self.store, self.before, self.artifact.signature
        left = np.asarray(store.offsets[1:]) > self.begin
        known = np.flatnonzero((self.places >= 0) & left)
        if before is None or not len(known):
            return {}
        times = before.last_time[self.places[known]]
        first = np.asarray(store.times)[self.begin[known]]
        gap = self.artifact.max_gap
        holes, reset = missing_stamps(times, first, signature.frequency, gap)
        seeds = {}
        for series, last, missing, fresh in zip(known, times, holes, reset, strict=True):
            place = self.places[series]
            if fresh:
                continue
            row = {name: array[place] for name, array in before.arrays.items()}
            after = signature.frequency.advance(last, np.arange(1, missing + 1))
            seeds[int(series)] = self._stepped(int(series), row, after) if missing else row
            self.steps[series] = before.steps[place] + missing
        return seeds

    def _stepped(self, series: int, row: Row, times: IntArray) -> Row:
        """Return a state after steps without values."""
        network = self.artifact.network
        nothing = np.full((1, len(times), self.artifact.spec.features.channels), np.nan, np.float32)
        inputs = Inputs(
            torch.from_numpy(nothing).to(network.device),
            torch.from_numpy(self.artifact.clocks(times[None])).to(network.device),
            torch.from_numpy(self.codes[series : series + 1].astype(np.int64)).to(network.device),
        )
        blank = network.initial_state(1)
        names = list(network.layers)
        flat = flatten(blank, names)
        given = {n: torch.from_numpy(row[n][None].copy()).to(t) for n, t in flat.items()}
        with torch.inference_mode():
            _, after = network.unroll(inputs, unflatten(given, blank, names))
        return {n: t[0].numpy(force=True) for n, t in flatten(after, names).items()}

    def _blank(self) -> Row:
        network = self.artifact.network
        flat = flatten(network.initial_state(1), list(network.layers))
        return {name: tensor.numpy(force=True) for name, tensor in flat.items()}

    def _said(self, chunk: Chunk, *, once: bool) -> Swept:
        steps = np.arange(chunk.values.shape[1])
        assert chunk.ends is not None
        if once:
            here = (steps == chunk.length[:, None] - 1) & chunk.ends[:, None]
        else:
            rows = np.minimum(chunk.rows[:, None] + steps, len(self.store.times) - 1)
            real = steps < chunk.length[:, None]
            here = real & self.wanted(chunk.series[:, None], rows)
        with torch.inference_mode():
            forecast = self.walker.unroll(chunk)
            lanes, places = np.nonzero(here)
            at = np.zeros_like(places) if says_once(self.artifact.spec) else places
            values = forecast.chosen(lanes, at).float().numpy(force=True)
        read = int(chunk.length.sum())
        return Swept(chunk, lanes, chunk.rows[lanes] + places, values, read)

    def _keep(self, chunk: Chunk, plan: SequencePlan, batch: int) -> None:
        """Note the states of series whose last row is in this chunk."""
        assert chunk.ends is not None
        assert self.walker.state is not None
        own = Pieces(plan.pieces.table[plan.first[batch] : plan.first[batch + 1]])
        final = chunk.ends & (own.end == np.asarray(self.store.offsets[1:])[own.series])
        flat = flatten(self.walker.state, list(self.artifact.network.layers))
        for lane in np.flatnonzero(final):
            series, begin, end = (int(n[lane]) for n in (own.series, own.begin, own.end))
            row = {name: t[lane].numpy(force=True).copy() for name, t in flat.items()}
            self.ended[series] = row
            self.steps[series] = end - begin + (begin == self.begin[series]) * self.steps[series]


class _SeededWalker(Walker):
    """Begins the first piece of a series at its saved state; all others as usual.

    seeds: by series. begin [S]: the row that the first piece of each series begins with.
    """

    seeds: dict[int, Row]
    begin: IntArray

    def _started(self, chunk: Chunk, fresh: NDArray[np.bool_]) -> NetworkState:
        state = super()._started(chunk, fresh)
        names = list(self.network.layers)
        flat = {name: tensor.clone() for name, tensor in flatten(state, names).items()}
        for lane, (series, row) in enumerate(zip(chunk.series, chunk.rows, strict=True)):
            seed = self.seeds.get(int(series))
            if seed is not None and row == self.begin[series]:
                for name, tensor in flat.items():
                    tensor[lane] = torch.from_numpy(np.asarray(seed[name])).to(tensor)
        return unflatten(flat, state, names)
