"""Bytes to observations and forecasts to bytes, beside msgspec line by line; then whole streams."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from measure import keep, median_s

from forecastd.artifact import Artifact
from forecastd.connectors.codec_arrow import ArrowDecoder, ArrowEncoder
from forecastd.connectors.codec_ndjson import Decoder, Encoder
from forecastd.connectors.codec_text import TextDecoder, TextEncoder
from forecastd.connectors.contract import Format, FrameBatch, LineBatch
from forecastd.connectors.frames import FrameSplitter
from forecastd.connectors.lines import Lines, LineSplitter
from forecastd.daemon.local import Conduct, run_stdio
from forecastd.features.spec import FeatureSpec
from forecastd.features.vocabulary import Vocabulary
from forecastd.network.model import ForecastNetwork, weights_of
from forecastd.network.spec import HeadSpec, NetworkSpec, lstm_chain
from forecastd.runtime.kernel_stepper import KernelStepper
from forecastd.series import ForecastBatch, Frequency, Keys, Signature

ROWS = 4096
SERIES = 10_000
STREAM_ROWS = 1_000_000
REPEATS = 50
HOUR_US = 3_600_000_000
QUANTILES = (0.1, 0.5, 0.9)
POINT = Signature("unique_id", "ds", "y", (), (), Frequency.parse("1h"), 24, 1, ())
WIDE = replace(POINT, horizon=24, quantiles=QUANTILES)


def observations(rows: int) -> pa.RecordBatch:
    """Return one row of each series in turn, hour after hour."""
    numbers = np.arange(rows)
    values = np.random.default_rng(0).normal(20, 10, rows).round(3)
    hours = (numbers // SERIES + 400_000) * HOUR_US
    keys = pa.array([f"series-{number % SERIES}" for number in range(rows)])
    return pa.record_batch({"unique_id": keys, "ds": hours.astype("datetime64[us]"), "y": values})


def as_lines(records: pa.RecordBatch) -> bytes:
    stamps = np.datetime_as_string(records.column("ds").to_numpy(), "s").tolist()
    rows = zip(records.column(0).to_pylist(), stamps, records.column(2).to_pylist(), strict=True)
    text = [f'{{"unique_id":"{key}","ds":"{stamp}","y":{value!r}}}\n' for key, stamp, value in rows]
    return "".join(text).encode()


def as_stream(records: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, records.schema) as writer:
        writer.write_table(pa.Table.from_batches([records]), ROWS)
    return sink.getvalue().to_pybytes()


def part(name: str, ours: Callable[[], object], theirs: Callable[[], object]) -> dict[str, Any]:
    """Return ns per observation of a part and of its reference."""
    found = [median_s(call, REPEATS) / ROWS * 1e9 for call in (ours, theirs)]
    return {
        "part": name,
        "ns": round(found[0], 1),
        "msgspec_ns": round(found[1], 1),
        "quicker": round(found[1] / found[0], 1),
    }


def reading() -> list[dict[str, Any]]:
    records = observations(ROWS)
    text, stream = as_lines(records), as_stream(records)
    parts = text.split(b"\n")[:-1]
    lines = Lines.of(parts)

    def split() -> Lines:
        splitter = LineSplitter(65536)
        splitter.feed(text)
        return splitter.take(ROWS).lines

    def frames() -> FrameBatch:
        splitter = FrameSplitter(1 << 26)
        splitter.feed(stream)
        return FrameBatch("in", splitter.take(ROWS).pieces)

    plain, typed, arrow = Decoder(POINT), TextDecoder(POINT), ArrowDecoder(POINT)
    assert plain.decode(LineBatch("in", lines)).batch.keys == typed.decode(parts).keys
    return [
        part("lines: split", split, lambda: text.split(b"\n")),
        part(
            "ndjson: decode",
            lambda: plain.decode(LineBatch("in", lines)),
            lambda: typed.decode(parts),
        ),
        part(
            "arrow: frame and decode", lambda: arrow.decode(frames()), lambda: typed.decode(parts)
        ),
    ]


def writing(signature: Signature) -> list[dict[str, Any]]:
    keys = Keys.of(f"series-{number}" for number in range(ROWS))
    shape = (ROWS, signature.horizon, max(1, len(signature.quantiles)))
    values = np.random.default_rng(0).normal(20, 10, shape).astype(np.float32)
    batch = ForecastBatch(keys, np.full(ROWS, 400_000 * HOUR_US), values)
    plain, typed, arrow = Encoder(signature), TextEncoder(signature), ArrowEncoder(signature)
    assert plain.encode(batch).lines == typed.encode(batch)
    size = f"{shape[1]} x {shape[2]}"
    return [
        part(f"ndjson: encode {size}", lambda: plain.encode(batch), lambda: typed.encode(batch)),
        part(f"arrow: encode {size}", lambda: arrow.encode(batch), lambda: typed.encode(batch)),
    ]


def artifact_of(signature: Signature, hidden: int = 64) -> Artifact:
    """Return an untrained model of one layer on the target and its running scale."""
    features = FeatureSpec(1, (), 24.0, 0, 0, ())
    kind = "quantile" if signature.quantiles else "point"
    head = HeadSpec(kind, signature.horizon, signature.quantiles, 0)
    spec = NetworkSpec(features, lstm_chain(hidden, 1, 0.0, "sequence"), head)
    weights = weights_of(ForecastNetwork(spec))
    return Artifact(signature, spec, Vocabulary((), {}, {}), {}, 24, weights, {}, {}, "benchmark")


def whole(name: str, data: bytes, form: Format, signature: Signature) -> dict[str, Any]:
    """Return observations a second from a file to /dev/null, everything but the start included."""
    stepper = KernelStepper(artifact_of(signature), SERIES, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in"
        path.write_bytes(data)
        source, sink = os.open(path, os.O_RDONLY), os.open(os.devnull, os.O_WRONLY)
        started, cpu = time.perf_counter(), time.process_time()
        counts = run_stdio(stepper, None, Conduct(form=form), descriptors=(source, sink)).counts
        elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
        os.close(source)
        os.close(sink)
    assert counts.forecasts == counts.observations == STREAM_ROWS
    return {
        "stream": name,
        "observations_per_s": round(STREAM_ROWS / elapsed),
        "observations_per_cpu_s": round(STREAM_ROWS / cpu),
        "step_ns": round(counts.step_s / STREAM_ROWS * 1e9),
        "rest_ns": round((elapsed - counts.step_s) / STREAM_ROWS * 1e9),
    }


def streams() -> list[dict[str, Any]]:
    records = observations(STREAM_ROWS)
    text, stream = as_lines(records), as_stream(records)
    return [
        whole("ndjson to ndjson, 1 value", text, "ndjson", POINT),
        whole("arrow to arrow, 1 value", stream, "arrow", POINT),
        whole("ndjson to ndjson, 24 x 3", text, "ndjson", WIDE),
        whole("arrow to arrow, 24 x 3", stream, "arrow", WIDE),
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = [*reading(), *writing(POINT), *writing(WIDE)]
    keep("codec", rows if "--parts" in sys.argv else [*rows, *streams()])
