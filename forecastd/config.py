"""TOML to validated settings: strict keys, all problems at once, and where each value came from.

Precedence, strongest first: `--set key=value`, environment (`FORECAST__TRAIN__LR`), the file,
the default. A value keeps its origin so that `forecast config show --origin` can tell it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from forecastd.errors import ConfigError, DataError
from forecastd.network_settings import FeatureSettings as FeatureSettings
from forecastd.network_settings import NetworkSettings as NetworkSettings
from forecastd.origins import Found, is_tables, key_lines, places_of, problems_of
from forecastd.series import Frequency
from forecastd.settings import Duration as Duration
from forecastd.settings import Settings as Settings
from forecastd.settings import parse_duration as parse_duration
from forecastd.split_settings import SplitSettings as SplitSettings
from forecastd.task_settings import TaskSettings as TaskSettings
from forecastd.train_settings import TrainSettings as TrainSettings

FILE_BYTES_MAX = 1 << 20


SettingsT = TypeVar("SettingsT", bound=Settings)


def _parse_frequency(value: object) -> object:
    if value is not None:
        try:
            Frequency.parse(str(value))
        except DataError as error:
            raise ValueError(str(error)) from None
        return str(value)
    return value


FrequencyText = Annotated[str, BeforeValidator(_parse_frequency)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class DataSettings(Settings):
    """[data]: which file, and what its columns mean.

    What the target is for is said in [task]: those who read the data are told by `task`.
    """

    path: str = Field(description="Parquet, CSV, NDJSON or Arrow IPC file, folder or glob")
    id: str | None = Field(None, description="column with the series key; none: see target")
    time: str = Field("ds", description="column with the time: a timestamp or an integer count")
    target: Annotated[list[str], BeforeValidator(_as_list)] = Field(
        ["y"],
        min_length=1,
        description="column to forecast; several without id: a wide frame. "
        "For other tasks the label, or the responses",
    )
    past: list[str] = Field([], description="numeric columns known up to now")
    static: list[str] = Field([], description="text columns that do not change within a series")
    where: str | None = Field(
        None, description="rows to read, as in ds >= '2015-01-01' and region == 'eu'; none: all"
    )
    sentinels: list[float] = Field([], description="numbers that mean a missing value")
    freq: FrequencyText | None = Field(None, description='"1h", "15min", "1mo", or a count')
    season: int | None = Field(None, ge=1, description="steps of one season; 1: none")
    max_gap: int | None = Field(
        None, ge=0, description="longest hole in steps to fill as missing; a longer one resets"
    )
    _task: TaskSettings = PrivateAttr(default_factory=TaskSettings)
    _unlabelled: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _roles_do_not_overlap(self) -> DataSettings:
        names = [self.time, *self.target, *self.past, *self.static]
        names += [self.id] if self.id else []
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            message = f"column {repeated[0]!r} has two roles"
            raise ValueError(message)
        return self

    def misfit(self) -> str | None:
        """Return why the columns do not suit the task; None if they do."""
        task, several = self.task, len(self.target) > 1
        if task.supervised:
            if not self.past:
                return f"a {task.kind} needs inputs; name their columns in past"
            if several and task.kind == "classification":
                return "a classification has one target, the label"
        elif self.id and several:
            return "several targets need a wide frame without id; leave one target or drop id"
        elif several and (self.past or self.static):
            return "a wide frame takes no past or static columns"
        return None

    @property
    def task(self) -> TaskSettings:
        """What the target is for; a forecast, if nothing else was said."""
        return self._task

    @property
    def unlabelled(self) -> bool:
        """Whether the files may lack the targets, which then count as missing."""
        return self._unlabelled

    def for_task(self, task: TaskSettings, *, unlabelled: bool = False) -> DataSettings:
        """Return the same settings for a task."""
        copy = self.model_copy()
        copy._task, copy._unlabelled = task, unlabelled
        return copy

    @property
    def wide(self) -> bool:
        """Whether each target column is a series of its own."""
        return len(self.target) > 1 and not self.task.supervised


class RunSettings(Settings):
    """[run]: where results go."""

    dir: str = "runs"


class TrainConfig(Settings):
    """The whole of forecast.toml."""

    version: Literal[1] = 1
    data: DataSettings
    task: TaskSettings = TaskSettings()
    split: SplitSettings = SplitSettings()
    features: FeatureSettings = FeatureSettings()
    network: NetworkSettings = NetworkSettings()
    train: TrainSettings = TrainSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="before")
    @classmethod
    def _whole_sequences_are_held_out_whole(cls, tree: Any) -> Any:
        """Split answers of whole series by series, where nothing was said: not their ends off."""
        if isinstance(tree, dict) and not tree.get("split"):
            table = {name: tree.get(name) for name in ("task", "train", "data")}
            said = {name: value if isinstance(value, dict) else {} for name, value in table.items()}
            supervised = said["task"].get("kind") in {"regression", "classification"}
            if supervised and said["train"].get("mode") == "sequences" and said["data"].get("id"):
                return {**tree, "split": {"by": "series"}}
        return tree

    @model_validator(mode="after")
    def _parts_fit(self) -> TrainConfig:
        data = self.data
        data._task = self.task
        if problem := data.misfit():
            message = f"data: {problem}"
            raise ValueError(message)
        roles = {"data.id": data.id, "data.time": data.time, "data.target": data.target[0]}
        if problem := self.split.misfit(data.path, roles, wide=data.wide):
            raise ValueError(problem)
        return self


@dataclass(frozen=True)
class Loaded(Generic[SettingsT]):
    """Validated settings with the origin ("file:line", "--set", a variable) of each given key."""

    settings: SettingsT
    origins: Mapping[str, str]
    folder: Path

    def origin(self, dotted: str) -> str:
        """Return where the value of a dotted key came from; "default" if nobody gave it."""
        return self.origins.get(dotted, "default")

    def resolve(self, path: str) -> Path:
        """Return a path of the file; a relative one starts at the file's folder."""
        return self.folder / Path(path).expanduser()


