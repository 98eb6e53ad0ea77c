from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forecastd.config import DataSettings
from forecastd.data.store import prepare
from tests.prepare_process import SETTINGS

pytestmark = [pytest.mark.process]


def data_in(folder: Path) -> DataSettings:
    steps, count = np.arange(500) * 3_600_000_000, 8
    frame = pl.DataFrame(
        {
            "id": np.repeat([f"s{number}" for number in range(count)], len(steps)),
            "ds": np.tile(steps, count).astype("datetime64[us]"),
            "y": np.arange(count * len(steps), dtype=np.float32),
        }
    )
    frame.sample(fraction=1, shuffle=True, seed=1).write_parquet(folder / "data.parquet")
    return DataSettings.model_validate(SETTINGS)


@pytest.mark.parametrize("moment", [1, 5, 9, 12])
def test_a_killed_prepare_leaves_no_store_and_the_next_starts_clean(
    tmp_path: Path, moment: int
) -> None:
    data = data_in(tmp_path)
    command = [sys.executable, "-m", "tests.prepare_process", str(tmp_path), str(moment)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "store").exists()
    assert len(list(tmp_path.iterdir())) == 2
    store = prepare(data, tmp_path, tmp_path / "store")
    assert store.values[:, 0].tolist() == list(range(4000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.parquet", "store"]


def test_the_work_of_another_process_is_left_alone(tmp_path: Path) -> None:
    data = data_in(tmp_path)
    script = (
        "import sys; from pathlib import Path; from forecastd.data.staging import staging_for\n"
        "with staging_for(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'mine').touch(); print(folder, flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "store")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().decode().strip())
        prepare(data, tmp_path, tmp_path / "store")
        assert (folder / "mine").exists()
        other.kill()
    prepare(data.model_copy(update={"season": 3}), tmp_path, tmp_path / "store")
    assert not folder.exists()


@pytest.mark.parametrize("moment", [1, 9, 12])
def test_a_kill_while_a_store_grows_leaves_the_old_one(tmp_path: Path, moment: int) -> None:
    data = data_in(tmp_path)
    (tmp_path / "data").mkdir()
    shutil.move(tmp_path / "data.parquet", tmp_path / "data" / "0.parquet")
    (tmp_path / "data.parquet").symlink_to("data")
    old = prepare(data, tmp_path, tmp_path / "store")
    before = {path.name: path.read_bytes() for path in old.folder.iterdir()}
    more = pl.read_parquet(tmp_path / "data" / "0.parquet").with_columns(
        pl.col("ds") + pl.duration(hours=500), pl.col("y") + 4000
    )
    more.write_parquet(tmp_path / "data" / "1.parquet")
    command = [sys.executable, "-m", "tests.prepare_process", str(tmp_path), str(moment)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert {path.name: path.read_bytes() for path in old.folder.iterdir()} == before
    grown = prepare(data, tmp_path, tmp_path / "store")
    fresh = prepare(data, tmp_path, tmp_path / "fresh")
    assert len(grown.times) == 8000
    for path in fresh.folder.iterdir():
        assert path.read_bytes() == (grown.folder / path.name).read_bytes(), path.name
    rests = {"data", "data.parquet", "fresh", "store"}
    assert {path.name for path in tmp_path.iterdir()} == rests


HOLES = """
import sys; from pathlib import Path
from forecastd.config import DataSettings; from forecastd.data.store import prepare
from forecastd.errors import UserError
data = DataSettings(path=sys.argv[1], id="id", freq="1h", season=24, max_gap=50)
try:
    prepare(data, Path(), Path(sys.argv[2]))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("kilobytes", [16, 400, 640, 720, 800])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, kilobytes: int) -> None:
    """The sizes let the buckets, the rows in order, or the rows in their holes be too much."""
    frame = pl.DataFrame(
        {
            "id": np.repeat(["a", "b"], 10_000),
            "ds": (np.arange(20_000) % 10_000 * 4 * 3_600_000_000).astype("datetime64[us]"),
            "y": np.arange(20_000, dtype=np.float32),
        }
    )
    frame.sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "data.parquet")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        command = [sys.executable, "-c", HOLES, str(tmp_path / "data.parquet"), str(disk / "store")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        left = list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"cannot write {disk / 'store'}: No space left on device")
    assert len(done.stdout.splitlines()) == 1
    assert left == []
