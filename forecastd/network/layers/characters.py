"""Characters to codes or unit vectors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from forecastd.errors import DataError
from forecastd.network.kinds.contract import Facts, Shape
from forecastd.network.kinds.text import CharactersOptions
from forecastd.network.layers.contract import Layer, LayerState
from forecastd.network.layers.padding import real_steps


class CharactersLayer(Layer):
    """The code of each character, given as its Unicode code point, in an alphabet.

    alphabet: texts and tables, see kinds.text.AlphabetItem. form "index": the code, from 1;
    "unit-vector": ones at the place of the code. A character that has none is a DataError.
    """

    options: CharactersOptions
    _points: Tensor
    _codes: Tensor

    def __init__(
        self, entering: Mapping[str, Shape], options: CharactersOptions, facts: Facts
    ) -> None:
        super().__init__(entering, options, facts)
        self.alphabet = options.made()
        self.asks_host = self.alphabet.other is None
        pairs = sorted((ord(character), code) for character, code in self.alphabet.codes.items())
        # where no character has a code, one that is none keeps the tables from being empty
        table = torch.tensor(pairs or [(-1, 0)], dtype=torch.int64)
        self.register_buffer("_points", table[:, 0].contiguous(), persistent=False)
        self.register_buffer("_codes", table[:, 1].contiguous(), persistent=False)

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Take code points [B, T, 1] to codes [B, T, 1] or unit vectors [B, T, size]."""
        points = torch.nan_to_num(xs[..., 0], nan=-1).long()
        place = torch.searchsorted(self._points, points).clamp(max=len(self._points) - 1)
        known = (self._points[place] == points) & (points == xs[..., 0])
        other = self.alphabet.other
        if other is None:
            _require_known(xs[..., 0], known, lengths)
        codes = torch.where(known, self._codes[place], other or 1)
        if self.options.form == "index":
            return codes[..., None].to(xs.dtype), state
        return functional.one_hot(codes - 1, self.alphabet.size).to(xs.dtype), state


def _require_known(points: Tensor, known: Tensor, lengths: Tensor | None) -> None:
    unknown = ~known
    if lengths is not None:
        unknown &= real_steps(lengths, points.shape[1])
    if unknown.any():
        message = f"{float(points[unknown][0]):g} is no code point of a character of the alphabet"
        raise DataError(message, hint='add an item with the group "other" for all others')
