from __future__ import annotations

from pathlib import Path

import pytest

from forecastd.config import TaskSettings, TrainConfig, load
from forecastd.errors import ConfigError


def test_a_config_tells_its_data_what_the_target_is_for(tmp_path: Path) -> None:
    path = tmp_path / "forecast.toml"
    path.write_text(
        '[data]\npath = "d.parquet"\nid = "key"\ntarget = ["r1", "r2"]\npast = ["x1"]\n'
        '[task]\nkind = "regression"\n'
    )
    config = load(TrainConfig, path, environment={}).settings
    assert config.data.task.kind == "regression"
    assert not config.data.wide
    again = TrainConfig.model_validate(config.model_dump())
    assert (again, again.data.task) == (config, config.task)
    assert again.data.model_copy(update={"path": "other"}).task.kind == "regression"


@pytest.mark.parametrize(
    ("task", "data", "words"),
    [
        ('kind = "regression"', "", "a regression needs inputs; name their columns in past"),
        (
            'kind = "classification"',
            'past = ["x"]\ntarget = ["a", "b"]',
            "a classification has one target, the label",
        ),
        ('classes = ["a", "b"]', "", "classes is for kind = \"classification\", not 'forecast'"),
        ('kind = "classification"\ncap = 3.0', 'past = ["x"]', 'cap is for kind = "regression"'),
        ('kind = "classification"\nclasses = ["a", "a"]', 'past = ["x"]', "'a' is named twice"),
        (
            'kind = "classification"\nclass_weights = [1.0, 2.0]',
            'past = ["x"]',
            "class_weights needs classes, and a weight for each",
        ),
        ("", 'id = "k"\ntarget = ["a", "b"]', "several targets need a wide frame without id"),
        ("", 'target = ["a", "b"]\npast = ["x"]', "a wide frame takes no past or static"),
    ],
)
def test_what_does_not_fit_a_task_is_refused(
    task: str, data: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "forecast.toml"
    path.write_text(f'[data]\npath = "d.parquet"\n{data}\n[task]\n{task}\n')
    with pytest.raises(ConfigError) as raised:
        load(TrainConfig, path, environment={})
    assert words in str(raised.value)


def test_labels_in_a_config_may_be_numbers_or_truth_values() -> None:
    task = {"kind": "classification", "classes": [1, 0]}
    assert TaskSettings.model_validate(task).classes == ["1", "0"]
    task["classes"] = [True, False]
    assert TaskSettings.model_validate(task).classes == ["true", "false"]
