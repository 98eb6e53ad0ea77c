"""Replay: the lines themselves, and a sender that meets every way a connection can break."""

from __future__ import annotations

import io
import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forecast_cli import history as history_module
from forecast_cli.history import ROWS_AT_ONCE, History
from forecast_cli.replay import parse_speed, replay, settings_of, write_lines
from forecast_cli.sender import Piece, Sender, parse_address
from forecastd.config import DataSettings
from forecastd.data import piles
from forecastd.data.reader import times_of, values_of
from forecastd.errors import ArtifactError, DataError, PeerError, UserError

FORECAST = b'{"unique_id":"a","cutoff":"2013-01-01T00:00:00","yhat":[1.5]}'


def history(folder: Path, frame: pl.DataFrame, **options: Any) -> History:
    frame.write_parquet(folder / "data.parquet")
    roles = {name: options.pop(name) for name in ("id", "target", "past") if name in options}
    data = DataSettings.model_validate({"path": "data.parquet", **roles})
    return History.read(data, folder, **options)


def text_of(lines: History, line: int = 0) -> list[dict[str, Any]]:
    data = b"".join(piece.data for piece in lines.pieces_from(line))
    return [json.loads(text) for text in data.splitlines()]


def hours(*steps: int) -> pl.Series:
    return pl.Series([step * 3_600_000_000 for step in steps]).cast(pl.Datetime("us"))


def test_observations_come_in_time_order_and_ties_by_key(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"unique_id": ["b", "a", "a", "b"], "ds": hours(0, 1, 0, 1), "y": [1, 2, 3, 4]}
    )
    lines = history(tmp_path, frame, id="unique_id")
    assert [(line["ds"][11:13], line["unique_id"], line["y"]) for line in text_of(lines)] == [
        ("00", "a", 3),
        ("00", "b", 1),
        ("01", "a", 2),
        ("01", "b", 4),
    ]


def test_what_is_no_number_is_null_and_flags_are_numbers(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "ds": hours(0, 1, 2, 3),
            "y": [1.5, float("nan"), float("inf"), None],
            "open": [True, False, None, True],
        }
    )
    lines = text_of(history(tmp_path, frame, past=["open"]))
    assert [line["y"] for line in lines] == [1.5, None, None, None]
    assert [line["open"] for line in lines] == [1, 0, None, 1]


def test_times_are_written_as_forecasts_write_them(tmp_path: Path) -> None:
    stamps = pl.Series([0, 1_500_000]).cast(pl.Datetime("us"))
    naive = text_of(history(tmp_path, pl.DataFrame({"ds": stamps, "y": [1, 2]})))
    assert [line["ds"] for line in naive] == ["1970-01-01T00:00:00", "1970-01-01T00:00:01.500000"]
    zoned = pl.DataFrame({"ds": stamps.dt.replace_time_zone("Asia/Tokyo"), "y": [1, 2]})
    assert text_of(history(tmp_path, zoned))[0]["ds"] == "1969-12-31T15:00:00Z"
    counted = text_of(history(tmp_path, pl.DataFrame({"ds": [7, 8], "y": [1, 2]})))
    assert [line["ds"] for line in counted] == [7, 8]


def test_a_wide_frame_is_played_as_its_series(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": hours(0, 1), "HUFL": [1.0, 2.0], "OT": [3.0, None]})
    assert text_of(history(tmp_path, frame, target=["HUFL", "OT"]))[1:3] == [
        {"unique_id": "OT", "ds": "1970-01-01T00:00:00", "y": 3.0},
        {"unique_id": "HUFL", "ds": "1970-01-01T01:00:00", "y": 2.0},
    ]


def test_from_until_and_limit_choose_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": hours(*range(10)), "y": range(10)})
    chosen = {"start": "1970-01-01T03:00:00", "until": "1970-01-01T08:00:00"}
    assert [line["y"] for line in text_of(history(tmp_path, frame, **chosen))] == [3, 4, 5, 6, 7]
    assert [line["y"] for line in text_of(history(tmp_path, frame, **chosen, limit=2))] == [3, 4]
    with pytest.raises(DataError, match="--from 'noon' does not fit"):
        history(tmp_path, frame, start="noon")
    with pytest.raises(DataError, match="no observation"):
        history(tmp_path, frame, start="1971-01-01")


@pytest.mark.parametrize("speed", [None, 10.0])
def test_any_line_can_be_found_again(speed: float | None, tmp_path: Path) -> None:
    rows = 2 * ROWS_AT_ONCE + 7
    frame = pl.DataFrame({"ds": np.arange(rows) // 3, "y": range(rows)})
    lines = history(tmp_path, frame, speed=speed)
    whole = b"".join(piece.data for piece in lines.pieces_from(0)).splitlines()
    assert len(whole) == len(lines) == rows
    for line in (1, 2, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, rows - 1, rows, rows + 9):
        again = b"".join(piece.data for piece in lines.pieces_from(line)).splitlines()
        assert again == whole[line:]


def test_rows_of_any_order_that_do_not_fit_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piles, "PILE_BYTES", 1 << 17)
    monkeypatch.setattr(history_module, "BATCH_ROWS", 1000)
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    rows = 6000
    drawn = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "unique_id": drawn.integers(0, 9, rows).astype(str),
            "ds": drawn.integers(0, 3000, rows),
            "y": np.arange(rows),
        }
    )
    lines = history(tmp_path, frame, id="unique_id", start="10", until="2900")
    wanted = frame.filter(pl.col("ds").is_between(10, 2899))
    assert text_of(lines) == wanted.sort("ds", "unique_id", maintain_order=True).to_dicts()
    assert text_of(lines, 2001) == text_of(lines)[2001:]
    assert list(room.iterdir()) == [], "what is sorted has no name any more"


