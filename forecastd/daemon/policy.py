"""[emit]: when forecasts are sent. The settings are the policy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from forecastd.errors import UserError
from forecastd.settings import Duration, Settings, parse_duration

When = Literal["step", "last", "interval", "request"]


class EmitSettings(Settings):
    """[emit]: when forecasts are sent. A request is answered whatever the rest says."""

    when: When = Field(
        "step",
        description="step: after observations; last: after the newest of each series in what was"
        " taken at once; interval: every so often; request: only where asked for",
    )
    steps: int = Field(
        1, ge=1, description="with step: after every so many steps of a series, filled ones too"
    )
    every: Duration | None = Field(
        None, description="with interval: time between two forecasts of all series that changed"
    )

    @model_validator(mode="after")
    def _check_together(self) -> EmitSettings:
        problem = None
        if self.steps != 1 and self.when != "step":
            problem = f'steps is for when = "step", not "{self.when}"'
        if self.when == "interval" and self.every is None:
            problem = 'when = "interval" needs a time, such as every = "10s"'
        if self.when != "interval" and self.every is not None:
            problem = f'every is for when = "interval", not "{self.when}"; steps counts steps'
        if problem is not None:
            raise ValueError(problem)
        return self


def parse_policy(when: When, every: str | None) -> EmitSettings:
    """Return the policy of the options --emit and --every. Raises UserError."""
    if when == "step":
        return EmitSettings(when="step", steps=_steps(every))
    if when == "interval":
        return EmitSettings(when="interval", every=_duration_s(every))
    if every is not None:
        message = f"--every {every} means nothing with --emit {when}"
        raise UserError(message, hint="leave it out")
    return EmitSettings(when=when)


def _steps(text: str | None) -> int:
    steps = 1 if text is None else int(text) if text.isdecimal() else 0
    if steps < 1:
        message = f"--every {text} is not a number of steps"
        raise UserError(message, hint="a time such as 10s goes with --emit interval")
    return steps


def _duration_s(text: str | None) -> float:
    if text is None:
        message = "--emit interval needs a time"
        raise UserError(message, hint="such as --every 10s")
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        message = f"--every: {error}"
        raise UserError(message) from error
    if not isinstance(seconds, float) or seconds <= 0:
        message = f"--every {text} is no time"
        raise UserError(message, hint="such as --every 10s")
    return seconds
