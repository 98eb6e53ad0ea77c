"""[features] and [network]: what a network sees, and what it is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from forecastd.settings import ONE, SEVERAL, Settings, one_or_several

SHORT_FORM = ("kind", "hidden", "dropout", "output", "projection")
"""Settings of a chain of layers of one kind, which a list of layers says for each layer."""

Scaling = Literal[
    "running", "none", "zerocenter", "zscore", "rescale-symmetric", "rescale-zero-one"
]


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
    embedding: int | None = Field(
        None, ge=0, le=64, description="numbers learned per series and category; none: 4"
    )
    scaling: Scaling | None = Field(
        None, description="how values are scaled; none: running for forecasts, else zscore"
    )
    dimension: Literal["auto", "channel", "element", "all"] = Field(
        "auto", description="what has one scale, where training finds it; auto: each channel"
    )
    parts: list[Literal["value", "change", "observed"]] | None = Field(
        None, min_length=1, description="what each channel gives; none: all three for forecasts"
    )


class HeadSettings(Settings):
    """[network.head]: the shape of a forecast."""

    kind: Literal["quantile", "point", "gaussian", "student_t", "negative_binomial"] = Field(
        "quantile", description="what is said of each step ahead: numbers, or a distribution"
    )
    levels: list[Annotated[int, Field(ge=1, le=99)]] = Field(
        [80], min_length=1, description="central intervals in per cent"
    )


class LayerSettings(BaseModel):
    """[[network.layers]]: one layer. Its other keys are the options of its type."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    type: str = Field(description="the kind of layer, see `forecast layers`")
    name: str | None = Field(None, description="what others call it; none: type_1, type_2, ...")
    inputs: (
        Annotated[
            Annotated[dict[str, str], Tag(ONE)] | Annotated[list[str], Tag(SEVERAL)],
            Discriminator(one_or_several),
        ]
        | None
    ) = Field(None, description='"layer" or "layer/port" by port; none: the layer before')

    @property
    def options(self) -> dict[str, Any]:
        """The options of its type as they were given."""
        return dict(self.model_extra or {})


Units = Annotated[int, Field(ge=1, le=65536)]


class NetworkSettings(Settings):
    """[network]: the network, a chain of layers of one kind or a list of layers."""

    kind: Literal["lstm", "bilstm", "gru", "peephole_lstm", "projected_lstm"] = Field(
        "lstm", description="the kind of the layers"
    )
    hidden: Annotated[
        Annotated[Units, Tag(ONE)] | Annotated[list[Units], Tag(SEVERAL), Field(min_length=1)],
        Discriminator(one_or_several),
    ] = Field(64, description="units of each layer; a list: one number a layer")
    layers: Annotated[
        Annotated[int, Field(ge=1, le=16), Tag(ONE)]
        | Annotated[list[LayerSettings], Field(min_length=1), Tag(SEVERAL)],
        Discriminator(one_or_several),
    ] = Field(1, description="how many layers, or their list: [[network.layers]]")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of outputs dropped in training")
    output: Literal["sequence", "last"] = Field(
        "sequence", description="train on every step, or only on the last step of each window"
    )
    projection: int | None = Field(
        None, ge=1, description="projected_lstm: numbers that inputs and states are projected to"
    )
    horizon: int = Field(24, ge=1, le=4096, description="steps ahead")
    head: HeadSettings = HeadSettings()

    @property
    def listed(self) -> tuple[LayerSettings, ...]:
        """The layers of the list; empty in the short form."""
        return tuple(self.layers) if isinstance(self.layers, list) else ()

    @property
    def units(self) -> tuple[int, ...]:
        """The units of each layer of the short form."""
        if isinstance(self.hidden, list):
            return tuple(self.hidden)
        return (self.hidden,) * (self.layers if isinstance(self.layers, int) else 0)

    @model_validator(mode="after")
    def _one_form(self) -> NetworkSettings:
        given = [name for name in SHORT_FORM if name in self.model_fields_set]
        if self.listed and given:
            message = f"{given[0]} belongs into the tables of the layers; leave it out here"
            raise ValueError(message)
        counted = "layers" in self.model_fields_set
        several = isinstance(self.hidden, list)
        if several and counted and self.layers != len(self.units):
            message = f"hidden has {len(self.units)} numbers for {self.layers} layers"
            raise ValueError(message)
        if (self.kind == "projected_lstm") != (self.projection is not None) and not self.listed:
            message = "projection and kind = 'projected_lstm' go together, one needs the other"
            raise ValueError(message)
        return self

    @model_serializer(mode="wrap")
    def _without_what_does_not_apply(
        self, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        """Leave out what the form in use does not have, so that what is saved is read again."""
        table: dict[str, Any] = serialize(self)
        unused = {"layers"} if isinstance(self.hidden, list) else set()
        unused |= set(SHORT_FORM) if self.listed else set()
        return {name: value for name, value in table.items() if name not in unused}
