"""What `forecast bench stream` measures for untrained models, kept in results/stream.json."""

from __future__ import annotations

from dataclasses import asdict

from measure import keep

from forecast_cli.bench_stream import on_disk, run
from forecast_cli.bench_traffic import Traffic
from forecast_cli.output import progress
from forecastd import artifact
from forecastd.runtime.measuring import untrained

FEW, MANY = Traffic(10_000, 2_000_000, "round"), Traffic(1_000_000, 2_000_000, "random")
THIRDS = (0.1, 0.5, 0.9)
PLANS = [
    (untrained(64, 1), [(FEW, "ndjson"), (MANY, "ndjson"), (FEW, "arrow"), (MANY, "arrow")]),
    (untrained(64, 1, 24, THIRDS), [(FEW, "ndjson"), (FEW, "arrow")]),
    (untrained(64, 1, lags=336), [(FEW, "arrow"), (MANY, "arrow")]),
]


def main() -> None:
    rows = []
    with progress("measuring", sum(len(ways) for _, ways in PLANS)) as bar:
        for made, ways in PLANS:
            with on_disk(made) as folder:
                trained = artifact.read(folder)
                for traffic, form in ways:
                    rows.append(run(folder, trained, traffic, (form, 1, "cpu")))
                    bar.advance()
    keep("stream", [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
