"""Predicates over rows: comparisons of columns with constants, joined by and, or, not.

    ds >= '2015-01-01' and (region in ('eu', 'uk') or not closed is null)

Nothing is evaluated but these; a row for which the predicate is unknown (a null) is left out.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from forecastd.errors import DataError

Constant = str | int | float | bool
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>'(?:[^']|'')*')
  | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<quoted>"(?:[^"]|"")+"|`[^`]+`)
  | (?P<word>[^\W\d]\w*)
  | (?P<mark><=|>=|!=|<>|==|=|<|>|\(|\)|,)
    )""",
    re.X,
)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SAME = {"==": "=", "<>": "!="}


@dataclass(frozen=True)
class Comparison:
    """One column against constants. sign: a comparison, "in" or "null"."""

    column: str
    sign: str
    constants: tuple[Constant, ...] = ()


@dataclass(frozen=True)
class Junction:
    """Predicates joined: "and", "or", or "not" with one part."""

    word: str
    parts: tuple[Predicate, ...]


Predicate = Comparison | Junction


def parse(text: str) -> Predicate:
    """Read a predicate. Raises DataError that says where it is not understood."""
    parser = _Parser(text)
    found = parser.any_of()
    if parser.here is not None:
        parser.fail()
    return found


def columns_in(predicate: Predicate) -> list[str]:
    """Return the columns that a predicate looks at, each once."""
    if isinstance(predicate, Comparison):
        return [predicate.column]
    return list(dict.fromkeys(name for part in predicate.parts for name in columns_in(part)))


def conjuncts(predicate: Predicate) -> list[Predicate]:
    """Return the parts that all have to hold."""
    if isinstance(predicate, Junction) and predicate.word == "and":
        return [one for part in predicate.parts for one in conjuncts(part)]
    return [predicate]


def as_polars(predicate: Predicate, schema: pl.Schema) -> pl.Expr:
    """Return a predicate over a frame of `schema`. Raises DataError where a constant misfits."""
    if isinstance(predicate, Junction):
        parts = [as_polars(part, schema) for part in predicate.parts]
        return ~parts[0] if predicate.word == "not" else functools.reduce(_joined(predicate), parts)
    kind = schema[predicate.column]
    text = isinstance(kind, pl.Categorical | pl.Enum)
    column = pl.col(predicate.column).cast(pl.String) if text else pl.col(predicate.column)
    if predicate.sign == "null":
        return column.is_null()
    constants = [_fitting(one, predicate.column, kind) for one in predicate.constants]
    typed = [pl.lit(one, kind) if kind.is_temporal() else pl.lit(one) for one in constants]
    if predicate.sign == "in":
        return functools.reduce(operator.or_, [column == one for one in typed])
    found: pl.Expr = _COMPARE[predicate.sign](column, typed[0])
    return found


def as_arrow(predicate: Predicate, schema: pa.Schema, kinds: pl.Schema) -> pc.Expression:
    """Return the same predicate for the statistics of a file. Raises what pyarrow raises."""
    if isinstance(predicate, Junction):
        parts = [as_arrow(part, schema, kinds) for part in predicate.parts]
        return ~parts[0] if predicate.word == "not" else functools.reduce(_joined(predicate), parts)
    column = pc.field(predicate.column)
    if predicate.sign == "null":
        return column.is_null()
    kind = schema.field(predicate.column).type
    fitting = [
        _fitting(one, predicate.column, kinds[predicate.column]) for one in predicate.constants
    ]
    typed = [pa.scalar(one).cast(kind) for one in fitting]
    if predicate.sign == "in":
        return functools.reduce(operator.or_, [column == one for one in typed])
    return _COMPARE[predicate.sign](column, typed[0])


def _joined(junction: Junction) -> Callable[[Any, Any], Any]:
    return operator.and_ if junction.word == "and" else operator.or_


def _fitting(constant: Constant, column: str, kind: pl.DataType) -> Constant | date | datetime:
    """Return a constant as a value of the column's type."""
    text = kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)
    stamp = kind == pl.Date or isinstance(kind, pl.Datetime)
    if text and isinstance(constant, str):
        return constant
    if kind == pl.Boolean and isinstance(constant, bool):
        return constant
    if kind.is_numeric() and isinstance(constant, int | float) and not isinstance(constant, bool):
        return constant
    if stamp and isinstance(constant, str):
        return _stamp(constant, column, kind)
    message = f"where compares the column {column!r} of type {kind} with {constant!r}"
    wanted = "'2015-01-31'" if stamp else "'text' in quotes" if text else "a number without quotes"
    raise DataError(message, hint=f"write {wanted}")


def _stamp(text: str, column: str, kind: pl.DataType) -> date | datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"where compares the times of {column!r} with {text!r}"
        raise DataError(message, hint="write a stamp such as '2015-01-31T06:00:00'") from error
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    plain = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return plain.date() if kind == pl.Date else plain


class _Parser:
    """Walks over the words of a predicate; `here` is the next one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.here: re.Match[str] | None = None
        self.step()

    def step(self) -> None:
        self.rest = self.text[self.place :]
        if not self.rest.strip():
            self.here = None
            return
        self.here = _TOKEN.match(self.text, self.place)
        if self.here is None:
            self.fail()
        else:
            self.place = self.here.end()

    def fail(self) -> None:
        message = f"where = {self.text!r} is not understood at {self.rest.strip()[:20]!r}"
        raise DataError(
            message,
            hint="write comparisons joined by and, or, not, as in ds >= '2015-01-01' and n > 3",
        )

    def take(self, *words: str) -> str | None:
        """Step over the next word if it is one of `words`."""
        if self.here is None or self.here["text"] or self.here["quoted"]:
            return None
        found = self.here[0].strip().lower()
        if found not in words:
            return None
        self.step()
        return found

    def require(self, *words: str) -> str:
        found = self.take(*words)
        if found is None:
            self.fail()
        return found or ""

    def any_of(self) -> Predicate:
        parts = [self.all_of()]
        while self.take("or"):
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else Junction("or", tuple(parts))

    def all_of(self) -> Predicate:
        parts = [self.one()]
        while self.take("and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else Junction("and", tuple(parts))

    def one(self) -> Predicate:
        if self.take("not"):
            return Junction("not", (self.one(),))
        if self.take("("):
            inner = self.any_of()
            self.require(")")
            return inner
        return self.comparison()

    def comparison(self) -> Predicate:
        column = self.column()
        if self.take("is"):
            negated = self.take("not")
            self.require("null")
            found = Comparison(column, "null")
            return Junction("not", (found,)) if negated else found
        if self.take("in"):
            self.require("(")
            constants = [self.constant()]
            while self.take(","):
                constants.append(self.constant())
            self.require(")")
            return Comparison(column, "in", tuple(constants))
        sign = self.require(*_COMPARE, *_SAME)
        return Comparison(column, _SAME.get(sign, sign), (self.constant(),))

    def column(self) -> str:
        here = self.here
        if here is None or not (here["word"] or here["quoted"]):
            self.fail()
        assert here is not None
        name = here["word"] or here["quoted"][1:-1].replace('""', '"')
        self.step()
        return name

    def constant(self) -> Constant:
        here = self.here
        if here is not None and here["text"]:
            self.step()
            return here["text"][1:-1].replace("''", "'")
        if here is not None and here["number"]:
            self.step()
            text = here["number"]
            return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
        return self.require("true", "false") == "true"
