"""What all tables of settings have in common."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

ONE, SEVERAL = "<one>", "<several>"
"""Tags of a setting that may be a value or a list, so that a wrong one has one problem, not two."""


def one_or_several(value: object) -> str:
    """Return the tag of a value of such a setting: what it was meant to be."""
    return SEVERAL if isinstance(value, list) else ONE


class Settings(BaseModel):
    """Base of all tables: unknown keys are errors, values are not coerced across types.

    What checks a table is built when one is first read: a process reads few of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


_DURATION_S = {"ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> object:
    """Return seconds for "500ms", "30s", "5m", "1h", "2d"; numbers are seconds already."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([\d.]+)\s*([a-z]+)\s*", value)
    if match is None or match[2] not in _DURATION_S:
        message = f"{value!r} is not a duration; write for example 30s, 5m, 1h or 2d"
        raise ValueError(message)
    return float(match[1]) * _DURATION_S[match[2]]


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
