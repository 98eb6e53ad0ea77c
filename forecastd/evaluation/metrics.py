"""Metrics as running sums, so any amount of forecasts is scored in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forecastd.series import Signature

Floats = NDArray[np.floating]


@dataclass
class Scores:
    """Sums over scored values; `summary` turns them into metrics.

    quantiles: of the forecasts; empty for a point forecast.
    """

    signature: Signature
    quantiles: tuple[float, ...]
    count: int = 0
    absolute: float = 0.0
    squared: float = 0.0
    scaled: float = 0.0
    standard_absolute: float = 0.0
    standard_squared: float = 0.0
    pinball: float = 0.0
    magnitude: float = 0.0
    covered: dict[int, int] = field(default_factory=dict)

    def add(self, forecast: Floats, truth: Floats, mase_scale: Floats, deviation: Floats) -> None:
        """Count forecasts [n, horizon, Q] against truth [n, horizon]; NaN truth is left out.

        mase_scale, deviation: [n], of the training part of each row's series.
        """
        known = np.isfinite(truth)
        if not known.any():
            return
        truth = truth.astype(np.float64)  # sums of float32 would depend on how they are cut
        middle = forecast[..., self.signature.median if self.quantiles else 0]
        error = np.where(known, truth - middle, 0.0)
        self.count += int(known.sum())
        self.absolute += float(np.abs(error).sum())
        self.squared += float((error**2).sum())
        self.scaled += float((np.abs(error) / mase_scale[:, None]).sum())
        standard = error / deviation[:, None]
        self.standard_absolute += float(np.abs(standard).sum())
        self.standard_squared += float((standard**2).sum())
        self.magnitude += float(np.abs(np.where(known, truth, 0.0)).sum())
        self._add_quantiles(forecast, truth, known)

    def _add_quantiles(self, forecast: Floats, truth: Floats, known: NDArray[np.bool_]) -> None:
        levels = np.array(self.quantiles or (0.5,))
        difference = np.where(known, truth, 0.0)[..., None] - forecast
        pinball = np.maximum(levels * difference, (levels - 1) * difference).mean(-1)
        self.pinball += float((pinball * known).sum())
        for level in self.signature.levels if self.quantiles else ():
            lower, upper = self.signature.interval(level)
            inside = (truth >= forecast[..., lower]) & (truth <= forecast[..., upper])
            self.covered[level] = self.covered.get(level, 0) + int(inside.sum())

    def summary(self) -> dict[str, float]:
        """Return the metrics by name; NaN where nothing was scored.

        mae, rmse in the units of the data; mase against the seasonal naive forecast within the
        training part (Hyndman & Koehler 2006); mae_std, mse_std in deviations of the training
        part; pinball is the mean over the quantiles, wql twice its sum over the sum of |truth|;
        coverage_80 the share of truth inside the 80 % band.
        """
        count = self.count or np.nan
        found = {
            "mae": self.absolute / count,
            "rmse": float(np.sqrt(self.squared / count)),
            "mase": self.scaled / count,
            "mae_std": self.standard_absolute / count,
            "mse_std": self.standard_squared / count,
            "pinball": self.pinball / count,
            "wql": 2 * self.pinball / (self.magnitude or np.nan),
        }
        covered = sorted(self.covered.items())
        return found | {f"coverage_{level}": inside / count for level, inside in covered}
