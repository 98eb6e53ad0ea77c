"""Kinds of layers that make vectors of words and characters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from forecastd.features.characters import GROUPS, Alphabet, Item
from forecastd.network.kinds.contract import (
    IN,
    OUT,
    Facts,
    Kind,
    Options,
    Shape,
    Whole,
)
from forecastd.network.kinds.linear import Initializer

WORDS_MAX = 1 << 24
"""Codes arrive as float32, which tells no more whole numbers apart."""
OTHER = "other"
_LAST = 0x10FFFF


class WordEmbeddingOptions(Options):
    """See layers.word_embedding.WordEmbeddingLayer."""

    dimension: int = Whole
    words: int = Field(ge=1, le=WORDS_MAX)
    unknown: Literal["map-to-last", "error"] = "map-to-last"
    weight_initializer: Initializer = "narrow-normal"
    learn_rate_factor: float = 1.0
    l2_factor: float = 1.0


def _one_number(inputs: Mapping[str, Shape]) -> Shape:
    x = inputs[IN]
    if x.sizes != (1,):
        message = f"takes one code at each step, and what enters is {x}"
        raise ValueError(message)
    return x


def _word_embedding(options: WordEmbeddingOptions, inputs: Mapping[str, Shape]) -> Facts:
    x = _one_number(inputs)
    weights = {"weight": (options.words + 1, options.dimension)}
    return Facts({OUT: Shape((options.dimension,), x.time, x.folded)}, weights)


WORD_EMBEDDING = Kind(WordEmbeddingOptions, _word_embedding)


class AlphabetItem(Options):
    """Some characters, said in one of three ways, and their codes.

    characters: themselves; first, last: the code points from one to the other; group: a name of
    features.characters.GROUPS, or "other" for any that has no code. code: one for all of them;
    "next": the next free one for all; left out: the next free ones, one for each.
    """

    characters: str | None = Field(None, min_length=1)
    first: int | None = Field(None, ge=0, le=_LAST)
    last: int | None = Field(None, ge=0, le=_LAST)
    group: str | None = None
    code: int | Literal["next"] | None = None

    @field_validator("group")
    @classmethod
    def _known_group(cls, value: str | None) -> str | None:
        if value is not None and value != OTHER and value not in GROUPS:
            message = f"is none of {', '.join(GROUPS)}, {OTHER}"
            raise ValueError(message)
        return value

    @field_validator("code", mode="before")
    @classmethod
    def _code(cls, value: object) -> object:
        if value in (None, "next") or (type(value) is int and 1 <= value <= _LAST):
            return value
        message = f'is neither a whole number from 1 to {_LAST} nor "next"'
        raise ValueError(message)

    @model_validator(mode="after")
    def _said_once(self) -> AlphabetItem:
        ranged = self.first is not None and self.last is not None
        partly = (self.first is None) != (self.last is None)
        ways = [self.characters is not None, ranged, self.group is not None]
        if sum(ways) != 1 or partly:
            message = "an item of an alphabet has characters, or first and last, or a group"
            raise ValueError(message)
        return self

    def item(self) -> Item:
        """Return the characters themselves."""
        if self.group is not None:
            return Item(None if self.group == OTHER else GROUPS[self.group], self.code)
        if self.first is not None and self.last is not None:
            return Item("".join(map(chr, range(self.first, self.last + 1))), self.code)
        return Item(self.characters, self.code)


class CharactersOptions(Options):
    """See layers.characters.CharactersLayer.

    alphabet: a text stands for {characters = text}; by default tab, newline, and 32 to 126.
    """

    alphabet: list[AlphabetItem] = [AlphabetItem(group="default")]
    ignore_case: bool = False
    form: Literal["index", "unit-vector"] = "index"

    @field_validator("alphabet", mode="before")
    @classmethod
    def _items(cls, value: object) -> object:
        if not isinstance(value, list):
            message = "is not a list of texts and tables"
            raise ValueError(message)
        return [{"characters": item} if isinstance(item, str) else item for item in value]

    @model_validator(mode="after")
    def _has_characters(self) -> CharactersOptions:
        self.made()
        return self

    def made(self) -> Alphabet:
        """Return the alphabet. Raises ValueError where it has no character."""
        return Alphabet((item.item() for item in self.alphabet), self.ignore_case)


def _characters(options: CharactersOptions, inputs: Mapping[str, Shape]) -> Facts:
    x = _one_number(inputs)
    width = options.made().size if options.form == "unit-vector" else 1
    return Facts({OUT: Shape((width,), x.time, x.folded)})


CHARACTERS = Kind(CharactersOptions, _characters)
