"""`forecast doctor`: whether this machine has what forecastd needs, a line for each thing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

DEPENDENCIES = [
    "torch",
    "numpy",
    "numba",
    "pyarrow",
    "polars",
    "typer",
    "rich",
    "pydantic",
    "msgspec",
    "safetensors",
    "aiohttp",
    "prometheus-client",
    "tomlkit",
]
EXTRAS = {"onnx": "onnx", "onnxruntime": "onnx", "matplotlib": "pictures"}
"""Packages that only some commands need, and the extra of forecastd that brings them."""
GIB = 1 << 30
DISK_GIB_MIN = 1.0
MEMORY_GIB_MIN = 1.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at. status: "ok", "warn", or "broken" (forecastd cannot work)."""

    name: str
    status: str
    found: str
    advice: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, to paste into an issue.")
    ] = False,
) -> None:
    """Check this machine: versions, devices, memory, disk, terminal. Exit 1 if one is broken."""
    from forecast_cli.output import print_json, print_table

    findings = examine()
    rows = [(each.name, each.status, each.found, each.advice) for each in findings]
    columns = ("what", "status", "found", "what to do")
    if as_json:
        print_json(findings)
    elif markdown:
        for row in (columns, ("---",) * 4, *rows):
            print("|", " | ".join(cell.replace("|", "\\|") for cell in row), "|")
    else:
        print_table(columns, rows)
    if any(each.status == "broken" for each in findings):
        raise typer.Exit(1)


def examine() -> list[Finding]:
    """Look at everything once."""
    packages = [dependency(name) for name in DEPENDENCIES]
    packages += [extra(name) for name in EXTRAS]
    device = [_device()] if packages[0].status == "ok" else []
    machine = [_cores(), _memory(), _disk(), _temporary_folder(), _clock(), _terminal()]
    return [_python(), _forecastd(), *packages, *device, *machine]


def dependency(name: str) -> Finding:
    """Import a package and tell its version."""
    import importlib
    from importlib import metadata

    try:
        importlib.import_module(name.replace("-", "_"))
        return Finding(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "warn", "no version known", f"reinstall it: pip install {name}")
    except (ImportError, OSError) as error:  # OSError: a shared library of it is missing
        reason = str(error).splitlines()[0]
        return Finding(name, "broken", reason, f"reinstall it: pip install {name}")


def extra(name: str) -> Finding:
    """Look at a package that is not required: what is missing there is no fault."""
    found = dependency(name)
    if found.status != "broken":
        return found
    advice = f"for what needs it: pip install 'forecastd[{EXTRAS[name]}]'"
    return Finding(name, "ok", "not installed", advice)


def _python() -> Finding:
    found = f"{platform.python_version()} ({platform.machine()}, {platform.system()})"
    return Finding("python", "ok", found)


def _forecastd() -> Finding:
    from forecastd import __version__

    return Finding("forecastd", "ok", __version__)


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("device", "ok", f"cuda: {torch.cuda.get_device_name()}")
    if torch.version.cuda:
        advice = "check the driver with nvidia-smi if there is a GPU"
        return Finding("device", "ok", f"cpu (torch for CUDA {torch.version.cuda})", advice)
    return Finding("device", "ok", "cpu (this torch has no CUDA)")


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    return Finding("cores", "ok", f"{cores} of {os.cpu_count()}")


def _memory() -> Finding:
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page / GIB
    free = _available_pages() * page / GIB
    found = f"{free:.1f} GiB free of {total:.1f}"
    if free < MEMORY_GIB_MIN:
        return Finding("memory", "warn", found, "close programs, or use a smaller train.batch")
    return Finding("memory", "ok", found)


def _available_pages() -> int:
    """Return the pages a new program can get; caches count as free where Linux tells."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 // os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    return os.sysconf("SC_AVPHYS_PAGES")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    found = f"{free:.1f} GiB free in {Path.cwd()}"
    if not os.access(Path.cwd(), os.W_OK):
        return Finding("disk", "warn", f"{Path.cwd()} is not writable", "work in another folder")
    if free < DISK_GIB_MIN:
        return Finding("disk", "warn", found, "free some space, or work in another folder")
    return Finding("disk", "ok", found)


def _temporary_folder() -> Finding:
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        advice = "set TMPDIR to a folder with free space that is writable"
        return Finding("temporary folder", "broken", error.strerror or str(error), advice)
    return Finding("temporary folder", "ok", tempfile.gettempdir())


def _clock() -> Finding:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    newest = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    found = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    if now < newest:
        advice = "set the clock: it is before the time forecastd was installed"
        return Finding("clock", "warn", found, advice)
    return Finding("clock", "ok", found)


def _terminal() -> Finding:
    from forecast_cli.output import is_screen

    if "utf" not in (sys.stdout.encoding or "").lower():
        advice = "set LANG to a UTF-8 locale, or PYTHONUTF8=1"
        return Finding("terminal", "warn", f"encoding {sys.stdout.encoding}", advice)
    if not is_screen(sys.stdout):
        return Finding("terminal", "ok", "none: plain text without colours")
    size = shutil.get_terminal_size()
    return Finding("terminal", "ok", f"{size.columns} columns, {os.environ.get('TERM', '')}")