def test_no_room_to_sort_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(UserError, match=r"cannot sort data.parquet: No such file") as caught:
        history(tmp_path, pl.DataFrame({"ds": [1], "y": [1]}))
    assert "TMPDIR" in str(caught.value.hint)


def test_text_where_numbers_belong_is_found_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'y' holds text, such as 'high'"):
        history(tmp_path, pl.DataFrame({"ds": [1, 2], "y": [None, "high"]}))


def test_pieces_are_due_as_the_data_was(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": hours(0, 0, 2, 5), "y": [1, 2, 3, 4]})
    lines = history(tmp_path, frame, speed=3600.0)
    assert [(p.due_s, p.data.count(b"\n")) for p in lines.pieces_from(0)] == [
        (0.0, 2),
        (2.0, 1),
        (5.0, 1),
    ]
    assert [piece.due_s for piece in lines.pieces_from(2)] == [0.0, 3.0]
    waits: list[float] = []
    write_lines(lines, io.BytesIO(), waits.append)
    # The clock runs on while lines are made, so the waits fall a little short of 2 s and 5 s.
    assert len(waits) == 2
    assert 0 < waits[0] <= 2 < waits[1] <= 5


def test_lines_hold_exactly_the_values_of_the_file(project: Path) -> None:
    data = project / "datasets" / "nyc_weather"
    settings = DataSettings(
        path="nyc_weather.parquet", id="unique_id", target=["temp"], past=["dewp"]
    )
    lines = History.read(settings, data, limit=5000)
    played = pl.DataFrame(text_of(lines), infer_schema_length=None)
    frame = pl.read_parquet(data / "nyc_weather.parquet").sort("ds", "unique_id")[:5000]
    assert played["unique_id"].to_list() == frame["unique_id"].to_list()
    assert times_of(played["ds"]).values.tolist() == times_of(frame["ds"]).values.tolist()
    for name in ("temp", "dewp"):
        assert np.array_equal(values_of(played[name]).values, values_of(frame[name]).values, True)
    assert list(played.columns) == ["unique_id", "ds", "temp", "dewp"]


def test_a_model_names_the_columns(project: Path, tmp_path: Path) -> None:
    data = str(project / "datasets" / "nyc_weather" / "nyc_weather.parquet")
    signature = {
        "id": "unique_id",
        "time": "ds",
        "target": "humid",
        "past": ["temp"],
        "static": [],
        "frequency": "1h",
    }
    (tmp_path / "model.json").write_text(json.dumps({"signature": signature}))
    settings, base = settings_of(data, tmp_path)
    first = text_of(History.read(settings, base, limit=1))[0]
    assert list(first) == ["unique_id", "ds", "humid", "temp"]
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ArtifactError, match="damaged"):
        settings_of(data, tmp_path)
    with pytest.raises(ArtifactError, match="not a model"):
        settings_of(data, tmp_path / "none")


def test_speeds_and_addresses() -> None:
    assert [parse_speed(text) for text in ("3600x", "0.5", "max")] == [3600.0, 0.5, None]
    assert parse_address("unix:///run/a.sock").path == "/run/a.sock"
    assert parse_address("tcp://[::1]:80")[2:] == ("::1", 80)
    for speed in ("fast", "0x", "-1x"):
        with pytest.raises(UserError, match="no speed"):
            parse_speed(speed)
    for address in ("tcp://host", "tcp://:80", "unix://", "http://a:1", "tcp://a:99999"):
        with pytest.raises(UserError, match="no place to send to"):
            parse_address(address)


class Numbered:
    """Lines that are their own numbers."""

    def __init__(self, count: int, lines_a_piece: int = 10) -> None:
        self._count = count
        self._lines_a_piece = lines_a_piece

    def __len__(self) -> int:
        return self._count

    def pieces_from(self, line: int) -> Iterator[Piece]:
        for first in range(line, self._count, self._lines_a_piece):
            numbers = range(first, min(first + self._lines_a_piece, self._count))
            yield Piece(0.0, b"".join(b'{"y":%d}\n' % number for number in numbers))


