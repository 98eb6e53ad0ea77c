"""The data of the examples that are made up: waveforms, moving shapes, sums, letters to count.

Each maker returns the files of one set as Arrow tables, the same ones for the same seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Tables = dict[str, pa.Table]

WAVES: dict[str, Callable[[Floats], Floats]] = {
    "sine": lambda turns: np.sin(2 * np.pi * turns),
    "square": lambda turns: np.where(turns % 1 < 0.5, 1.0, -1.0),
    "triangle": lambda turns: 4 * np.abs(turns % 1 - 0.5) - 1,
    "sawtooth": lambda turns: 2 * (turns % 1) - 1,
}
MOTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0), "still": (0, 0)}
SIDE = 28


def waveforms(series: int = 1000, seed: int = 0) -> Tables:
    """Return noisy waves of three channels: 900 of 1000 to train on, 100 to test.

    A series is of one kind and one frequency (turns in 100 steps, 1 to 8); its channels differ in
    phase and height. 100 to 200 steps. `next_1` to `next_3` are the channels one step later.
    """
    dice = np.random.default_rng(seed)
    parts = []
    for number in range(series):
        kind = str(dice.choice(list(WAVES)))
        steps, frequency = int(dice.integers(100, 201)), float(dice.uniform(1, 8))
        turns = frequency * np.arange(steps + 1)[:, None] / 100 + dice.random(3)
        values = dice.uniform(0.5, 2, 3) * WAVES[kind](turns) + dice.normal(0, 0.1, turns.shape)
        columns = {f"x{k + 1}": values[:-1, k] for k in range(3)}
        columns |= {f"next_{k + 1}": values[1:, k] for k in range(3)}
        about = {"frequency": frequency, "kind": kind}
        parts.append(_series(f"wave_{number:04}", steps, columns, about))
    held = series * 9 // 10
    return {"train": pa.concat_tables(parts[:held]), "test": pa.concat_tables(parts[held:])}


def moving_shapes(clips: int = 1200, seed: int = 0) -> Tables:
    """Return clips of 6 to 10 frames of 28x28x1 with 10 classes: square or cross, and its motion.

    Halfway each shape is about the middle, wherever it goes, one or two pixels a frame; so no
    frame alone tells its motion for sure. A fourth of the clips is held out.
    """
    dice = np.random.default_rng(seed)
    names = [f"{shape} {motion}" for shape in ("square", "cross") for motion in MOTIONS]
    parts = []
    for number in range(clips):
        name = names[number % len(names)]
        shape, motion = name.split()
        frames = _clip(shape, MOTIONS[motion], int(dice.integers(6, 11)), dice)
        tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(frames[..., None])
        columns = {"frame": tensor}
        parts.append(_series(f"clip_{number:04}", len(frames), columns, {"label": name}))
    held = clips * 3 // 4
    return {"train": pa.concat_tables(parts[:held]), "test": pa.concat_tables(parts[held:])}


def additions(seed: int = 0) -> Tables:
    """Return all sums of two numbers of two digits, "12+34" and 46; a fifth is held out."""
    pairs = [(one, two) for one in range(10, 100) for two in range(10, 100)]
    order = np.random.default_rng(seed).permutation(len(pairs))
    texts = [f"{pairs[k][0]}+{pairs[k][1]}" for k in order]
    sums = [float(sum(pairs[k])) for k in order]
    held = len(pairs) * 4 // 5
    return {
        "train": _texts(texts[:held], {"sum": sums[:held]}),
        "test": _texts(texts[held:], {"sum": sums[held:]}),
    }


def letters() -> Tables:
    """Return all 510 strings of 1 to 8 letters x and y: has each more y, more x, or neither?"""
    texts = ["".join(t) for n in range(1, 9) for t in itertools.product("xy", repeat=n)]
    answers = {-1: "Less", 0: "Equal", 1: "Greater"}
    signs = [int(np.sign(text.count("x") - text.count("y"))) for text in texts]
    return {"all": _texts(texts, {"answer": [answers[sign] for sign in signs]})}


MAKERS: dict[str, Callable[[], Tables]] = {
    "waveforms": waveforms,
    "moving_shapes": moving_shapes,
    "additions": additions,
    "letters": letters,
}
"""What can be made, by name; the files are NAME_PART.parquet."""


def write(name: str, folder: Path) -> None:
    """Make one set and write its files, where there are none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob(f"{name}_*.parquet")):
        return
    for part, table in MAKERS[name]().items():
        pq.write_table(table, folder / f"{name}_{part}.parquet", compression="zstd")


def _series(key: str, steps: int, columns: dict[str, object], about: dict[str, object]) -> pa.Table:
    """Return one series as rows: its key, a count of steps, its columns, what is true of it all."""
    same = {name: [value] * steps for name, value in about.items()}
    return pa.table({"unique_id": [key] * steps, "ds": np.arange(1, steps + 1), **columns, **same})


def _texts(texts: list[str], about: dict[str, list[object]]) -> pa.Table:
    """Return one row for each text."""
    start = np.ones(len(texts), np.int64)
    return pa.table({"unique_id": texts, "ds": start, "text": texts, **about})


def _clip(
    shape: str, motion: tuple[int, int], frames: int, dice: np.random.Generator
) -> NDArray[np.float32]:
    """Return the frames of one clip, [frames, 28, 28], of values about 0 and 1."""
    size, pace = 5, int(dice.integers(1, 3))
    clip = dice.normal(0, 0.1, (frames, SIDE, SIDE))
    middle = (SIDE - size) // 2 + dice.integers(-2, 3, 2)
    first = [at - way * pace * (frames - 1) // 2 for at, way in zip(middle, motion, strict=True)]
    for number in range(frames):
        top, left = (at + way * pace * number for at, way in zip(first, motion, strict=True))
        if shape == "square":
            clip[number, top : top + size, left : left + size] += 1
        else:
            clip[number, top + size // 2, left : left + size] += 1
            clip[number, top : top + size, left + size // 2] += 1
    return clip.astype(np.float32)
