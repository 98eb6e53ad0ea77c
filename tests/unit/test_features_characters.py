from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastd.errors import DataError
from forecastd.features.characters import END, GROUPS, START, Alphabet, Item

DEFAULT = Alphabet([Item(GROUPS["default"])])


@pytest.mark.shows("S115")
@pytest.mark.trap(36)
def test_the_default_alphabet_has_97_codes_from_1() -> None:
    assert DEFAULT.size == len(DEFAULT.characters) == 97
    assert DEFAULT.encode("\t\n ~") == [1, 2, 3, 97]
    assert DEFAULT.characters == "\t\n" + "".join(chr(point) for point in range(32, 127))


@pytest.mark.shows("S115")
@given(text=st.text(st.sampled_from(GROUPS["default"])))
def test_a_text_is_decoded_from_its_codes_and_from_scores(text: str) -> None:
    codes = DEFAULT.encode(text)
    assert all(1 <= code <= DEFAULT.size for code in codes)
    assert DEFAULT.decode(codes) == text
    scores = [[float(place + 1 == code) for place in range(97)] for code in codes]
    assert DEFAULT.decode(scores) == text


@pytest.mark.shows("S115")
def test_codes_are_given_in_order_alone_or_shared() -> None:
    made = Alphabet(
        [
            Item("ab"),
            Item("xy", "next"),
            Item("c"),
            Item("pq", 2),
            Item("d"),
            Item("z", 9),
            Item("e"),
        ]
    )
    assert made.codes == {
        "a": 1, "b": 2, "x": 3, "y": 3, "c": 4, "p": 2, "q": 2, "d": 5, "z": 9, "e": 10,
    }  # fmt: skip
    assert made.size == 10
    assert made.encode("pad") == [2, 1, 5]
    assert made.decode([1, 2, 3, 9]) == "abxz"


def test_a_character_keeps_its_first_code() -> None:
    made = Alphabet([Item(string.digits, "next"), Item(GROUPS["word"])])
    assert made.encode("07a") == [1, 1, 2]
    assert made.size == 53


@pytest.mark.shows("S115")
def test_start_and_end_are_characters_that_stand_around_every_text() -> None:
    made = Alphabet([Item(START), Item("ab"), Item(END)])
    assert made.encode("ba") == [1, 3, 2, 4]
    assert made.encode("") == [1, 4]
    assert made.decode([1, 3, 2, 4]) == "ba"


@pytest.mark.shows("S115")
def test_any_other_character_has_the_code_of_others_or_is_told() -> None:
    made = Alphabet([Item("a"), Item(None), Item("b")])
    assert made.encode("a?b") == [1, 2, 3]
    assert made.decode([1, 2, 3]) == "a_b"
    with pytest.raises(DataError, match=r"'\?' is not in the alphabet.*other"):
        Alphabet([Item("a")]).encode("a?")
    with pytest.raises(DataError, match="code 2"):
        Alphabet([Item("a")]).decode([2])


@pytest.mark.shows("S115")
def test_case_can_be_ignored() -> None:
    made = Alphabet([Item("AbB"), Item("c")], ignore_case=True)
    assert made.characters == "abc"
    assert made.encode("aAbBCc") == [1, 1, 2, 2, 3, 3]
    assert made.decode([1, 2, 3]) == "abc"


def test_an_alphabet_without_characters_is_none() -> None:
    with pytest.raises(ValueError, match="no character"):
        Alphabet([])
