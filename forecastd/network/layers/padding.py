"""What stands beyond the ends of sequences and frames: added by an option, or mere filling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from forecastd.errors import DataError
from forecastd.network.kinds.windows import Window


def real_steps(lengths: Tensor, steps: int) -> Tensor:
    """Return [B, steps]: whether a step is one of the first `lengths` of its row."""
    return torch.arange(steps, device=lengths.device)[None] < lengths[:, None]


def cleared(xs: Tensor, lengths: Tensor | None) -> Tensor:
    """Return xs [B, T, ...] with zeros in place of the steps that are not real."""
    if lengths is None:
        return xs
    padding = ~real_steps(lengths, xs.shape[1])
    return xs.masked_fill(padding.view(*padding.shape, *[1] * (xs.ndim - 2)), 0)


def in_steps(frames: Tensor, xs: Tensor) -> Tensor:
    """Return frames [B T, ...] as the steps of series again, [B, T, ...] as those of xs."""
    return frames.reshape(*xs.shape[:2], *frames.shape[1:])


def lengths_after(window: Window, lengths: Tensor | None) -> Tensor | None:
    """Return how many outputs of a window are real, for the lengths [B] of what enters."""
    if lengths is None:
        return None
    found = [window.length_after(length) for length in lengths.tolist()]
    return torch.tensor(found, dtype=lengths.dtype, device=lengths.device)


def extended(
    xs: Tensor, window: Window, fill: float | str, lengths: Tensor | None = None
) -> Tensor:
    """Return xs [N, L, ...] with what a window finds at both sides, [N, L', ...].

    The window then slides over it without more. Each row is extended at its own end; what follows
    the last output of a row has no meaning. fill: a number, or how the values there are repeated:
    "replicate" the outermost; "symmetric-include-edge" and "symmetric-exclude-edge" mirror, again
    and again where needed. Raises DataError where no output is left.
    """
    outputs = window.length_after(xs.shape[1])
    if outputs < 1:
        message = f"a sequence has {xs.shape[1]} steps, and a layer needs {window.min_length}"
        raise DataError(message, hint="leave out sequences that short, or add padding")
    total = (outputs - 1) * window.stride + window.extent
    if lengths is None and not isinstance(fill, str):
        before = window.sides(xs.shape[1])[0]
        sides = (0, 0) * (xs.ndim - 2) + (before, total - before - xs.shape[1])
        return functional.pad(xs, sides, value=fill)
    left: int | Tensor
    if lengths is None:
        left = window.sides(xs.shape[1])[0]
        lengths = torch.full((len(xs),), xs.shape[1], device=xs.device)
    else:
        lefts = [window.sides(length)[0] for length in lengths.tolist()]
        left = torch.tensor(lefts, device=xs.device)[:, None]
    place = torch.arange(total, device=xs.device)[None] - left
    count = lengths[:, None].clamp(min=1)
    source = place if not isinstance(fill, str) else _mirrored(place, count, fill)
    source = torch.minimum(source.clamp(min=0), count - 1)
    rows = torch.arange(len(xs), device=xs.device)[:, None]
    found = xs[rows, source]
    if isinstance(fill, str):
        return found
    added = (place < 0) | (place >= lengths[:, None])
    return found.masked_fill(added.view(*added.shape, *[1] * (xs.ndim - 2)), fill)


def _mirrored(place: Tensor, count: Tensor, fill: str) -> Tensor:
    """Return from which of `count` values each place, also one outside, takes its own."""
    if fill == "replicate":
        return place
    if fill == "symmetric-include-edge":
        turn = place.remainder(2 * count)
        return torch.where(turn < count, turn, 2 * count - 1 - turn)
    turn = place.remainder((2 * (count - 1)).clamp(min=1))
    return torch.where(turn < count, turn, 2 * (count - 1) - turn)
