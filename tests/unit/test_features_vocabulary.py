from __future__ import annotations

import json

from forecastd.features.vocabulary import SERIES_AT_ONCE, Vocabulary
from forecastd.series import Keys

LEARNED = Vocabulary.learn(
    ["a", "b", "c"], {"place": ["north", None, "south"], "kind": ["x", "x", "y"]}
)


def test_codes_start_at_one_and_zero_is_unknown() -> None:
    assert LEARNED.sizes == (4, 3, 3)
    assert LEARNED.encode(["c", "nobody", "a"])[:, 0].tolist() == [3, 0, 1]


def test_a_static_value_that_is_not_given_is_remembered() -> None:
    assert LEARNED.encode(["a", "b", "c"]).tolist() == [[1, 1, 1], [2, 0, 1], [3, 2, 2]]


def test_a_given_static_value_wins() -> None:
    given = {"place": ["south", None, "nowhere"]}
    codes = LEARNED.encode(["a", "a", "a"], given)
    assert codes[:, 1].tolist() == [2, 1, 0]
    assert codes[:, 2].tolist() == [1, 1, 1]


def test_an_unknown_series_may_have_known_categories() -> None:
    codes = LEARNED.encode(["new", "newer"], {"place": ["north", None], "kind": ["y", None]})
    assert codes.tolist() == [[0, 1, 2], [0, 0, 0]]


def test_columns_the_model_does_not_know_are_ignored() -> None:
    assert LEARNED.encode(["a"], {"colour": ["red"]}).tolist() == [[1, 1, 1]]


def test_no_keys_give_no_codes() -> None:
    assert LEARNED.encode([]).shape == (0, 3)


def test_one_vocabulary_without_static_columns() -> None:
    bare = Vocabulary.learn(["only"], {})
    assert bare.sizes == (2,)
    assert bare.encode(["only", "other"]).tolist() == [[1], [0]]


def test_its_json_is_that_of_the_whole() -> None:
    keys = [f"{number:05}ü" for number in range(2 * SERIES_AT_ONCE + 1)]
    known = {"place": ["north", None, *keys[2:]], "kind": [None] * len(keys)}
    found = Vocabulary.learn(Keys.of(keys), known)
    whole = {"series": keys, "static": dict(found.static), "known": known}
    assert "".join(found.json_parts()) == json.dumps(whole) + "\n"
    assert "".join(Vocabulary.learn([], {}).json_parts()) == (
        '{"series": [], "static": {}, "known": {}}\n'
    )


def test_a_column_of_keys_is_searched_as_it_is() -> None:
    texts = ["", "a", "aé", "b", "𝄞"]
    column, plain = (Vocabulary.learn(keys, {}) for keys in (Keys.of(texts), texts))
    asked = ["b", "𝄞", "ab", ""]
    assert column.encode(asked).tolist() == plain.encode(asked).tolist() == [[4], [5], [0], [1]]
    assert column.encode(texts).tolist() == plain.encode(texts).tolist()
