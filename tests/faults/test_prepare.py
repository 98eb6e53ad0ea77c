from __future__ import annotations

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
