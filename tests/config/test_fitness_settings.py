"""Settings for the severity of fitness checks, and for waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.config.json_schema import build_schema
from pytest_llmperf.config.load import load_config
from pytest_llmperf.config.schema import PerfConfig
from pytest_llmperf.fitness_checks import CHECKS


def read(tmp_path: Path, text: str, *overrides: str) -> PerfConfig:
    (tmp_path / "config.yaml").write_text(text)
    return load_config(None, tmp_path, {}, overrides).config.perf


def test_severities_are_set_by_name(tmp_path: Path) -> None:
    perf = read(tmp_path, "perf:\n  fitness: {busy_cores: warn, gpu_power_cap: invalid}\n")
    assert perf.fitness == {"busy_cores": "warn", "gpu_power_cap": "invalid"}


def test_a_later_layer_takes_a_severity_back(tmp_path: Path) -> None:
    text = "perf:\n  fitness: {busy_cores: warn, swapping: note}\n"
    assert read(tmp_path, text, "perf.fitness.busy_cores=null").fitness == {"swapping": "note"}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "{busy_core: warn}",
            "perf.fitness.busy_core: no fitness check of this name; did you mean 'busy_cores'?",
        ),
        ("{heat: warn}", "perf.fitness.heat: no fitness check of this name (known: busy_cores, "),
        (
            "{busy_cores: error}",
            "perf.fitness.busy_cores: expected note, warn or invalid, got 'error'",
        ),
        ("{busy_cores: 3}", "perf.fitness.busy_cores: expected note, warn or invalid, got 3"),
        ("{busy_cores: [warn]}", "perf.fitness.busy_cores: expected note, warn or invalid, got a"),
        (
            "{other_backend: invalid}",
            "perf.fitness.other_backend: expected note or warn, got 'invalid': an effect "
            "of the configuration is always judged, and named as the cause",
        ),
        ("3", "perf.fitness: expected a mapping of fitness checks to note, warn or invalid, got 3"),
    ],
)
def test_a_wrong_severity_gets_its_sentence(tmp_path: Path, setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"perf:\n  fitness: {setting}\n")
    assert str(caught.value).startswith(f"config.yaml:2: {sentence}")
    assert len(str(caught.value).splitlines()) == 1


def test_waiting_is_off_and_is_a_duration(tmp_path: Path) -> None:
    assert read(tmp_path, "perf: {}\n").wait_fit is None
    assert read(tmp_path, "perf: {wait_fit: 2m}\n").wait_fit == 120.0


def test_editors_know_every_check_and_what_it_may_be() -> None:
    fitness = build_schema()["$defs"]["PerfConfig"]["properties"]["fitness"]
    assert set(fitness["properties"]) == set(CHECKS)
    assert fitness["additionalProperties"] is False
    assert fitness["properties"]["busy_cores"] == {
        "description": "other processes used the engine's cores (default: invalid)",
        "enum": ["note", "warn", "invalid", None],
    }
    assert fitness["properties"]["other_layers"]["enum"] == ["note", "warn", None]
