"""Train and score the reference examples; print their figures beside goals and naive ones.

    make examples                               all of them, three seeds each
    .venv/bin/python examples/run.py e1 e10     those whose name or row begins so
    .venv/bin/python examples/run.py --quick    one seed, one epoch: does it run?

Data sets are copied from a folder beside the checkout, ../shared/data or --data; an example whose
data are in neither is left out and said to be.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from made_up import write
from table import EXAMPLES, Example, settle

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
DATA = PROJECT / "runs" / "data"
MODELS = PROJECT / "runs" / "examples"
GUIDE = PROJECT / "docs" / "guides" / "examples.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
sys.path.insert(0, str(PROJECT / "benchmarks"))
SEEDS = 3
LONGEST = ("e2_turbofan_as_described", "e8_moving_shapes", "e4_waveforms", "e5_frequency")


def main() -> None:
    """Run what the command line says."""
    given = _arguments()
    if given.one:
        print(json.dumps(_one(given)))
        return
    chosen = _chosen(given.names)
    ready = [example for example in chosen if _has_data(example, given.data)]
    rows = _in_order([row for rows in _run(ready, given) for row in rows])
    print(table(rows))
    failed = {example.name for example in ready} - {row["example"] for row in rows}
    if failed:
        sys.exit(f"failed: {', '.join(sorted(failed))}")
    if not given.quick and given.seeds == SEEDS:
        _keep(rows)


def _keep(rows: list[dict[str, Any]]) -> None:
    """Put the rows into benchmarks/results/examples.json, and all that it holds into the guide."""
    from measure import RESULTS, keep

    path, new = RESULTS / "examples.json", {row["example"] for row in rows}
    older = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    rows = _in_order(rows + [row for row in older if row["example"] not in new])
    with contextlib.redirect_stdout(io.StringIO()):
        keep("examples", rows)
    text = GUIDE.read_text(encoding="utf-8")
    before, _, rest = text.partition(f"{BEGIN}\n")
    after = rest.partition(END)[2]
    GUIDE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}", encoding="utf-8")


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    order = {example.name: number for number, example in enumerate(EXAMPLES)}
    return sorted(rows, key=lambda row: order.get(row["example"], len(order)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="names or rows; none: all")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="examples at once")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def _chosen(names: list[str]) -> list[Example]:
    """Return the examples that were named. Exits where there is none of a name."""
    for name in names:
        if not any(_is_called(example, name) for example in EXAMPLES):
            known = ", ".join(example.name for example in EXAMPLES)
            sys.exit(f"there is no example {name!r}; known: {known}")
    return [
        example
        for example in EXAMPLES
        if not names or any(_is_called(example, name) for name in names)
    ]


def _is_called(example: Example, name: str) -> bool:
    return example.name == name or example.row.lower() == name.lower()


def _has_data(example: Example, mirror: Path) -> bool:
    """Get the data of an example; say on stderr why it is left out where they are not there."""
    from forecastd.data.catalogue import fetch, read_card
    from forecastd.errors import DataError

    for name in example.made:
        write(name, DATA)
    try:
        for name in example.sets:
            fetch(read_card(PROJECT / "datasets", name), mirror, DATA)
    except DataError as error:
        print(f"{example.name} is left out: {error}", file=sys.stderr)
        return False
    if "occupancy" in example.sets:
        settle(DATA)
    return True


def _run(examples: list[Example], given: argparse.Namespace) -> list[list[dict[str, Any]]]:
    """Run each example in a process of its own, some at once, and return their rows.

    What failed has none; its own words are on stderr.
    """

    def run(example: Example) -> list[dict[str, Any]]:
        command = [sys.executable, __file__, "--one", example.name]
        command += ["--quick"] if given.quick else ["--seeds", str(given.seeds)]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if process.returncode:
            print(f"{example.name} failed", file=sys.stderr)
            return []
        rows: list[dict[str, Any]] = json.loads(process.stdout)
        print(*table(rows).splitlines()[2:], sep="\n", file=sys.stderr, flush=True)
        return rows

    longest_first = sorted(examples, key=lambda example: example.name not in LONGEST)
    with ThreadPoolExecutor(given.jobs) as pool:
        return list(pool.map(run, longest_first))


def _one(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and score one example with each seed; return a row for each of its figures."""
    example = next(example for example in EXAMPLES if example.name == given.one)
    found: list[list[tuple[float, float]]] = []
    started = time.process_time()
    for seed in range(1 if given.quick else given.seeds):
        arguments = ["train", HERE / example.name / "forecast.toml", "--seed", seed, "--json"]
        arguments += ["--out", MODELS / example.name, "--device", "cpu"]
        arguments += ["--epochs", 1] if given.quick else []
        model = Path(forecast(*arguments)["model"])
        found.append([figure.score(forecast, model, DATA) for figure in example.figures])
    seconds = round((time.process_time() - started) / len(found), 1)
    return [
        _row(example, number, [scores[number] for scores in found]) | {"cpu_s_a_seed": seconds}
        for number in range(len(example.figures))
    ]


def _row(example: Example, number: int, scores: list[tuple[float, float]]) -> dict[str, Any]:
    figure = example.figures[number]
    mean = sum(score for score, _ in scores) / len(scores)
    return {
        "row": example.row,
        "example": example.name,
        "figure": figure.what,
        "seeds": [round(score, 4) for score, _ in scores],
        "mean": round(mean, 4),
        "goal": None if figure.goal is None else f"{'≥' if figure.at_least else '<'} {figure.goal}",
        "reached": figure.reached(mean),
        "more_is_better": figure.at_least,
        "naive": round(scores[0][1], 4),
        "naive_is": figure.naive,
    }


def forecast(*arguments: object) -> Any:
    """Run a command of `forecast` in this process; return what it prints, which is JSON."""
    from forecast_cli.main import app

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        app([str(argument) for argument in arguments], standalone_mode=False)
    return json.loads(printed.getvalue() or "null")


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a table in Markdown."""
    lines = [
        "| | example | figure | seeds | mean | goal | naive | CPU s a seed |",
        "| --- | --- | --- | --- | ---: | --- | --- | ---: |",
    ]
    for row in rows:
        seeds = ", ".join(_short(score) for score in row["seeds"])
        goal = row["goal"] or "-"
        goal += "" if row["reached"] is None else " reached" if row["reached"] else " missed"
        cells = [row["row"], row["example"], row["figure"], seeds, f"**{_short(row['mean'])}**"]
        cells += [goal, f"{_short(row['naive'])} ({row['naive_is']})", row["cpu_s_a_seed"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


if __name__ == "__main__":
    main()
