"""What the numbers that enter the first layer are, one by one."""

from __future__ import annotations

from forecastd.features.spec import FeatureSpec
from forecastd.series import Signature


def input_names(signature: Signature, features: FeatureSpec) -> list[str]:
    """Return a name for each input of the first layer, in order, before they are made a frame.

    "value(y)" is the scaled value of a column, "change(y)" its change since the value before,
    divided by the spread, "observed(y)" 1 or 0; "sin(hour)" and "cos(hour)" of a clock, and
    "embedding(unique_id)[0]" and so on of a category.
    """
    names = [f"{part}({column})" for part in features.parts for column in signature.channels]
    names += [f"{wave}({clock})" for clock in features.clocks for wave in ("sin", "cos")]
    columns = (signature.id or signature.target, *signature.static)
    for column in columns[: len(features.vocabulary)]:
        names += [f"embedding({column})[{place}]" for place in range(features.embedding)]
    return names
