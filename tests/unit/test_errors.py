from __future__ import annotations

import inspect
import re

import pytest

from forecastd import errors

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.ForecastError)
]


def _drawn() -> dict[str, str | None]:
    """Return parent by class, as the drawing in the docstring has them."""
    drawn: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([│├└─ ]*)([A-Z]\w*Error)\b", line):
            depth, name = len(match[1]), match[2]
            path = [(d, n) for d, n in path if d < depth]
            drawn[name] = path[-1][1] if path else None
            path.append((depth, name))
    return drawn


def test_the_drawing_is_the_tree() -> None:
    tree = {
        kind.__name__: None if kind is errors.ForecastError else kind.__bases__[0].__name__
        for kind in CLASSES
    }
    assert _drawn() == tree


def test_each_family_has_its_exit_code() -> None:
    codes = {kind: kind.exit_code for kind in CLASSES}
    assert {codes[kind] for kind in CLASSES if issubclass(kind, errors.UserError)} == {2}
    assert codes[errors.PeerError] == 1
    assert codes[errors.BugError] == 101


def test_codes_are_distinct_and_upper_case() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[A-Z_]+", code) for code in codes)


@pytest.mark.parametrize("kind", [errors.UserError, errors.PeerError, errors.BugError])
def test_text_has_message_and_hint(kind) -> None:
    assert str(kind("it broke")) == "it broke"
    assert str(kind("it broke", hint="mend it")) == "it broke (mend it)"


def test_a_config_error_keeps_every_problem() -> None:
    error = errors.ConfigError(["a", "b"])
    assert error.problems == ["a", "b"]
    assert error.message == "a\nb"
