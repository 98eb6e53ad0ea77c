from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from forecastd.data.names import CHUNKS_MAX, Names

KEYS = st.lists(st.text(alphabet="aZé𝄞_0", max_size=3), max_size=30)


@given(st.lists(KEYS, max_size=2 * CHUNKS_MAX), st.booleans(), st.sampled_from([2, 64]))
def test_keys_are_numbered_as_they_first_appear(
    batches: list[list[str]], in_order: bool, hash_bits: int
) -> None:
    names, numbers = Names(hash_bits), {}
    for batch in batches:
        keys = sorted(set(batch)) if in_order else batch
        known = len(names)
        expected = [numbers.setdefault(key, len(numbers)) for key in keys]
        assert names.numbers_of(pl.Series(keys, dtype=pl.String)).tolist() == expected
        later = list(numbers)[max(known - 1, 0) :]
        assert names.ascend(known) == (later == sorted(later))
    assert names[0:].to_list() == list(numbers)
    order = names.in_order()
    assert names.of(order) == sorted(numbers)
