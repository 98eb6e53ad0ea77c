"""The file of what was not used."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from forecastd.daemon.dead_letter import DeadLetter
from forecastd.errors import UserError
from forecastd.series import Reject

REJECT = Reject("bad_utf8", "in", b"caf\xe9 \x00", "not UTF-8")


def clock() -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_reject_is_a_json_line_whatever_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "rejects.ndjson"
    letter = DeadLetter(path, 10_000, clock)
    letter.append([REJECT])
    letter.flush()
    letter.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {
            "time": "2026-01-02T03:04:05.000+00:00",
            "reason": "bad_utf8",
            "source": "in",
            "detail": "not UTF-8",
            "line": "caf\\xe9 \x00",
        }
    ]
    assert path.stat().st_mode & 0o777 == 0o600


def test_its_space_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "rejects.ndjson"
    letter = DeadLetter(path, 5000, clock)
    for number in range(200):
        letter.append([Reject("bad_json", "in", b"%d" % number, "x")] * 3)
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 10_000
    letter.append([Reject("bad_json", "in", b"burst", "x")] * 1000)
    letter.close()
    assert {file.name for file in tmp_path.iterdir()} == {"rejects.ndjson", "rejects.ndjson.1"}
    assert all(file.stat().st_size <= 5000 for file in tmp_path.iterdir())
    lines = (tmp_path / "rejects.ndjson").read_text().splitlines()
    assert {json.loads(line)["line"] for line in lines} == {"burst"}


def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        letter = DeadLetter(tmp_path / "rejects.ndjson", 10_000, clock)
        letter.append([REJECT])
        letter.close()
    assert (tmp_path / "rejects.ndjson").read_text().count("\n") == 2


def test_an_unwritable_place_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set dead_letter\.path to a writable place"):
        DeadLetter(tmp_path, 10_000, clock)
