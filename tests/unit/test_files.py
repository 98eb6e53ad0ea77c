from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from forecastd import files
from forecastd.errors import UserError


def test_a_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state"
    files.write_durably(path, b"old")
    files.write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_content_keeps_it(tmp_path: Path) -> None:
    """Only a rename does that: writing into the file would change it under the reader."""
    path = tmp_path / "state"
    files.write_durably(path, b"old")
    with path.open("rb") as reader:
        files.write_durably(path, b"new content")
        assert reader.read() == b"old"


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir()
    (path / "inside").write_text("old", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot write .*state"):
        files.write_durably(path, b"new")
    assert (path / "inside").read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_one_sentence_with_advice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory") as error:
        files.write_durably(tmp_path / "none" / "state", b"x")
    assert error.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(UserError, match="Permission denied"):
        files.write_durably(tmp_path / "state", b"x")
    tmp_path.chmod(stat.S_IRWXU)


def test_a_published_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "below" / "model"
    with files.publish_folder(target) as staging:
        (staging / "weights").write_bytes(b"w")
        assert not target.exists()
    assert (target / "weights").read_bytes() == b"w"
    assert list(target.parent.iterdir()) == [target]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


def test_publishing_replaces_all_of_the_old(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for name in ("old", "new"):
        with files.publish_folder(target) as staging:
            (staging / name).touch()
    assert [path.name for path in target.iterdir()] == ["new"]


def test_an_error_in_the_block_keeps_the_old_and_cleans_up(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with files.publish_folder(target) as staging:
        (staging / "old").touch()

    def publish_half() -> None:
        with files.publish_folder(target) as staging:
            (staging / "half").touch()
            raise KeyError

    with pytest.raises(KeyError):
        publish_half()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_in_the_way_of_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="cannot write") as error,
        files.publish_folder(tmp_path / "file" / "model"),
    ):
        pytest.fail("the block must not run")
    assert error.value.hint


def test_a_link_moves_at_once(tmp_path: Path) -> None:
    link = tmp_path / "latest"
    for name in ("one", "two"):
        files.point_link(link, name)
        assert link.readlink() == Path(name)
    assert list(tmp_path.iterdir()) == [link]


@pytest.mark.parametrize("size", [0, 1, files.CHUNK_BYTES, files.CHUNK_BYTES + 1])
def test_sha256_is_that_of_the_content(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path.write_bytes(content)
    assert files.sha256(path) == hashlib.sha256(content).hexdigest()
