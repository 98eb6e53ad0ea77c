"""Words and characters to vectors."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest
import torch
from networks import layer
from torch import Tensor

from forecastd.errors import DataError, SpecError
from forecastd.network.graph import LayerGraph
from forecastd.network.kinds.contract import OUT, Shape
from forecastd.network.layers.contract import Layer, Signal
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import wire


def unrolled(made: Layer, codes: list[float], lengths: Tensor | None = None) -> Tensor:
    xs = torch.tensor(codes).view(1, -1, 1)
    with torch.no_grad():
        return made.unroll(xs, made.initial_state(1), lengths)[0][0]


def points(text: str) -> list[float]:
    return [float(ord(character)) for character in text]


@pytest.mark.shows("S29")
@pytest.mark.trap(36)
def test_codes_of_words_count_from_1_and_all_others_share_the_last_vector() -> None:
    made = layer("word_embedding", 1, dimension=3, words=4)
    (table,) = made.parameters()
    assert table.shape == (5, 3)
    found = unrolled(made, [1, 4, 0, 5, -1, 2.5, math.nan, math.inf])
    expected = table.detach()[[0, 3, 4, 4, 4, 4, 4, 4]]
    assert torch.equal(found, expected)


@pytest.mark.shows("S29")
def test_an_unknown_word_can_be_an_error_where_it_is_no_padding() -> None:
    made = layer("word_embedding", 1, dimension=3, words=4, unknown="error")
    unrolled(made, [1, 4, 0, 0], torch.tensor([2]))
    with pytest.raises(DataError, match=r"5 is not the code of a word, from 1 to 4.*map-to-last"):
        unrolled(made, [1, 5])


@pytest.mark.shows("S29")
def test_vectors_of_words_begin_narrow_unless_told_otherwise() -> None:
    torch.manual_seed(0)
    narrow, wide = (
        layer("word_embedding", 1, dimension=50, words=399, **options)
        for options in ({}, {"weight_initializer": "glorot", "l2_factor": 0.5})
    )
    table, other = (next(made.parameters()).detach() for made in (narrow, wide))
    assert abs(float(table.std()) - 0.01) < 3e-4
    assert abs(float(other.abs().max()) - math.sqrt(6 / (400 + 50))) < 1e-3
    assert wide.factors() == {"weight": (1.0, 0.5)}


@pytest.mark.shows("S115")
def test_characters_are_codes_or_unit_vectors() -> None:
    made = layer("characters", 1)
    assert unrolled(made, points("\t ~")).tolist() == [[1], [3], [97]]
    unit = layer("characters", 1, alphabet=["xy"], form="unit-vector")
    assert unit.facts.outputs[OUT] == Shape((2,))
    assert unrolled(unit, points("yxx")).tolist() == [[0, 1], [1, 0], [1, 0]]
    assert not list(made.parameters())
    assert not made.state_dict()


@pytest.mark.shows("S115")
def test_an_alphabet_is_written_as_texts_ranges_and_groups() -> None:
    made = layer(
        "characters",
        1,
        alphabet=[
            {"group": "digit", "code": "next"},
            "+-",
            {"first": ord("a"), "last": ord("c")},
            {"characters": "xyz", "code": 2},
            {"group": "other", "code": 9},
        ],
        ignore_case=True,
    )
    found = unrolled(made, [*points("7+cAz€"), math.nan, 0.5])
    assert found[:, 0].tolist() == [1, 2, 6, 4, 2, 9, 9, 9]


@pytest.mark.shows("S115")
def test_a_character_outside_the_alphabet_is_told_unless_it_is_padding() -> None:
    made = layer("characters", 1, alphabet=["ab"])
    assert unrolled(made, [*points("ab"), 0.0], torch.tensor([2])).shape == (3, 1)
    with pytest.raises(DataError, match=r"99 is no code point.*other"):
        unrolled(made, points("abc"))


@pytest.mark.shows("S115")
def test_a_network_takes_a_text_and_gives_vectors() -> None:
    layers = [
        LayerSpec("letters", "characters", {"form": "unit-vector"}),
        LayerSpec("lstm", "lstm", {"hidden": 2}),
    ]
    wiring = wire(layers, Shape((1,)))
    assert wiring.needs_future() is None
    graph = LayerGraph(wiring)
    xs = torch.tensor(points("hello")).view(1, 5, 1)
    with torch.no_grad():
        whole, _ = graph.unroll(Signal(xs), graph.initial_state(1))
        states = graph.initial_state(1)
        for t in range(5):
            y, states = graph.step(xs[:, t], states)
    assert whole.values.shape == (1, 5, 2)
    torch.testing.assert_close(y, whole.values[:, -1])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"alphabet": "abc"}, "list of texts"),
        ({"alphabet": []}, "no character"),
        ({"alphabet": [""]}, "characters"),
        ({"alphabet": [{}]}, "characters, or first and last, or a group"),
        ({"alphabet": [{"characters": "a", "group": "digit"}]}, "or a group"),
        ({"alphabet": [{"first": 3}]}, "first and last"),
        ({"alphabet": [{"group": "vowel"}]}, "is none of default.*other"),
        ({"alphabet": [{"characters": "a", "code": 0}]}, "whole number from 1"),
        ({"form": "one-hot"}, "form"),
    ],
)
def test_an_alphabet_that_is_none_is_told(options: dict[str, object], match: str) -> None:
    with pytest.raises(SpecError, match=match) as caught:
        wire([LayerSpec("text", "characters", options)], Shape((1,)))
    assert "'text'" in str(caught.value)


@pytest.mark.parametrize("kind", ["word_embedding", "characters"])
def test_codes_come_one_at_each_step(kind: str) -> None:
    options = {"dimension": 2, "words": 3} if kind == "word_embedding" else {}
    with pytest.raises(SpecError, match="one code at each step"):
        wire([LayerSpec("text", kind, options)], Shape((2,)))


@pytest.mark.shows("S115")
def test_the_alphabet_of_the_guide_has_the_codes_it_tells() -> None:
    page = (Path(__file__).parents[2] / "docs/guides/layers.md").read_text(encoding="utf-8")
    block = next(block for block in page.split("```") if 'type = "characters"' in block)
    [table] = tomllib.loads(block.removeprefix("toml"))["network"]["layers"]
    kind = table.pop("type")
    made = layer(kind, 1, **table)
    assert made.facts.outputs[OUT] == Shape((7,))
    codes = unrolled(made, points("xy09abcXY?")).argmax(-1) + 1
    assert codes.tolist() == [1, 2, 3, 3, 4, 5, 6, 1, 1, 7]
