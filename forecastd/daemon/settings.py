"""The settings of forecastd.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from forecastd.config import Duration, Loaded, Settings, load
from forecastd.connectors.codec_ndjson import UnknownColumns
from forecastd.connectors.codec_time import TimeUnit
from forecastd.connectors.file import FileSinkSettings, FileSourceSettings
from forecastd.connectors.reply import ReplySettings
from forecastd.connectors.socket import TcpSettings, UnixSettings, check_listen
from forecastd.connectors.stdin import StdinSettings
from forecastd.connectors.stdout import StdoutSettings
from forecastd.daemon.policy import EmitSettings
from forecastd.errors import ConfigError

ENVIRONMENT_PREFIX = "FORECASTD__"
DEVICE_PATTERN = r"^(auto|cpu|cuda(:\d+)?)$"

SourceSettings = Annotated[
    StdinSettings | FileSourceSettings | TcpSettings | UnixSettings, Field(discriminator="type")
]
SinkSettings = Annotated[
    StdoutSettings | FileSinkSettings | ReplySettings, Field(discriminator="type")
]


class ModelSettings(Settings):
    """[model]: which artifact, and how it meets the stream."""

    path: str = Field(description="folder of the artifact, or of the run that made it")
    device: str = Field("cpu", pattern=DEVICE_PATTERN)
    threads: int | None = Field(
        None, ge=1, description="threads that step at most; none: one a core, for large batches"
    )
    latency: bool = Field(
        False, description="make half of the next step ahead, when nothing more waits"
    )
    closed_loop: int | None = Field(
        None,
        ge=1,
        description="forecast so many steps ahead, feeding forecasts back; none: the horizon",
    )
    series_max: int = Field(
        100_000, ge=1, le=100_000_000, description="series with a row in memory"
    )
    memory_max: int | None = Field(
        None, ge=1 << 20, description="bytes for the rows of series; lowers series_max if need be"
    )
    when_full: Literal["refuse", "evict"] = Field(
        "refuse",
        description="what to do with a new series when all rows are taken: refuse its observations,"
        " or keep the longest idle series on disk until it returns",
    )
    unknown_columns: UnknownColumns = Field(
        "reject", description="what to do with a line that has other columns than the model's"
    )
    time_unit: TimeUnit | None = Field(
        None, description="unit of times that are integers; none: times are text"
    )


class CheckpointSettings(Settings):
    """[checkpoint]: how much is done again after a crash."""

    every: Duration = Field(5.0, description="time between two checkpoints")


class LimitSettings(Settings):
    """[limits]: bounds on memory and time."""

    batch_rows: int = Field(16_384, ge=1, le=1 << 20, description="lines taken at once")
    line_bytes_max: int = Field(65536, ge=256, le=1 << 24, description="longer lines are rejected")
    shutdown: Duration = Field(30.0, description="longest time to finish what has arrived")


class ApiSettings(Settings):
    """[api]: health, readiness, metrics and status over HTTP."""

    listen: str = Field("127.0.0.1:8799", description='address:port, or "off"')
    allow_remote: bool = Field(False, description="permit an address other machines can reach")
    socket: str | None = Field(None, description="UNIX socket; none: api.sock in state_dir")

    @model_validator(mode="after")
    def _check_address(self) -> ApiSettings:
        if self.listen != "off":
            check_listen(self.listen, allow_remote=self.allow_remote)
        return self


class LogSettings(Settings):
    """[log]: lines on stderr."""

    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: for a terminal, or for the journal under systemd"
    )
    level: Literal["debug", "info", "warning", "error"] = "info"


class DeadLetterSettings(Settings):
    """[dead_letter]: where input that was not used is kept."""

    path: str | None = Field(None, description="none: rejects.ndjson in state_dir")
    bytes_max: int = Field(
        64 << 20, ge=4096, description="of the file; one older file of that size is kept"
    )


class DaemonSettings(Settings):
    """The whole of forecastd.toml."""

    version: Literal[1] = 1
    state_dir: str = Field(description="folder for the checkpoint, rejects and the API's socket")
    model: ModelSettings
    checkpoint: CheckpointSettings = CheckpointSettings()
    emit: EmitSettings = EmitSettings()
    limits: LimitSettings = LimitSettings()
    api: ApiSettings = ApiSettings()
    log: LogSettings = LogSettings()
    dead_letter: DeadLetterSettings = DeadLetterSettings()
    sources: dict[str, SourceSettings] = Field(min_length=1)
    sinks: dict[str, SinkSettings] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_together(self) -> DaemonSettings:
        if sum(source.type == "stdin" for source in self.sources.values()) > 1:
            message = "standard input can be the source of one name only"
            raise ValueError(message)
        replies = any(sink.type == "reply" for sink in self.sinks.values())
        sockets = any(source.type in {"tcp", "unix"} for source in self.sources.values())
        if replies and not sockets:
            message = "a reply sink answers the clients of a tcp or unix source, and there is none"
            raise ValueError(message)
        paths = [sink.path for sink in self.sinks.values() if isinstance(sink, FileSinkSettings)]
        if len(set(paths)) < len(paths):
            message = "two file sinks have the same path"
            raise ValueError(message)
        if self.emit.when == "interval":
            self._check_interval()
        if problem := self.eviction_problem(self.model.series_max):
            raise ValueError(problem)
        return self

    def _check_interval(self) -> None:
        needed = None
        if self.model.when_full == "evict":
            needed = 'a row for each series: set model.when_full = "refuse"'
        elif all(sink.type == "reply" for sink in self.sinks.values()):
            needed = "a stdout or file sink, for its forecasts answer no client"
        if needed is not None:
            message = f'emit.when = "interval" needs {needed}'
            raise ValueError(message)

    def eviction_problem(self, series_max: int) -> str | None:
        """Say what is wrong when one batch can have more series than there are rows."""
        if self.model.when_full == "refuse" or series_max >= self.limits.batch_rows:
            return None
        return (
            f"to evict, limits.batch_rows must be at most the {series_max} rows of model.series_max"
        )


class Places:
    """The paths of a configuration, resolved from the folder of its file."""

    def __init__(self, loaded: Loaded[DaemonSettings]) -> None:
        settings = loaded.settings
        self.folder = loaded.folder
        self.state_dir = loaded.resolve(settings.state_dir)
        self.model = loaded.resolve(settings.model.path)
        self.checkpoint = self.state_dir / "checkpoint"
        self.lock = self.state_dir / "lock"
        self.api_socket = self._or_default(settings.api.socket, "api.sock")
        self.dead_letter = self._or_default(settings.dead_letter.path, "rejects.ndjson")

    def _or_default(self, path: str | None, name: str) -> Path:
        return self.folder / Path(path).expanduser() if path else self.state_dir / name


def load_settings(path: Path, overrides: list[str] | None = None) -> Loaded[DaemonSettings]:
    """Read forecastd.toml. Raises ConfigError with all problems."""
    if not path.is_file():
        hint = "give the daemon's configuration with --config; docs/guides/daemon.md has an example"
        raise ConfigError([f"{path}: there is no such file"], hint=hint)
    return load(DaemonSettings, path, overrides=overrides, prefix=ENVIRONMENT_PREFIX)
