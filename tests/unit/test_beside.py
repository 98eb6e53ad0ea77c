from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from models import example, model

from forecastd import artifact
from forecastd.runtime import beside
from forecastd.runtime.beside import Beside

ENTRIES = {"run", "scan_lines", "print_lines", "find", "_probe", "insert"}
"""What a stream of lines cannot do without."""


def ending(folder: Path, command: str) -> str:
    """Return a program that runs a command of the shell, whatever its arguments."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1})


@pytest.mark.usefixtures("two_cores")
def test_the_other_process_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = tmp_path / "done"
    monkeypatch.setattr(sys, "executable", ending(tmp_path, f"sleep 0.2; touch {done}; exit 3"))
    with Beside() as other:
        other.start()
        other.wait()
    assert done.exists()


@pytest.mark.usefixtures("two_cores")
def test_a_block_that_fails_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", ending(tmp_path, "exec tail -f /dev/null"))

    def fail() -> None:
        with Beside() as other:
            other.start()
            message = "of the block"
            raise ValueError(message)

    with pytest.raises(ValueError, match="of the block"):
        fail()


@pytest.mark.usefixtures("two_cores")
def test_without_a_program_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with Beside() as other:
        other.start()


@pytest.mark.parametrize("cores", [1, 2])
def test_nothing_is_started_after_the_block_or_on_one_core(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_arguments: object, **_options: object) -> None:
        pytest.fail("a process was started")

    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(cores)))
    monkeypatch.setattr(subprocess, "Popen", started)
    with Beside() as other:
        if cores == 1:
            other.start()
    other.start()


@pytest.mark.slow
@pytest.mark.process
def test_a_first_start_compiles_all_that_a_stream_needs_and_says_so_once(tmp_path: Path) -> None:
    artifact.save(tmp_path / "model", model(), example())
    kept = tmp_path / "kept"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(kept)}
    line = '{"unique_id":"a","ds":"2024-01-01T00:00:00","y":1,"x":2}\n'
    command = [sys.executable, "-m", "forecast_cli", "stream", "model", "--device", "cpu"]
    for told in (1, 0):
        done = subprocess.run(
            command, input=line, capture_output=True, text=True, check=True,
            cwd=tmp_path, env=environment,
        )  # fmt: skip
        assert done.stderr.count("compiling for this machine") == told
        assert done.stdout.count("\n") == 1
    assert {path.name.split("-")[0].split(".")[-1] for path in kept.rglob("*.nbi")} >= ENTRIES


@pytest.mark.slow
@pytest.mark.process
def test_what_is_compiled_beside_is_what_a_stream_looks_for(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-m", beside.__name__], check=True, env=environment)
    found = {path.name.split("-")[0].split(".")[-1] for path in tmp_path.rglob("*.nbi")}
    assert found == ENTRIES - {"run"}