@dataclass
class Receiver:
    """A server of the protocol on a real socket that breaks where its script says.

    script: for each connection, after how many lines it breaks (None: never) and how many of all
    lines it has then committed without telling.
    """

    script: list[tuple[int | None, int]]
    folder: Path
    forecasts: bool = False
    committed: list[bytes] = field(default_factory=list)
    greetings: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / "s"))
        self._listener.listen()
        self.address = parse_address(f"unix://{self.folder / 's'}")
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        with self._listener:
            for break_after, committed in self.script:
                peer, _ = self._listener.accept()
                with peer, peer.makefile("rwb") as stream:
                    self._talk(stream, break_after, committed)

    def _talk(self, stream: Any, break_after: int | None, committed: int) -> None:
        self.greetings.append(json.loads(stream.readline()))
        if break_after == 0:
            return
        self._say(stream, {"stream": "s", "position": len(self.committed)})
        seen = list(self.committed)
        for line in stream:
            if line == b'{"end": true}\n':
                self.committed = seen
                self._say(stream, {"ack": len(seen)})
                continue
            seen.append(line)
            if self.forecasts:
                stream.write(FORECAST + b"\n")
            if break_after is not None and len(seen) - len(self.committed) >= break_after:
                self.committed = seen[:committed]
                return

    def _say(self, stream: Any, content: Any) -> None:
        stream.write(json.dumps(content).encode() + b"\n")
        stream.flush()


def numbers(lines: list[bytes]) -> list[int]:
    return [json.loads(line)["y"] for line in lines]


@pytest.mark.parametrize(
    "script",
    [
        [(None, 0)],
        [(0, 0), (None, 0)],
        [(1, 0), (None, 0)],
        [(7, 3), (5, 8), (0, 8), (1, 9), (None, 0)],
        [(500, 0), (500, 500), (None, 0)],
        [(1000, 1000), (None, 0)],
    ],
)
def test_every_line_is_committed_once_and_in_order(
    script: list[tuple[int | None, int]], tmp_path: Path
) -> None:
    receiver = Receiver(script, tmp_path)
    sent = Sender(receiver.address, "s", lambda line: None).send(Numbered(1000))
    receiver.thread.join()
    assert numbers(receiver.committed) == list(range(1000))
    assert receiver.greetings == [{"stream": "s"}] * len(script)
    assert sent.lines == 1000
    assert sent.connections == len([part for part in script if part[0] != 0])


def test_forecasts_come_through_while_lines_go_out(tmp_path: Path) -> None:
    receiver = Receiver([(None, 0)], tmp_path, forecasts=True)
    got: list[bytes] = []
    # Far more in both directions than sockets buffer: a sender that did not read would hang.
    Sender(receiver.address, "s", got.append).send(Numbered(30_000, 1000))
    receiver.thread.join()
    assert got == [FORECAST] * 30_000


def test_a_stream_that_is_all_committed_sends_nothing(tmp_path: Path) -> None:
    receiver = Receiver([(None, 0)], tmp_path)
    receiver.committed = [b'{"y":%d}\n' % number for number in range(20)]
    sent = Sender(receiver.address, "s", lambda line: None).send(Numbered(20))
    receiver.thread.join()
    assert (sent.already, len(receiver.committed)) == (20, 20)


def test_a_receiver_that_refuses_is_one_sentence(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def refuse() -> None:
        with listener, listener.accept()[0] as peer:
            peer.recv(100)
            peer.sendall(b'{"error":"too many connections"}\n')

    thread = threading.Thread(target=refuse)
    thread.start()
    with pytest.raises(PeerError, match="refuses the stream: too many connections"):
        Sender(parse_address(f"unix://{tmp_path / 's'}"), "s", print).send(Numbered(5))
    thread.join()


def test_nobody_there_is_given_up_after_the_retries(tmp_path: Path) -> None:
    address = parse_address(f"unix://{tmp_path / 'nobody'}")
    with pytest.raises(PeerError, match=r"cannot send to unix://.*No such file"):
        Sender(address, "s", print, retry_s=0.2).send(Numbered(5))


def test_the_command_sends_to_a_socket_and_prints_forecasts(
    project: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    receiver = Receiver([(11, 5), (None, 0)], tmp_path, forecasts=True)
    config = project / "datasets" / "nyc_weather" / "forecast.toml"
    replay(str(config), to=receiver.address.text, start="2013-12-01", limit=50)
    receiver.thread.join()
    printed = capfdbinary.readouterr()
    assert printed.out.count(FORECAST) >= 50
    assert b"has committed all 50 observations" in printed.err
    first = json.loads(receiver.committed[0])
    assert (first["unique_id"], first["ds"]) == ("EWR", "2013-12-01T00:00:00")
    assert len(receiver.committed) == 50
    assert receiver.greetings[0]["stream"].startswith("replay-nyc_weather-")


def test_the_command_writes_to_stdout(
    project: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    data = project / "datasets" / "nyc_weather" / "nyc_weather.parquet"
    replay(str(data), limit=3)
    lines = capfdbinary.readouterr().out.splitlines()
    assert [json.loads(line)["unique_id"] for line in lines] == ["EWR", "JFK", "LGA"]
