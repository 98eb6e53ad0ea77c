"""Examples of every kind of layer, on which the one conformance suite over layers runs.

To add a kind: a line here. Options that take another way through the code deserve one each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from forecastd.network.spec import LayerSpec


class Example(NamedTuple):
    """A layer with options, fed with numbers of some sizes at each step.

    layers: instead of `options`, a small network in which the kind stands, for what cannot stand
    alone, as an unfolding without a folding; the last one is what is compared. codes: what enters
    are whole numbers from 0 to below this, as they enter an embedding; 0: any numbers.
    least: the fewest steps that a row may have.
    """

    sizes: tuple[int, ...]
    options: dict[str, Any] = {}
    layers: tuple[LayerSpec, ...] = ()
    codes: int = 0
    least: int = 1


EXAMPLES: dict[str, list[Example]] = {
    "lstm": [Example((3,), {"hidden": 4}), Example((3,), {"hidden": 4, "output": "last"})],
    "dropout": [Example((3,), {"share": 0.5}), Example((3, 2), {"share": 0.5})],
}
"""By kind."""
