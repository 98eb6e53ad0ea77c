"""`forecast state`: the states of series that lie in a file, and forgetting them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # help does not need them
    from forecastd.runtime.kept_states import Kept

SERIES_SHOWN = 50
STAMPS_FROM = 10**13
"""A greater time is taken for microseconds since 1970; a count is seldom so large."""

PathArgument = Annotated[
    Path, typer.Argument(help="A daemon's state_dir, or a file of --state or --state-out.")
]


def show(
    path: PathArgument,
    series: Annotated[str | None, typer.Option(help="One series: all that it remembers.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show whose states a file has, how old they are, and what one series remembers."""
    from forecast_cli.output import print_json

    with _kept(path) as kept:
        if series is not None:
            _show_one(kept, series, as_json=as_json)
            return
        if as_json:
            print_json(_facts(kept))
            return
        _show_all(kept)


def reset(
    path: PathArgument,
    series: Annotated[
        list[str] | None, typer.Option(help="A series; again for more. Default: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Forget series: each is new when its next observation comes. What was read stays read."""
    from forecast_cli.output import note, print_json
    from forecastd.runtime.kept_states import forget

    with _kept(path) as kept:
        count = forget(kept, series or None)
    if as_json:
        print_json({"path": kept.path, "forgotten": count})
    else:
        note(f"{count:,} series are forgotten")


@contextlib.contextmanager
def _kept(path: Path) -> Iterator[Kept]:
    """Read states while nobody else may use them. Raises UserError where somebody does."""
    from forecastd.daemon.restart import FolderLock
    from forecastd.runtime.kept_states import lock_of, open_kept

    place = lock_of(path)
    with contextlib.ExitStack() as stack:
        if place is not None:
            stack.callback(FolderLock(place, "the states in").close)
        yield open_kept(path)


def _facts(kept: Kept) -> dict[str, Any]:
    states = kept.states
    rows = zip(states.keys.tolist(), states.steps.tolist(), states.last_time.tolist(), strict=True)
    return {
        "path": kept.path,
        "digest": states.digest,
        "series": [{"key": k, "steps": steps, "last_time": time} for k, steps, time in rows],
        "evicted": kept.evicted.tolist(),
        "arrays": {name: array.shape[1:] for name, array in states.arrays.items()},
    }


def _show_all(kept: Kept) -> None:
    from forecast_cli.output import note, print_table

    states = kept.states
    some = slice(0, SERIES_SHOWN)
    times = map(_time, states.last_time[some].tolist())
    rows = list(zip(states.keys[some].tolist(), states.steps[some].tolist(), times, strict=True))
    print_table(["series", "steps", "newest"], rows)
    note(f"{len(states):,} series of the model {states.digest[:16]}")
    if len(states) > SERIES_SHOWN:
        note(f"the first {SERIES_SHOWN} are shown; --json has all")
    if len(kept.evicted):
        note(f"{len(kept.evicted):,} more are evicted to a file of their own")


def _show_one(kept: Kept, series: str, *, as_json: bool) -> None:
    from forecast_cli.output import note, print_json, print_table
    from forecastd.errors import UserError

    states = kept.states
    place = int(states.places([series])[0])
    if place < 0:
        evicted = series in set(kept.evicted)
        message = f"there is no state of a series {series!r} in memory"
        hint = "it is evicted, and comes back with its next observation" if evicted else None
        raise UserError(message, hint=hint or "forecast state show lists the series")
    arrays = {name: array[place] for name, array in states.arrays.items()}
    if as_json:
        told = {"steps": int(states.steps[place]), "last_time": int(states.last_time[place])}
        print_json({"key": series, **told, "arrays": arrays})
        return
    rows = [
        (name, " x ".join(map(str, a.shape)), *map(float, (a.min(), a.mean(), a.max())))
        for name, a in arrays.items()
        if a.size
    ]
    print_table(["state", "shape", "least", "mean", "greatest"], rows)
    note(f"{int(states.steps[place]):,} steps, newest {_time(int(states.last_time[place]))}")


def _time(time: int) -> object:
    """Return a time as people read it, where it is one; a count as it is."""
    from datetime import UTC, datetime

    if abs(time) < STAMPS_FROM:
        return time
    try:
        stamp = datetime.fromtimestamp(time / 1e6, UTC)
    except (ValueError, OverflowError, OSError):
        return time
    return stamp.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")
