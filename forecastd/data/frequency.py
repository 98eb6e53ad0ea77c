"""The frequency and the season of a data set, found from its stamps and values, with the reason.

Both are guesses that `forecast init` writes down and the settings override.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forecastd.errors import DataError
from forecastd.series import FloatArray, Frequency, IntArray

DIFFERENCES_MAX = 2_000_000
SERIES_MAX = 24
ROWS_MAX = 20_000
SEASON_MAX = 20_000
CORRELATION_MIN = 0.3
COUNTED_CORRELATION_MIN = 0.5
COUNTED_SEASON_MAX = 400

_SECOND, _MINUTE, _HOUR, _DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
_WEEK = 7 * _DAY
_SENSIBLE = np.array(
    [n * _SECOND for n in (1, 2, 5, 10, 15, 20, 30)]
    + [n * _MINUTE for n in (1, 2, 3, 5, 10, 12, 15, 20, 30)]
    + [n * _HOUR for n in (1, 2, 3, 4, 6, 8, 12)]
    + [_DAY, _WEEK]
)


def infer_frequency(
    times_per_series: Sequence[IntArray], *, counted: bool = False
) -> tuple[Frequency, str]:
    """Return the distance between neighbouring stamps that fits best, and why.

    times_per_series: sorted times of each series; repeats are skipped. counted: the times are
    integer counts. Raises DataError where no series has two different stamps.
    """
    differences = _differences(times_per_series)
    if len(differences) == 0:
        if counted:
            return Frequency("count", 1), "no series has two stamps, so steps of 1 are assumed"
        message = "no series has two different stamps, so the frequency cannot be found"
        raise DataError(message, hint='set freq in [data], for example freq = "1h"')
    mode, share = _mode(differences)
    if counted:
        return Frequency("count", mode), _because(f"{mode} apart", share, len(differences))
    if float(np.median(differences)) >= 27.5 * _DAY:
        months = _months(times_per_series)
        if months is not None:
            found = Frequency("month", months[0])
            return found, _because(f"{found} apart", months[1], len(differences))
    if float(np.mean(differences % mode == 0)) >= 0.9:
        found = Frequency("duration", mode)
        return found, _because(f"{found} apart", share, len(differences))
    middle = int(np.median(differences))
    nearest = int(_SENSIBLE[np.argmin(np.abs(_SENSIBLE - middle))])
    if abs(nearest - middle) <= 0.1 * nearest:
        found = Frequency("duration", nearest)
        return found, f"neighbouring stamps jitter around {found}"
    found = Frequency("duration", mode)
    return found, _because(f"{found} apart", share, len(differences))


def infer_season(values: Sequence[FloatArray], frequency: Frequency) -> tuple[int, str]:
    """Return the shortest season in steps that the values clearly show (1: none), and why.

    values: one array per series on the grid of `frequency`, NaN where missing. Each candidate is
    judged by the autocorrelation at its lag after a moving mean of the same length is removed,
    so that a trend is no season.
    """
    series = _sample(values)
    longest = max((len(one) for one in series), default=0)
    if frequency.kind == "count":
        return _counted_season(series, longest)
    candidates = [c for c in season_candidates(frequency) if 3 * c <= longest]
    if not candidates:
        return 1, "too few rows to see a season" if longest else "no values"
    judged = [(_correlation(series, c, c), c) for c in candidates]
    for strength, candidate in judged:
        if strength >= CORRELATION_MIN:
            return candidate, f"values {candidate} steps apart correlate by {strength:.2f}"
    best, candidate = max(judged)
    return 1, f"no season stands out; the best, {candidate} steps, correlates by {best:.2f}"


def season_candidates(frequency: Frequency) -> list[int]:
    """Return the seasons a calendar suggests, in steps, shortest first."""
    if frequency.kind == "month":
        return [12 // frequency.size] if frequency.size < 12 and 12 % frequency.size == 0 else []
    if frequency.kind == "count":
        return list(range(2, COUNTED_SEASON_MAX + 1))
    if frequency.size == _WEEK:
        return [52]
    cycles = [_DAY, _WEEK] if frequency.size >= _MINUTE else [_MINUTE, _HOUR, _DAY]
    steps = [cycle // frequency.size for cycle in cycles if cycle % frequency.size == 0]
    longest = 400 if frequency.size >= _MINUTE and len(steps) > 1 else SEASON_MAX
    daily = steps[:1]
    return [n for n in daily + [n for n in steps[1:] if n <= longest] if 2 <= n <= SEASON_MAX]


def _counted_season(series: list[NDArray[np.float64]], longest: int) -> tuple[int, str]:
    """Look for the shortest clear peak among all lags: counts have no calendar to suggest one."""
    longest_lag = min(COUNTED_SEASON_MAX, longest // 6)
    if longest_lag < 3:
        return 1, "too few rows to see a season"
    short = [one[-5_000:] for one in series[:8]]
    lags = np.arange(1, longest_lag + 2)
    strengths = np.array([_correlation(short, max(int(lag), 2), int(lag)) for lag in lags])
    inner = strengths[1:-1]
    peaks = np.flatnonzero((inner > strengths[:-2]) & (inner >= strengths[2:])) + 1
    clear = [p for p in peaks if strengths[p] >= COUNTED_CORRELATION_MIN]
    # A season still holds two rounds on; a wave without a clock has lost its phase by then.
    clear = [p for p in clear if _correlation(short, int(lags[p]), 2 * int(lags[p])) >= 0.4]
    if not clear:
        return 1, "no season stands out among the counts"
    best = max(float(strengths[p]) for p in clear)
    chosen = next(p for p in clear if strengths[p] >= 0.9 * best)
    return int(lags[chosen]), (
        f"values {lags[chosen]} steps apart correlate by {strengths[chosen]:.2f}"
    )


def _sample(values: Sequence[FloatArray]) -> list[NDArray[np.float64]]:
    """Take the newest rows of some evenly spread series: enough to judge, bounded in cost.

    A few wild values would hide any season, so the outermost are cut back, here and once more
    after the moving mean, which spreads them.
    """
    stride = max(1, -(-len(values) // SERIES_MAX))
    return [_cut_back(one[-ROWS_MAX:].astype(np.float64), 0.005) for one in values[::stride]]


def _correlation(series: list[NDArray[np.float64]], window: int, lag: int) -> float:
    """Return the median over series of the autocorrelation at `lag` after detrending."""
    found = []
    for one in series:
        if len(one) < 3 * lag:
            continue
        rest = _cut_back(one - _moving_mean(one, window), 0.02)
        early, late = rest[:-lag], rest[lag:]
        both = np.isfinite(early) & np.isfinite(late)
        if np.count_nonzero(both) < 2 * lag:
            continue
        early, late = early[both], late[both]
        early, late = early - early.mean(), late - late.mean()
        scale = float(np.sqrt((early**2).mean() * (late**2).mean()))
        found.append(float((early * late).mean()) / scale if scale > 1e-9 else 0.0)
    return float(np.median(found)) if found else 0.0


def _cut_back(values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Bring the outermost values of either side to the quantile at `share`; NaN stays."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return values
    low, high = np.quantile(known, [share, 1 - share])
    return np.clip(values, low, high)


def _moving_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the centred mean of `window` neighbours, skipping NaN, cut at the ends."""
    good = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(good)])
    middle = np.arange(len(values))
    start = np.maximum(middle - window // 2, 0)
    end = np.minimum(start + window, len(values))
    start = np.maximum(end - window, 0)
    means: NDArray[np.float64] = (sums[end] - sums[start]) / np.maximum(
        counts[end] - counts[start], 1
    )
    return means


def _differences(times_per_series: Sequence[IntArray]) -> IntArray:
    taken: list[IntArray] = []
    count = 0
    for times in times_per_series:
        steps = np.diff(times)
        taken.append(steps[steps > 0])
        count += len(taken[-1])
        if count >= DIFFERENCES_MAX:
            break
    return np.concatenate(taken) if taken else np.empty(0, np.int64)


def _mode(numbers: IntArray) -> tuple[int, float]:
    found, counts = np.unique(numbers, return_counts=True)
    best = int(np.argmax(counts))
    return int(found[best]), float(counts[best] / len(numbers))


def _months(times_per_series: Sequence[IntArray]) -> tuple[int, float] | None:
    """Return the mode of whole months between stamps, or None where stamps are not monthly."""
    gaps: list[IntArray] = []
    for times in times_per_series[:10_000]:
        stamps = times.astype("datetime64[us]")
        months = stamps.astype("datetime64[M]")
        days = (stamps - months.astype("datetime64[us]")).astype("timedelta64[D]").astype(np.int64)
        if len(days) and days.max() - days.min() > 0 and days.min() < 27:
            return None
        steps = np.diff(months.astype(np.int64)).view(np.int64)
        gaps.append(steps[steps > 0])
    together = np.concatenate(gaps) if gaps else np.empty(0, np.int64)
    return _mode(together) if len(together) else None


def _because(distance: str, share: float, count: int) -> str:
    return f"{100 * share:.1f} % of {count:,} neighbouring stamps are {distance}"
