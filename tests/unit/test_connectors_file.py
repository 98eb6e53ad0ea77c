"""The file source through growth, rotation and truncation; the file sink through its restarts."""

from __future__ import annotations

from pathlib import Path

import pytest
from connector_harness import rest, surroundings, take

from forecastd.connectors.contract import ForecastLines, Position
from forecastd.connectors.file import FileSink, FileSinkSettings, FileSource, FileSourceSettings
from forecastd.errors import PeerError, UserError


class Log:
    """A log file that grows, is rotated and truncated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "in.ndjson"

    def append(self, text: str, name: str = "in.ndjson") -> None:
        with (self.folder / name).open("a") as file:
            file.write(text)

    def rotate(self) -> None:
        (self.folder / "in.ndjson.1").hardlink_to(self.path)
        self.path.unlink()

    def open(self, position: Position | None = None, **settings: object) -> FileSource:
        known = FileSourceSettings(type="file", path="in.ndjson", **settings)
        return FileSource("in", known, surroundings(self.folder), position)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_an_unfinished_line_waits_for_its_end(log: Log) -> None:
    log.append("one\ntw")
    source = log.open()
    assert take(source, 1) == [b"one"]
    assert source.next_batch().lines == []
    log.append("o\n")
    assert take(source, 1) == [b"two"]
    source.close()


def test_without_follow_the_last_line_needs_no_end(log: Log) -> None:
    log.append("one\ntwo")
    source = log.open(follow=False)
    assert rest(source) == [b"one", b"two"]
    assert source.position()["offset"] == 7
    source.close()


def test_a_followed_file_may_appear_later(log: Log) -> None:
    source = log.open()
    assert source.next_batch().lines == []
    assert source.position() == {}
    log.append("one\n")
    assert take(source, 1) == [b"one"]
    source.close()


def test_a_file_that_is_not_followed_must_exist(log: Log) -> None:
    with pytest.raises(UserError, match=r"there is no file .*in\.ndjson"):
        log.open(follow=False)


def test_rotation_loses_nothing(log: Log) -> None:
    log.append("one\n")
    source = log.open()
    assert take(source, 1) == [b"one"]
    assert source.next_batch().lines == []
    log.append("two\n")
    log.rotate()
    log.append("three\n")
    assert take(source, 2) == [b"two", b"three"]
    source.close()


def test_rotation_while_away_loses_nothing(log: Log) -> None:
    log.append("one\ntwo\nthree\n")
    source = log.open()
    object.__setattr__(source._surroundings, "batch_rows", 1)
    assert take(source, 1) == [b"one"]
    position = source.position()
    source.close()
    log.rotate()
    log.append("four\n")
    source = log.open(position)
    assert take(source, 3) == [b"two", b"three", b"four"]
    source.close()


@pytest.mark.parametrize("longer", [False, True])
def test_truncation_starts_again(log: Log, longer: bool) -> None:
    log.append("one\ntwo\n")
    source = log.open()
    assert take(source, 2) == [b"one", b"two"]
    assert source.next_batch().lines == []
    new = "a much longer first line\n" if longer else "new\n"
    log.path.write_text(new)
    assert take(source, 1) == [new.strip().encode()]
    source.close()


def test_truncation_while_away_starts_again(log: Log) -> None:
    log.append("one\ntwo\n")
    source = log.open()
    assert take(source, 2) == [b"one", b"two"]
    position = source.position()
    source.close()
    log.path.write_text("another first line\nand a second\n")
    source = log.open(position)
    assert take(source, 2) == [b"another first line", b"and a second"]
    source.close()


def test_a_file_with_another_inode_starts_from_its_beginning(log: Log) -> None:
    log.append("one\n")
    source = log.open()
    assert take(source, 1) == [b"one"]
    position = source.position()
    (log.folder / "kept").hardlink_to(log.path)  # keeps the inode from being used again
    source.close()
    log.path.unlink()
    log.append("uno\ndue\n")
    source = log.open(position)
    assert take(source, 2) == [b"uno", b"due"]
    source.close()


def test_a_long_line_is_rejected_and_counted_once(log: Log) -> None:
    log.append("one\n" + "x" * 1_000_000 + "\ntwo\n")
    source = log.open(follow=False)
    lines, rejects = [], []
    while not lines or lines[-1] != b"two":
        batch = source.next_batch()
        lines += batch.lines
        rejects += batch.rejects
    assert lines == [b"one", b"two"]
    assert [(each.reason, each.line) for each in rejects] == [("line_too_long", b"x" * 200)]
    source.close()


def test_a_long_file_is_read_in_chunks_without_waiting(log: Log) -> None:
    lines = [b"%07d" % number for number in range(100_000)]
    log.path.write_bytes(b"".join(line + b"\n" for line in lines))
    source = log.open()
    assert source.poll_interval_s == 0.0
    assert take(source, len(lines)) == lines
    assert source.next_batch().lines == []
    assert source.poll_interval_s == 0.5
    source.close()


def open_sink(folder: Path, position: Position | None = None) -> FileSink:
    settings = FileSinkSettings(type="file", path="out.ndjson")
    return FileSink("out", settings, surroundings(folder), position)


def test_a_sink_without_a_position_appends(tmp_path: Path) -> None:
    (tmp_path / "out.ndjson").write_text("old\n")
    sink = open_sink(tmp_path)
    sink.write(ForecastLines.of([b"new\n"]))
    sink.close()
    assert (tmp_path / "out.ndjson").read_text() == "old\nnew\n"


@pytest.mark.parametrize("change", ["replaced", "cut", "gone"])
def test_a_file_changed_since_the_checkpoint_is_only_appended_to(
    tmp_path: Path, change: str
) -> None:
    path = tmp_path / "out.ndjson"
    sink = open_sink(tmp_path)
    sink.write(ForecastLines.of([b"one\n", b"two\n"]))
    sink.flush()
    position = sink.position()
    (tmp_path / "kept").hardlink_to(path)
    sink.close()
    expected = b"three\n"
    if change == "cut":
        path.write_text("")
    else:
        path.unlink()
    if change == "replaced":
        path.write_text("a file of somebody else\n")
        expected = b"a file of somebody else\nthree\n"
    sink = open_sink(tmp_path, position)
    sink.write(ForecastLines.of([b"three\n"]))
    sink.close()
    assert path.read_bytes() == expected


def test_an_unwritable_place_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "out.ndjson").mkdir()
    with pytest.raises(UserError, match=r"sink out: cannot write .*out\.ndjson: Is a directory"):
        open_sink(tmp_path)


def test_a_full_disk_is_a_failure_of_a_peer(tmp_path: Path) -> None:
    (tmp_path / "out.ndjson").symlink_to("/dev/full")
    sink = open_sink(tmp_path)
    with pytest.raises(PeerError, match="No space left on device"):
        sink.write(ForecastLines.of([b"one\n"]))
    sink.close()
