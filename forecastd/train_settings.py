"""[train]: how the weights are found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from forecastd.settings import Settings


class TrainSettings(Settings):
    """[train]: how the weights are found."""

    mode: Literal["lanes", "windows"] = Field(
        "lanes", description="lanes: contiguous walks with carried state; windows: random stretches"
    )
    epochs: int | None = Field(None, ge=1, description="passes over the data; none: from its size")
    batch: int = Field(64, ge=1, le=65536, description="lanes or windows side by side")
    sequence: int = Field(96, ge=1, le=65536, description="steps of back-propagation through time")
    warmup: int = Field(24, ge=0, description="steps after a cold start that carry no loss")
    loss_stride: int = Field(4, ge=1, description="every n-th step carries loss")
    lr: float = Field(2e-3, gt=0, le=10)
    schedule: Literal["onecycle", "constant"] = "onecycle"
    weight_decay: float = Field(1e-4, ge=0)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    patience: int = Field(5, ge=0, description="validations without gain before stopping; 0: off")
    seed: int = Field(0, ge=0)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int | None = Field(
        None, ge=1, description="CPU threads; none: one up to 128 hidden units, else all cores"
    )
