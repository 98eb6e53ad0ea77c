from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import typer

from forecast_cli import doctor


def test_this_machine_is_well(run_forecast) -> None:
    done = run_forecast("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0
    assert set(doctor.DEPENDENCIES) <= set(findings)
    assert {"python", "device", "cores", "memory", "disk", "clock", "terminal"} <= set(findings)
    assert {finding["status"] for finding in findings.values()} <= {"ok", "warn"}


def test_markdown_is_one_table(capsys) -> None:
    doctor.doctor(markdown=True)
    lines = capsys.readouterr().out.splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}
    assert lines[0].startswith("| what |")


def test_each_dependency_is_looked_at(project: Path) -> None:
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    named = [re.split(r"[<>=\[]", text)[0] for text in metadata["project"]["dependencies"]]
    assert sorted(doctor.DEPENDENCIES) == sorted(named)


def test_a_missing_package_is_broken_and_says_what_to_do() -> None:
    finding = doctor.dependency("no-such-package")
    assert finding.status == "broken"
    assert "pip install no-such-package" in finding.advice


def test_no_room_for_temporary_files_is_broken(capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(typer.Exit) as end:
        doctor.doctor(as_json=True)
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert end.value.exit_code == 1
    assert findings["temporary folder"]["status"] == "broken"
    assert "TMPDIR" in findings["temporary folder"]["advice"]


def test_each_extra_that_a_command_needs_is_looked_at(project: Path) -> None:
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    extras = metadata["project"]["optional-dependencies"]
    named = {
        re.split(r"[<>=\[]", text)[0]: extra
        for extra in set(doctor.EXTRAS.values())
        for text in extras[extra]
    }
    assert named == doctor.EXTRAS


def test_a_package_that_nothing_requires_may_be_missing(monkeypatch) -> None:
    monkeypatch.setitem(doctor.EXTRAS, "no-such-package", "pictures")
    finding = doctor.extra("no-such-package")
    assert (finding.status, finding.found) == ("ok", "not installed")
    assert "forecastd[pictures]" in finding.advice
