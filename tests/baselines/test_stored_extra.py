"""``llm.extra`` may hold a key or a private path: files keep a hash, and comparing still works."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.baselines.calibrations import read_calibrations, write_calibration
from pytest_llmperf.baselines.match import explaining_differences, setting_differences
from pytest_llmperf.baselines.record import from_json, to_text
from pytest_llmperf.baselines.store import StoredRecord

SECRET = "sk-a-key-of-somebody"
PRIVATE = "/home/somebody/private.bin"
EXTRA = {"api_key": SECRET, "lora": {"path": PRIVATE, "scale": 0.123456789012}, "base": 1e6}


def with_extra(record: Any, extra: dict[str, Any]) -> Any:
    return replace(record, config={**record.config, "extra": extra})


def differing_items(stored: Any, record: Any, extra: dict[str, Any]) -> list[str]:
    """Return the items that differ between a stored session and one with these arguments."""
    config = {**record.config, "extra": extra}
    found = explaining_differences(
        StoredRecord(Path("x.json"), stored), record.machine, record.provenance, config
    )
    return [difference.item for difference in found]


def test_a_record_holds_the_keys_and_no_value(make_record: Any) -> None:
    text = to_text(with_extra(make_record(), EXTRA))
    assert list(json.loads(text)["config"]["extra_sha256"]) == list(EXTRA)
    assert SECRET not in text
    assert PRIVATE not in text


def test_a_calibration_holds_the_keys_and_no_value(tmp_path: Path) -> None:
    config = {"n_ctx": 64, "extra": EXTRA}
    data = {"model": "m", "plant": "", "config": config, "iterations": 3, "turns": "auto"}
    data["checks"] = []
    path = write_calibration(tmp_path, "2026-11-23T04:00:00Z", data)
    assert SECRET not in path.read_text()
    assert PRIVATE not in path.read_text()
    (calibration,), _ = read_calibrations(tmp_path)
    assert calibration.is_of("m", {"n_ctx": 64, "extra": EXTRA})
    assert not calibration.is_of("m", {"n_ctx": 64, "extra": {**EXTRA, "api_key": "another"}})


def test_a_changed_value_is_named_by_its_key(make_record: Any) -> None:
    record = make_record()
    stored = from_json(json.loads(to_text(with_extra(record, EXTRA))))
    assert differing_items(stored, record, EXTRA) == []
    assert differing_items(stored, record, {**EXTRA, "base": 1_000_000}) == []
    assert differing_items(stored, record, {**EXTRA, "api_key": "another"}) == ["llm.extra.api_key"]
    nested = {**EXTRA, "lora": {**EXTRA["lora"], "scale": 0.5}}  # type: ignore[dict-item]
    assert differing_items(stored, record, nested) == ["llm.extra.lora"]


def test_two_configurations_differ_without_their_values() -> None:
    first, second = ({"model_path": "m", "extra": {"api_key": key}} for key in (SECRET, "another"))
    (difference,) = setting_differences(first, second)
    assert difference.item == "llm.extra.api_key"
    assert SECRET not in str(difference)
    assert "another" not in str(difference)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("extra_sha256", [], "config.extra_sha256: expected an object"),
        ("extra_sha256", {"a": 1}, "config.extra_sha256.a: expected a string, got 1"),
    ],
)
def test_what_is_no_mapping_is_named(make_record: Any, key: str, value: Any, said: str) -> None:
    data = json.loads(to_text(make_record()))
    data["config"][key] = value
    with pytest.raises(ValueError, match=said):
        from_json(data)
