"""Frames: through every format, the store and the loader to a model, in the order they have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet
from small_runs import config, trained
from typer.testing import CliRunner

from forecast_cli.main import app
from forecastd import artifact
from forecastd.config import DataSettings
from forecastd.data.for_model import store_for_model
from forecastd.data.frames import ELEMENTS_MAX
from forecastd.data.lanes import Shape, pieces_of, sweep_plan, walk
from forecastd.data.store import Store, prepare
from forecastd.errors import DataError, UserError
from forecastd.training.run import start_run

ROWS = 120
HOUR = 3_600_000_000


def pictures(shape: list[int], kind: Any = np.float32, rows: int = 2 * ROWS) -> np.ndarray:
    return (np.random.default_rng(1).random((rows, *shape)) * 100).astype(kind)


def tensors(array: np.ndarray, missing: int | None = None, **options: Any) -> pa.Array:
    """Return frames as the Arrow extension type; one row may be null."""
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(array.dtype), array.shape[1:], **options)
    storage = pa.FixedSizeListArray.from_arrays(array.reshape(-1), int(np.prod(array.shape[1:])))
    if missing is not None:
        rows = storage.to_pylist()
        rows[missing] = None
        storage = pa.array(rows, storage.type)
    return pa.ExtensionArray.from_storage(kind, storage)


def lists(array: np.ndarray) -> pa.Array:
    """Return frames as nested lists of fixed size."""
    made = pa.array(array.reshape(-1))
    for size in array.shape[:0:-1]:
        made = pa.FixedSizeListArray.from_arrays(made, size)
    return made


def table(frames: pa.Array, **more: pa.Array) -> pa.Table:
    rows = len(frames)
    half = rows // 2
    stamps = np.arange(half) * HOUR
    return pa.table(
        {
            "unique_id": ["a"] * half + ["b"] * half,
            "ds": pa.array(np.concatenate([stamps, stamps]), pa.timestamp("us")),
            "y": np.sin(np.arange(rows) / 4),
            "x": np.arange(float(rows)),
            "img": frames,
            **more,
        }
    )


def written(content: pa.Table, path: Path) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(content, path, row_group_size=50)
        return path
    with ipc.new_file(path, content.schema) as writer:
        writer.write_table(content, max_chunksize=50)
    return path


def made(path: Path, **settings: Any) -> Store:
    given = {"id": "unique_id", "past": ["x", "img"], "freq": "1h", "season": 24, **settings}
    data = DataSettings.model_validate({"path": path.name, **given})
    return prepare(data, path.parent, path.parent / f"store of {path.name}")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("write", [tensors, lists])
@pytest.mark.parametrize("shape", [[5], [2, 3], [3, 4, 5]])
@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_frames_are_channels_in_row_major_order(
    suffix: str, write: Any, shape: list[int], kind: Any, tmp_path: Path
) -> None:
    array = pictures(shape, kind)
    order = np.random.default_rng(2).permutation(len(array))
    content = table(write(array)).take(pa.array(order))
    store = made(written(content, tmp_path / f"data{suffix}"))
    size = int(np.prod(shape))
    assert store.columns.frames == {"img": shape}
    assert store.columns.past == ("x", *(f"img[{n}]" for n in range(size)))
    assert store.values.shape == (2 * ROWS, 2 + size)
    found = np.asarray(store.values)[:, 2:].reshape(-1, *shape)
    np.testing.assert_array_equal(found, array.astype(np.float32))
    ends = store.offsets[1:]
    plan = sweep_plan(pieces_of(store, store.offsets[:-1], ends, ends), 2)
    for chunk in walk(store, plan, Shape(16, 1, 0)):
        for lane, series in enumerate(chunk.series.tolist()):
            rows = chunk.rows[lane] + np.arange(chunk.length[lane])
            frames = chunk.values[lane, : chunk.length[lane], 2:].reshape(-1, *shape)
            np.testing.assert_array_equal(frames, array[rows].astype(np.float32))
            assert series >= 0


def test_a_missing_frame_and_sentinels_within_one_are_missing(tmp_path: Path) -> None:
    array = pictures([2, 2])
    array[3, 1, 0] = -1
    store = made(written(table(tensors(array, missing=7)), tmp_path / "data.parquet"),
                 sentinels=[-1])  # fmt: skip
    values = np.asarray(store.values)[:, 2:]
    assert np.isnan(values[7]).all()
    assert np.isnan(values[3]).tolist() == [False, False, True, False]
    assert store.report.sentinels["img[2]"] == 1
    assert np.isfinite(np.delete(values, [3, 7], 0)).all()


def test_a_model_of_frames_reads_files_of_that_shape_and_lines_of_elements(tmp_path: Path) -> None:
    path = written(table(tensors(pictures([2, 3]))), tmp_path / "waves.parquet")
    split = {"valid": 20, "test": 20}
    settings = config(path, data={"past": ["x", "img"]}, split=split, train={"epochs": 1})
    run = trained(start_run(settings, tmp_path, tmp_path / "runs"))
    signature = artifact.load(run.folder).signature
    assert signature.frames == {"img": [2, 3]}
    assert len(signature.channels) == 8
    out = tmp_path / "out.parquet"
    said = CliRunner().invoke(
        app, ["predict", str(run.folder), str(path), "--last", "-o", str(out)]
    )
    assert said.exit_code == 0, said.output
    lines = [
        {"unique_id": "a", "ds": f"2013-01-01T0{hour}:00:00", "y": 1.0, "x": 2.0}
        | {f"img[{place}]": float(place) for place in range(6)}
        for hour in range(2)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    command = [sys.executable, "-m", "forecast_cli", "stream", str(run.folder)]
    streamed = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert len(streamed.stdout.splitlines()) == 2, streamed.stderr
    other = written(table(tensors(pictures([3, 2]))), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"holds frames of 3x2, the model reads 2x3"):
        store_for_model(signature, 3, str(other), tmp_path / "refused")
    flat = written(table(pa.array(np.zeros(2 * ROWS))), tmp_path / "flat.parquet")
    with pytest.raises(DataError, match=r"holds no frames, the model reads 2x3"):
        store_for_model(signature, 3, str(flat), tmp_path / "refused")


@pytest.mark.parametrize(
    ("frames", "settings", "words"),
    [
        (lambda: tensors(pictures([65, 64], rows=4)), {}, "4,160 elements a row, more than 4,096"),
        (lambda: tensors(pictures([2, 3], rows=4), permutation=[1, 0]), {}, r"order \[1, 0\]"),
        (lambda: lists(np.array([["a", "b"]] * 4)), {}, "hold String, no numbers"),
        (lambda: tensors(pictures([2], rows=4)), {"target": "img", "past": []}, "holds frames"),
        (lambda: tensors(pictures([2], rows=4)), {"static": ["img"], "past": []}, "static column"),
        (lambda: tensors(pictures([2], rows=4)), {"id": "img", "past": []}, "holds frames"),
    ],
)
def test_frames_that_cannot_be_used_are_refused_in_a_sentence(
    frames: Any, settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = written(table(frames()), tmp_path / "data.parquet")
    with pytest.raises(DataError, match=words) as error:
        made(path, **settings)
    assert error.value.hint
    assert "img" in error.value.message


def test_a_column_named_as_an_element_is_refused(tmp_path: Path) -> None:
    content = table(tensors(pictures([2], rows=4)), **{"img[1]": pa.array([1.0, 2.0, 3.0, 4.0])})
    with pytest.raises(DataError, match=r"a column is called 'img\[1\]'"):
        made(written(content, tmp_path / "data.parquet"), past=["img", "img[1]"])


def test_the_largest_frame_fits(tmp_path: Path) -> None:
    side = int(ELEMENTS_MAX**0.5)
    array = pictures([side, side], rows=6)
    store = made(written(table(tensors(array)), tmp_path / "data.parquet"), past=["img"])
    np.testing.assert_array_equal(np.asarray(store.values)[:, 1:].reshape(array.shape), array)


def test_shapes_that_differ_between_files_name_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for place, shape in enumerate(([2, 3], [3, 2])):
        written(table(tensors(pictures(shape))), folder / f"{place}.parquet")
    with pytest.raises(DataError, match=r"column 'img' changes its type.*1\.parquet"):
        made(folder)


def test_commands_that_look_at_a_data_set_take_frames(tmp_path: Path) -> None:
    path = written(table(tensors(pictures([2, 3]))), tmp_path / "data.parquet")
    toml = tmp_path / "forecast.toml"
    said = CliRunner().invoke(app, ["init", str(path), "-o", str(toml)])
    assert said.exit_code == 0, said.output
    text = toml.read_text().replace("past = [", 'past = ["img", ')
    assert "img" in text
    toml.write_text(text)
    for words in (["check"], ["describe"]):
        for source in (path, toml):
            said = CliRunner().invoke(app, ["data", *words, str(source), "--json"])
            assert said.exit_code == 0, said.output
    assert "frames of 2x3 Float32" in toml.read_text()
    for suffix in (".arrow", ".parquet"):
        said = CliRunner().invoke(app, ["data", "convert", str(path), str(tmp_path / f"o{suffix}")])
        assert said.exit_code == 0, said.output
        assert made(tmp_path / f"o{suffix}").columns.frames == {"img": [2, 3]}
    said = CliRunner().invoke(app, ["data", "convert", str(path), str(tmp_path / "o.csv")])
    assert isinstance(said.exception, UserError)
    assert said.exception.message == "column 'img' holds frames, which a .csv file cannot"
