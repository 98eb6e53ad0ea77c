"""Every exception of forecastd, in three families that decide what happens next.

ForecastError
├── UserError            yours: configuration or data; exit 2, the message says what to change
│   ├── ConfigError      a setting: file, line and key
│   ├── DataError        a data set, file, column or series
│   └── ArtifactError    a trained model that is damaged, newer, or does not fit the data
│       └── SpecError    a network as it is written down: a layer, its options, ports or shapes
├── PeerError            theirs: a source, a sink or a disk failed; retried within limits
└── BugError             ours: something that must hold does not; exit 101
"""

from __future__ import annotations


class ForecastError(Exception):
    """Base of all errors. `message` is one sentence; `hint` says what to do next."""

    code = "ERROR"
    exit_code = 101

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UserError(ForecastError):
    """The user's configuration, data or environment needs a change."""

    code = "USER_ERROR"
    exit_code = 2


class ConfigError(UserError):
    """A setting is unknown, out of range or contradicts another. `problems` lists them all."""

    code = "CONFIG_ERROR"

    def __init__(self, problems: list[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = problems


class DataError(UserError):
    """A data set, file, column or series is not what the configuration says."""

    code = "DATA_ERROR"


class ArtifactError(UserError):
    """A trained model is damaged, of a newer format, or does not fit the data."""

    code = "ARTIFACT_ERROR"


class SpecError(ArtifactError):
    """A network is written down wrong, in a config or in a model: the sentence names the layer.

    layer: its name, where one layer is at fault.
    """

    code = "SPEC_ERROR"

    def __init__(self, message: str, *, hint: str | None = None, layer: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.layer = layer


class PeerError(ForecastError):
    """A source, sink or disk failed while running."""

    code = "PEER_ERROR"
    exit_code = 1


class BugError(ForecastError):
    """A broken invariant of forecastd itself."""

    code = "BUG"
