"""What all tables of settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

ONE, SEVERAL = "<one>", "<several>"
"""Tags of a setting that may be a value or a list, so that a wrong one has one problem, not two."""


def one_or_several(value: object) -> str:
    """Return the tag of a value of such a setting: what it was meant to be."""
    return SEVERAL if isinstance(value, list) else ONE


class Settings(BaseModel):
    """Base of all tables: unknown keys are errors, values are not coerced across types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