def load(
    kind: type[SettingsT],
    path: Path,
    *,
    overrides: list[str] | None = None,
    environment: Mapping[str, str] | None = None,
    prefix: str = "FORECAST__",
) -> Loaded[SettingsT]:
    """Read a TOML file into settings of `kind`. Has no side effect.

    overrides: "train.lr=1e-3" texts, strongest. environment: variables that start with `prefix`.
    Raises ConfigError with every problem found, one a line.
    """
    text = _read(path)
    try:
        tree: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: {error}"]) from error
    lines = key_lines(text)
    origins = places_of(tree, lines, path)
    variables = os.environ if environment is None else environment
    for name in sorted(variables):
        if name.startswith(prefix):
            dotted = name.removeprefix(prefix).lower().replace("__", ".")
            _assign(tree, dotted, _value(variables[name]))
            origins[dotted] = f"${name}"
    for override in overrides or []:
        dotted, separator, value = override.partition("=")
        if not separator:
            raise ConfigError([f"--set {override}: write key=value, for example train.lr=1e-3"])
        _assign(tree, dotted.strip(), _value(value.strip()))
        origins[dotted.strip()] = "--set"
    try:
        settings = kind.model_validate(tree)
    except ValidationError as error:
        problems = problems_of(error, kind, Found(path, tree, lines, origins))
        raise ConfigError(problems) from None
    return Loaded(settings, origins, path.absolute().parent)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError([f"{path}: larger than {FILE_BYTES_MAX} bytes, not a config"])
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text"]) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError([f"{path}: {reason}"], hint="`forecast init DATA` writes one") from error


def _value(text: str) -> object:
    """Return a TOML value, or the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _assign(tree: dict[str, Any], dotted: str, value: object) -> None:
    """Set a dotted key; a number leads into a list of tables, as network.layers.0.hidden."""
    *tables, last = dotted.split(".")
    for table, following in pairwise([*tables, last]):
        child = tree.setdefault(table, {})
        if is_tables(child):
            if following == last or following not in map(str, range(len(child))):
                raise ConfigError([f"{dotted}: write the number of a table and a key of it"])
            child = {str(number): inner for number, inner in enumerate(child)}
        if not isinstance(child, dict):
            raise ConfigError([f"{dotted}: {table} is a value, not a table"])
        tree = child
    tree[last] = value
