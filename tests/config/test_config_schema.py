"""The generated schema accepts and rejects the same files as the program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pytest_llmperf.cli import main
from pytest_llmperf.config.json_schema import SHIPPED, build_schema, schema_text
from pytest_llmperf.config.llm_section import LLM_FIELDS, LlamaCppConfig
from pytest_llmperf.config.load import load_config
from pytest_llmperf.config.schema import Config
from pytest_llmperf.metrics import METRICS

_REPOSITORY = Path(__file__).parents[2]


def _accepts(content: Any) -> bool:
    validator = jsonschema.Draft202012Validator(json.loads(SHIPPED.read_text(encoding="utf-8")))
    return bool(validator.is_valid(content))


def test_the_shipped_schema_is_up_to_date() -> None:
    stale = f"run: llmperf schema > {SHIPPED.relative_to(_REPOSITORY)}"
    assert SHIPPED.read_text(encoding="utf-8") == schema_text(), stale


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()


def test_it_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(build_schema())


def test_it_accepts_the_repositorys_own_file() -> None:
    assert _accepts(yaml.safe_load((_REPOSITORY / "config.yaml").read_text(encoding="utf-8")))


def test_the_repositorys_own_file_states_every_default() -> None:
    loaded = load_config(_REPOSITORY / "config.yaml", _REPOSITORY, {})
    assert loaded.config.llm == LlamaCppConfig()
    assert set(loaded.config.perf.targets) == {"tokens_per_sec", "first_token", "end_to_end"}


def test_the_repositorys_own_file_names_every_key() -> None:
    text = (_REPOSITORY / "config.yaml").read_text(encoding="utf-8")
    for section in Config.model_fields.values():
        for key in section.annotation.model_fields:  # type: ignore[union-attr]
            assert f"{key}:" in text
    assert all(f"{key}:" in text for key in LLM_FIELDS)


def test_the_repositorys_own_file_names_the_schema_for_editors() -> None:
    first = (_REPOSITORY / "config.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.partition("$schema=")[2] == SHIPPED.relative_to(_REPOSITORY).as_posix()


def test_it_knows_every_metric() -> None:
    targets = build_schema()["$defs"]["PerfConfig"]["properties"]["targets"]["properties"]
    assert set(targets) == set(METRICS)


@pytest.mark.parametrize(
    "content",
    [
        {"llm": {"n_batchh": 1}},
        {"llm": {"n_ctx": 0}},
        {"llm": {"n_threads": "all"}},
        {"llm": {"load_timeout": "5"}},
        {"llm": {"target": "myapp:answer"}},
        {"llm": {"engine": "app"}},
        {"llm": {"engine": "app", "target": "myapp:answer", "n_ctx": 512}},
        {"llm": {"engine": "server", "url": "http://a", "n_ctx": 512}},
        {"llm": {"engine": "server", "url": "http://a", "api": "responses"}},
        {"llm": {"url": "http://a"}},
        {"perf": {"tolerance": "5"}},
        {"perf": {"false_alarms": "auto"}},
        {"perf": {"targets": {"frist_token": "3s"}}},
        {"perf": {"targets": {"first_token": "3 tok/s"}}},
        {"other": 1},
    ],
)
def test_it_refuses_what_the_program_refuses(content: dict[str, Any]) -> None:
    assert not _accepts(content)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"llm": None},
        {"llm": {"n_threads": 4, "extra": {"rope_freq_base": 1.0}}},
        {"llm": {"engine": "app", "target": "myapp:answer", "n_threads": 4}},
        {"llm": {"engine": "server", "url": "http://a", "body": {"top_k": 1}}},
        {"llm": {"engine": "acme", "extra": {"url": "a"}}},
        {"perf": {"tolerance": 0.05, "budget": 90}},
        {"perf": {"tolerance": "auto"}},
        {"perf": {"targets": {"first_token": "500ms", "tokens_per_sec": 60, "end_to_end": None}}},
    ],
)
def test_it_accepts_what_the_program_accepts(content: dict[str, Any]) -> None:
    assert _accepts(content)
