"""[features] and [network]: what a network sees, and what it is made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from forecastd.settings import Settings


class FeatureSettings(Settings):
    """[features]: what the network sees besides the values."""

    calendar: list[Literal["hour", "weekday", "yearday", "season"]] | None = Field(
        None, description="cyclic clocks; none: chosen from the frequency"
    )
    half_life: float | None = Field(
        None, gt=0, description="steps of the running scale's half-life; none: one season"
    )
    lags: int | None = Field(
        None, ge=0, le=4096, description="last values mapped straight to the forecast; 0: none"
    )
    embedding: int = Field(4, ge=0, le=64, description="numbers learned per series and category")


class HeadSettings(Settings):
    """[network.head]: the shape of a forecast."""

    kind: Literal["quantile", "point"] = "quantile"
    levels: list[Annotated[int, Field(ge=1, le=99)]] = Field(
        [80], min_length=1, description="central intervals in per cent"
    )


class NetworkSettings(Settings):
    """[network]: the network."""

    kind: Literal["lstm"] = "lstm"
    hidden: int = Field(64, ge=1, le=4096, description="units of each layer")
    layers: int = Field(1, ge=1, le=16)
    dropout: float = Field(0.3, ge=0, lt=1, description="share of outputs dropped in training")
    output: Literal["sequence", "last"] = Field(
        "sequence", description="train on every step, or only on the last step of each window"
    )
    horizon: int = Field(24, ge=1, le=4096, description="steps ahead")
    head: HeadSettings = HeadSettings()
