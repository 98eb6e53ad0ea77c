"""[split]: which rows train, and the rules that need no data to be checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from itertools import combinations, pairwise
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BeforeValidator, Field, model_validator

from forecastd.errors import DataError
from forecastd.series import Frequency
from forecastd.settings import Settings

By = Literal["time", "series", "ranges", "files"]
PartValue = int | float | str | Sequence[int | str] | None


def _stamps_as_text(value: object) -> object:
    """Return the dates and stamps that TOML has read as text."""
    if not isinstance(value, list):
        return value
    return [item.isoformat() if isinstance(item, date) else item for item in value]


PartSize = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] | str
Part = Annotated[PartSize | list[int | str], BeforeValidator(_stamps_as_text)]
"""A part of a data set: rows of each series (integer), a share (0.1), a time span ("30d"), keys or
values of a column, a range, or a path; which of them, `by` says."""


class SplitSettings(Settings):
    """[split]: which rows train, which choose the best epoch, which are held out."""

    by: By = Field("time", description="what parts are cut by: time, series, ranges or files")
    train: Part | None = Field(None, description="from the start; none: all that is left")
    valid: Part = Field(0.1, description="after train: rows, a share, or a span such as 30d")
    test: Part = Field(0.1, description="after valid: rows, a share, or a span such as 30d")
    gap: Annotated[int, Field(ge=0)] | str = Field(
        0, description="by time: steps, or a span such as 1d, left out between two parts"
    )
    column: str | None = Field(None, description="by series: the column whose values name parts")
    seed: int = Field(0, ge=0, description="by series: which series a share draws")

    @model_validator(mode="before")
    @classmethod
    def _no_shares_of_what_is_named(cls, given: Any) -> Any:
        named = {"ranges", "files"}
        if isinstance(given, dict) and (given.get("by") in named or given.get("column")):
            return {"valid": 0, "test": 0, **given}
        return given

    @model_validator(mode="after")
    def _parts_fit(self) -> SplitSettings:
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        require_split(self.by, parts, self.gap, self.column)
        return self

    def words(self) -> str:
        """Say in a line how rows are split."""
        given = {"train": self.train, "valid": self.valid, "test": self.test, "gap": self.gap}
        said = [f"{name} {value}" for name, value in given.items() if value not in (None, 0)]
        column = f" by the values of {self.column!r}" if self.column else ""
        rest = {"files": "; data.path trains", "series": "; all other series train"}.get(
            self.by, "; the rows before train"
        )
        rest = rest if self.train is None else ""
        return f"split by {self.by}{column}: {', '.join(said) or 'no part is held out'}{rest}"

    def misfit(self, path: str, roles: Mapping[str, str | None], *, wide: bool) -> str | None:
        """Say in a sentence what does not go with [data]; None if all does.

        path: data.path. roles: the columns that have a role, by their setting.
        """
        if self.by == "files":
            names = [name for name in ("valid", "test") if getattr(self, name) == path]
            return f"split.{names[0]} is data.path itself, the file that trains" if names else None
        if self.column is None:
            return None
        if wide:
            return "split.column does not go with a wide frame; list the columns in split.test"
        taken = [role for role, name in roles.items() if name == self.column]
        return f"split.column = {self.column!r} is {taken[0]} already" if taken else None


def moment_us(text: str) -> int:
    """Return ISO 8601 text as microseconds since 1970 UTC; without a zone it is as it stands.

    Raises ValueError for text that is no stamp.
    """
    stamp = datetime.fromisoformat(text)
    stamp = stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
    passed = stamp - datetime.combine(date(1970, 1, 1), time(), UTC)
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def names_in(value: PartValue) -> list[str]:
    """Return the keys or values that a part lists, as text; none for a share."""
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, Sequence) else []


def require_split(
    by: By, parts: Mapping[str, PartValue], gap: int | str, column: str | None
) -> None:
    """Raise ValueError, a sentence that names the key, where settings contradict each other.

    parts: train, valid and test as given, in this order.
    """
    if column is not None and by != "series":
        _fail(f'column = {column!r} needs by = "series"')
    if gap != 0 and by != "time":
        _fail(f'gap = {gap!r} needs by = "time"; leave rows between the parts yourself')
    for name, value in parts.items():
        if isinstance(value, Sequence) and len(value) == 0:
            _fail(f"{name} is empty; write 0 for no {name} part")
    if by == "time":
        _require_time(parts, gap)
    elif by == "series":
        _require_series(parts, column)
    elif by == "ranges":
        _require_ranges(parts)
    else:
        _require_files(parts)


def _require_time(parts: Mapping[str, PartValue], gap: int | str) -> None:
    for name, value in parts.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            _fail(
                f'{name} is a list; by = "series" takes lists of keys, by = "ranges" takes '
                f"[first, end], and by time a part is rows, a share, or a span such as 30d"
            )
    if isinstance(gap, str):
        try:
            counted = Frequency.parse(gap).kind == "count"
        except DataError:
            counted = True
        if counted:
            _fail(f"gap = {gap!r} is no span of time; write 1d, or steps without quotes")


def _require_series(parts: Mapping[str, PartValue], column: str | None) -> None:
    shares = 0.0
    for name, value in parts.items():
        if isinstance(value, int) and value != 0:
            _fail(f"{name} = {value} is a number of series; write a share such as 0.1, or keys")
        if isinstance(value, float):
            shares += value
            if column is not None and value > 0:
                _fail(f"{name} = {value} is a share, but column asks for values of that column")
    if shares > 1:
        _fail(f"the shares of train, valid and test add up to {shares:g}, more than 1")
    for (name, one), (other, two) in combinations(parts.items(), 2):
        if both := sorted(set(names_in(one)) & set(names_in(two))):
            _fail(f"{both[0]!r} is listed in {name} and in {other}")


def _require_ranges(parts: Mapping[str, PartValue]) -> None:
    ranges = {n: _range(n, value) for n, value in parts.items() if value is not None and value != 0}
    if not ranges:
        _fail('by = "ranges" needs a range, for example test = [1000, 1200]')
    for (name, one), (other, two) in pairwise(ranges.items()):
        if len(one) == 1:
            _fail(f"{name} has no end, so it overlaps {other}; write {name} = [first, end]")
        (kind, end), (kind_of_other, begin) = _ordered(one[1]), _ordered(two[0])
        if kind == kind_of_other and end > begin:
            _fail(f"{name} and {other} overlap; {name} has to end before {other} begins")


def _range(name: str, value: PartValue) -> Sequence[int | str]:
    """Return the bounds of a part. Raises ValueError where they are none."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > 2:
        _fail(f"{name} = {value!r} is no range; write [first, end] or [first]")
    if len({type(item) for item in value}) > 1:
        _fail(f"{name} mixes rows and times; write two numbers or two stamps")
    for item in value:
        if isinstance(item, str) and not item.lstrip("-").isdigit():
            try:
                moment_us(item)
            except ValueError:
                _fail(f"{name} holds {item!r}, which is no stamp; write 2013-01-31T06:00:00")
    kinds, bounds = zip(*map(_ordered, value), strict=True)
    if len(set(kinds)) == 1 and len(bounds) == 2 and bounds[0] >= bounds[1]:
        _fail(f"{name} = {list(value)!r} has its end before its beginning")
    return value


def _ordered(bound: int | str) -> tuple[str, int]:
    """Return the kind of a bound, and a number by which bounds of one kind are in order."""
    if isinstance(bound, int):
        return ("row from the end" if bound < 0 else "row", bound)
    return ("count", int(bound)) if bound.lstrip("-").isdigit() else ("stamp", moment_us(bound))


def _require_files(parts: Mapping[str, PartValue]) -> None:
    if parts["train"] is not None:
        _fail("train is data.path; leave split.train out")
    held = {name: parts[name] for name in ("valid", "test")}
    for name, value in held.items():
        if not isinstance(value, str) and value != 0:
            _fail(f'{name} = {value!r} is no path; write {name} = "{name}.parquet"')
    if held["valid"] == held["test"]:
        both = "are the same" if held["valid"] else "are both missing"
        _fail(f'valid and test {both}; by = "files" needs a file of their own')


def _fail(reason: str) -> NoReturn:
    raise ValueError(reason)
