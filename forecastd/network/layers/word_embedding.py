"""Words to vectors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from forecastd.errors import DataError
from forecastd.network.kinds.contract import Facts, Shape
from forecastd.network.kinds.text import WordEmbeddingOptions
from forecastd.network.layers.contract import Factor, Layer, LayerState
from forecastd.network.layers.maps import drawn
from forecastd.network.layers.padding import real_steps


class WordEmbeddingLayer(Layer):
    """A vector of `dimension` numbers, learned, for each of `words` codes, from 1.

    Any other number, 0, NaN and fractions among them, has the vector of unknown words, the last of
    the table, or is a DataError with unknown "error". The codes must not have been scaled.
    """

    options: WordEmbeddingOptions

    def __init__(
        self, entering: Mapping[str, Shape], options: WordEmbeddingOptions, facts: Facts
    ) -> None:
        super().__init__(entering, options, facts)
        self.weight = drawn(facts.weights["weight"], options.weight_initializer)

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Take codes [B, T, 1] to vectors [B, T, dimension]."""
        codes, words = xs[..., 0], self.options.words
        known = (codes >= 1) & (codes <= words) & (codes == codes.round())
        if self.options.unknown == "error":
            _require_known(codes, known, lengths, words)
        rows = torch.where(known, codes - 1, words).long()
        return functional.embedding(rows, self.weight), state

    def factors(self) -> dict[str, tuple[Factor, Factor]]:
        """Return the factors of the options."""
        return {"weight": (self.options.learn_rate_factor, self.options.l2_factor)}


def _require_known(codes: Tensor, known: Tensor, lengths: Tensor | None, words: int) -> None:
    unknown = ~known
    if lengths is not None:
        unknown &= real_steps(lengths, codes.shape[1])
    if unknown.any():
        message = f"{float(codes[unknown][0]):g} is not the code of a word, from 1 to {words}"
        raise DataError(message, hint='set unknown = "map-to-last" to take it as an unknown word')
