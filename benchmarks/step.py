"""What `forecast bench step` measures for untrained models, kept in results/step.json."""

from __future__ import annotations

from dataclasses import asdict

from forecast_cli.bench_step import ROUNDS, measure, on_one_core
from forecast_cli.output import progress

SHAPES = [(hidden, layers) for hidden in (64, 128, 256) for layers in (1, 2)]
BATCHES = [1, 16, 256, 4096]


def main() -> None:
    with on_one_core():  # before numpy and torch are imported
        from measure import keep

        from forecastd.runtime.measuring import untrained

        artifacts = [untrained(hidden, layers) for hidden, layers in SHAPES]
        with progress("measuring", len(SHAPES) * len(BATCHES)) as bar:
            rows = measure(artifacts, BATCHES, "cpu", ROUNDS, bar)
        keep("step", [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
