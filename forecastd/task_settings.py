"""[task]: what the network is to say of a series."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from forecastd.settings import Settings

Kind = Literal["forecast", "regression", "classification"]


def label_text(value: object) -> object:
    """Return a label as text: whole numbers and truth values as data sets are read."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


Label = Annotated[str, BeforeValidator(label_text)]


class TaskSettings(Settings):
    """[task]: what the network is to say of a series.

    forecast: later values of the target. regression, classification: what the target is, from the
    columns in `data.past`, which then are all that enters the network.
    """

    kind: Kind = Field(
        "forecast", description="what the target is to the network: its own future, or an answer"
    )
    classes: list[Label] | None = Field(
        None, min_length=2, description="labels in the order of their scores; none: those found"
    )
    class_weights: list[Annotated[float, Field(ge=0)]] | None = Field(
        None, description="weight of each class in the loss, in the order of classes; none: 1"
    )
    cap: float | None = Field(
        None, description="larger responses count as this, in training and scoring; none: all as is"
    )

    @property
    def supervised(self) -> bool:
        """Whether the target is an answer that is given with the data, not their future."""
        return self.kind != "forecast"

    @model_validator(mode="after")
    def _fits_kind(self) -> TaskSettings:
        if self.kind != "classification":
            for name in ("classes", "class_weights"):
                if getattr(self, name) is not None:
                    message = f'{name} is for kind = "classification", not {self.kind!r}'
                    raise ValueError(message)
        if self.cap is not None and self.kind != "regression":
            message = f'cap is for kind = "regression", not {self.kind!r}'
            raise ValueError(message)
        classes = self.classes or []
        if repeated := sorted({label for label in classes if classes.count(label) > 1}):
            message = f"the class {repeated[0]!r} is named twice"
            raise ValueError(message)
        if self.class_weights is not None and len(self.class_weights) != len(classes):
            message = "class_weights needs classes, and a weight for each of them"
            raise ValueError(message)
        return self
