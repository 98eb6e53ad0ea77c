"""Closed loop: forecasts are fed back as if they had been observed, as far ahead as is wanted.

The first forecast is the one made after the last true value; it is what the network takes next, so
nothing is skipped and nothing is taken twice. Forecasts are fed in the units of the data and scaled
again by the encoder, as an observation is. One step goes as far as the network's first horizon,
so that a network trained on one step ahead can go on for as many as wanted; errors add up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from forecastd.artifact import Artifact
from forecastd.data.lanes import Chunk, Pieces, Shape, pieces_of
from forecastd.data.sequences import Batching, sequence_plan, sequence_walk
from forecastd.data.store import Store
from forecastd.errors import DataError
from forecastd.features.encoder import Inputs
from forecastd.network.device import take_threads
from forecastd.network.model import ForecastNetwork, NetworkState
from forecastd.network.sweep import LANES, last_pieces
from forecastd.network.walker import STEPS_MAX, Walker
from forecastd.runtime.closed_loop import require_closed
from forecastd.scoring.predict import Report, Scored, published
from forecastd.scoring.tables import closed_schema, closed_table


def closed_loop(
    network: ForecastNetwork, state: NetworkState, clocks: Tensor, codes: Tensor
) -> tuple[Tensor, NetworkState]:
    """Forecast B series step by step from states that observations left, feeding back.

    clocks [B, steps, 2 * clocks]: of the times that are forecast. codes [B, columns]: categories.
    Returns the central forecasts [B, steps] in the units of the data, float64, and the states after
    all of them but the last were fed. The network must forecast its only channel, see
    `require_closed`; nothing is modified.
    """
    quantiles = network.spec.head.quantiles
    middle = quantiles.index(0.5) if quantiles else 0
    found: list[Tensor] = []
    for step in range(clocks.shape[1]):
        if step:
            values = found[-1][:, None, None].float()
            _, state = network.step(Inputs(values, clocks[:, step - 1 : step], codes), state)
        found.append(network.forecast(state).unscaled()[:, 0, 0, middle])
    return torch.stack(found, 1), state


def predict_closed(
    artifact: Artifact,
    store: Store,
    target: Path,
    steps: int,
    *,
    warmup: int | None = None,
    report: Report = lambda done, total: None,
) -> Scored:
    """Write closed-loop forecasts of a store's series to a Parquet file, whole or not at all.

    warmup: rows of each series that are observed before the loop closes; None: all of them. Raises
    ArtifactError as `require_closed`, DataError where no series has so many rows.
    """
    require_closed(artifact)
    take_threads(artifact.spec)
    pieces = _observed(store, warmup)
    if not len(pieces):
        message = f"no series has the {warmup} rows of the warm-up"
        raise DataError(message, hint="shorten the warm-up")
    loop = _Loop(artifact, store, steps)
    plan = sequence_plan(pieces, Batching(LANES, length=STEPS_MAX, sort="descending"))
    done, total, batch, left = 0, len(store.times), -1, 0
    with published(target, closed_schema(artifact.signature)) as writer:
        for chunk in sequence_walk(store, plan, Shape(1, 1, 0)):
            if not left:
                batch, left = batch + 1, -(-int(plan.reaches[batch + 1]) // STEPS_MAX)
            loop.observe(chunk)
            done, left = done + int(chunk.length.sum()), left - 1
            report(min(done, total), total)
            if not left:
                own = plan.pieces.table[plan.first[batch] : plan.first[batch + 1]]
                writer.write_table(loop.close(Pieces(own)))
    return Scored(target, len(store.keys), len(pieces), len(pieces) * steps)


def _observed(store: Store, warmup: int | None) -> Pieces:
    """Return the stretch of each series that leads up to where the loop closes."""
    begin, end = store.offsets[:-1], store.offsets[1:]
    if warmup is not None:
        end = np.where(end - begin >= warmup, begin + warmup, begin)
    return last_pieces(pieces_of(store, begin, end, end))


class _Loop:
    """Observes mini-batches of whole series, and closes the loop at the end of each of them."""

    def __init__(self, artifact: Artifact, store: Store, steps: int) -> None:
        self.artifact, self.store, self.steps = artifact, store, steps
        self.codes = artifact.vocabulary.encode(store.keys, store.static)
        self.walker = Walker(artifact.network, artifact.clocks, self.codes)

    def observe(self, chunk: Chunk) -> None:
        """Take true values."""
        with torch.inference_mode():
            self.walker.unroll(chunk, np.zeros(1, np.int64))

    def close(self, pieces: Pieces) -> pa.Table:
        """Return the forecasts that follow the stretches that were observed."""
        artifact, network = self.artifact, self.artifact.network
        origins = np.asarray(self.store.times)[pieces.end - 1]
        ahead = np.arange(1, self.steps + 1)
        times = artifact.signature.frequency.advance(origins[:, None], ahead)
        state = self.walker.state
        assert state is not None
        clocks = torch.from_numpy(artifact.clocks(times)).to(network.device)
        codes = torch.from_numpy(self.codes[pieces.series].astype(np.int64)).to(network.device)
        with torch.inference_mode():
            found, _ = closed_loop(network, state, clocks, codes)
        values = found.float().numpy(force=True)[..., None]
        series = pieces.series.astype(np.int64)
        return closed_table(series, self.store.keys, origins, values, artifact.signature)
