"""From the errors of single steps to the loss of a chunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forecastd.data.lanes import Chunk
from forecastd.network.losses import Errors
from forecastd.network.model import Forecast
from forecastd.network.walker import Walker
from forecastd.training.passes import Marks


@dataclass(frozen=True)
class Loss:
    """The mean error of a chunk.

    weighed: errors of forecasts count in the units of the data, each series by its deviation, and
    not as the encoder scales them. by_row: the mean over rows of the mean over the steps of each
    row, so that a short sequence counts as much as a long one; else the mean over all steps.
    """

    errors: Errors
    weighed: bool
    by_row: bool = False

    def of_chunk(
        self, walker: Walker, chunk: Chunk, marks: Marks, deviation: Tensor
    ) -> tuple[Tensor, int]:
        """Unroll a chunk and return the loss of its marked steps; see `__call__`.

        deviation [S]: of each series of the store, float64.
        """
        forecast = walker.unroll(chunk, marks.at)
        target = walker.targets(chunk, marks.at)
        mask = torch.from_numpy(marks.counts).to(target.device)
        series = torch.from_numpy(chunk.series).to(deviation.device)
        return self(forecast, target, mask, deviation[series])

    def __call__(
        self, forecast: Forecast, target: Tensor, counts: Tensor, deviation: Tensor
    ) -> tuple[Tensor, int]:
        """Return the loss, and how much it stands for beside those of other chunks.

        target [B, T', ...]: NaN where unknown. counts [B, T']: the steps that count. deviation [B]:
        of each series in the training part, float64.
        """
        errors, known = self.errors(forecast, target)
        weight = counts.to(errors.dtype)
        if self.weighed and self.errors.power:
            scale = (forecast.spread / deviation[:, None]) ** self.errors.power * counts
            weight = scale.to(errors.dtype)
        weighted = errors * known * weight[..., None]
        counted = known * (weight > 0)[..., None]
        if not self.by_row:
            return weighted.sum() / counted.sum().clamp(min=1), int(counts.sum())
        steps = counted.sum((1, 2))
        rows = (steps > 0).sum()
        means = weighted.sum((1, 2)) / steps.clamp(min=1)
        return means.sum() / rows.clamp(min=1), int(rows)
