"""Which records may judge a session, which are refused and why, and what is only shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.match import explaining_differences, find_baseline
from pytest_llmperf.baselines.record import ModelIdentity
from pytest_llmperf.config.extra_hashes import value_hash


def machine_with(machine: Any, key: str | None = None, **strict: Any) -> Any:
    return replace(machine, key=key or machine.key, strict={**machine.strict, **strict})


def test_the_same_machine_and_model_match(store: Any, make_record: Any) -> None:
    record = make_record()
    path = store.write(record)
    baseline = find_baseline(store, record.machine, record.model)
    assert [stored.path for stored in baseline.records] == [path]
    assert baseline.mismatched == ()
    assert baseline.nearest is None


def test_another_machine_under_the_same_key_is_refused_with_both_values(
    store: Any, make_record: Any
) -> None:
    record = make_record()
    path = store.write(record)
    current = machine_with(record.machine, backend="vulkan", **{"usable cores": 4})
    baseline = find_baseline(store, current, record.model)
    assert baseline.records == ()
    (mismatched,) = baseline.mismatched
    assert mismatched.path == path
    assert [str(difference) for difference in mismatched.differences] == [
        "backend: baseline cpu, now vulkan",
        "usable cores: baseline 2, now 4",
    ]


def test_another_model_is_refused_with_both_checksums(store: Any, make_record: Any) -> None:
    record = make_record()
    store.write(record)
    other_model = ModelIdentity("smollm2-135m", "c2" * 32)
    (mismatched,) = find_baseline(store, record.machine, other_model).mismatched
    assert str(mismatched.differences[0]) == (
        f"model: baseline smollm2-135m (SHA-256 {'b1' * 6}), now smollm2-135m (SHA-256 {'c2' * 6})"
    )


def test_a_renamed_model_file_still_matches(store: Any, make_record: Any) -> None:
    record = make_record()
    store.write(record)
    renamed = replace(record.model, name="model.gguf")
    assert len(find_baseline(store, record.machine, renamed).records) == 1


def test_without_a_checksum_the_models_name_decides(store: Any, make_record: Any) -> None:
    record = make_record(model=ModelIdentity("myapp.rag:answer", None))
    store.write(record)
    assert find_baseline(store, record.machine, record.model).records
    other_model = ModelIdentity("myapp.rag:other", None)
    assert find_baseline(store, record.machine, other_model).mismatched


def test_matching_and_refused_records_stand_side_by_side(store: Any, make_record: Any) -> None:
    record = make_record()
    store.write(make_record(machine=machine_with(record.machine, backend="vulkan")))
    path = store.write(record)
    baseline = find_baseline(store, record.machine, record.model)
    assert [stored.path for stored in baseline.records] == [path]
    assert len(baseline.mismatched) == 1
    assert baseline.nearest is None


def test_the_nearest_other_machine_is_named_when_nothing_matches(
    store: Any, make_record: Any
) -> None:
    record = make_record()
    far = machine_with(record.machine, "a-far-4c_cuda", cpu="EPYC", backend="cuda")
    near = machine_with(record.machine, "b-near-8c_cpu", **{"usable cores": 8})
    store.write(make_record(machine=far))
    path = store.write(make_record(machine=near))
    nearest = find_baseline(store, record.machine, record.model).nearest
    assert nearest is not None
    assert (nearest.key, nearest.path) == ("b-near-8c_cpu", path)
    assert [str(d) for d in nearest.differences] == ["usable cores: baseline 8, now 2"]


def test_an_empty_store_has_nothing_near(store: Any, make_record: Any) -> None:
    baseline = find_baseline(store, make_record().machine, make_record().model)
    assert (baseline.records, baseline.mismatched, baseline.nearest) == ((), (), None)


def test_a_bad_file_is_never_skipped(store: Any, make_record: Any, bad_file: Any) -> None:
    store.write(make_record())
    bad_file("{")
    with pytest.raises(BaselineError, match="not JSON"):
        find_baseline(store, make_record().machine, make_record().model)


def noted(store: Any, record: Any, **current: Any) -> list[str]:
    store.write(record)
    (stored,) = store.read_machine(record.machine.key)
    facts = {
        "machine": record.machine,
        "provenance": record.provenance,
        "config": record.config,
        **current,
    }
    return [str(difference) for difference in explaining_differences(stored, **facts)]


def test_nothing_is_noted_when_nothing_changed(store: Any, make_record: Any) -> None:
    assert noted(store, make_record()) == []


def test_changed_settings_are_noted_by_their_full_names(store: Any, make_record: Any) -> None:
    record = make_record()
    config = {**record.config, "n_ctx": 4096, "extra": {"rope_freq_base": 1e6}, "type_k": None}
    assert noted(store, record, config=config) == [
        "llm.n_ctx: baseline 2048, now 4096",
        f"llm.extra.rope_freq_base: baseline not set, now hidden (SHA-256 {value_hash(1e6)})",
        "llm.type_k: baseline unknown, now not set",
    ]


def test_another_place_of_the_same_model_is_not_noted(store: Any, make_record: Any) -> None:
    record = make_record()
    assert noted(store, record, config={**record.config, "model_path": "elsewhere.gguf"}) == []


def test_changed_versions_are_noted(store: Any, make_record: Any) -> None:
    record = make_record()
    provenance = replace(record.provenance, engine_version="0.3.40", commit="f" * 40, branch="x")
    assert noted(store, record, provenance=provenance) == [
        "engine version: baseline 0.3.36, now 0.3.40"
    ]


def test_what_is_only_recorded_of_the_machine_is_noted(store: Any, make_record: Any) -> None:
    record = make_record()
    machine = replace(record.machine, info={**record.machine.info, "kernel": "6.2.0"})
    assert noted(store, record, machine=machine) == ["kernel: baseline 6.1.0, now 6.2.0"]
