"""AIPerf's profile_export_aiperf.json: real files, see data/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from import_runs import DATA, Command, changed, stored, value

ONE = DATA / "aiperf-concurrency1.json"
TEST = "aiperf::profile[concurrency=1,requests=4]"


def test_decode_is_pooled_and_milliseconds_are_seconds(llmperf: Command) -> None:
    done = llmperf("import", ONE, "--dir", "base")
    assert done.status == 0, done.err
    (session,) = stored()
    data = json.loads(ONE.read_text())
    # All requests have 16 tokens, so the mean of ratios is the pooled ratio.
    per_token = data["inter_token_latency"]["avg"] / 1000
    expected = {
        "time_per_output_token": per_token,
        "tokens_per_sec": 1 / per_token,
        "first_token": data["time_to_first_token"]["p50"] / 1000,
        "first_token_p99": data["time_to_first_token"]["p99"] / 1000,
        "end_to_end": data["request_latency"]["sum"] / 1000,
        "inter_token": data["inter_chunk_latency"]["p50"] / 1000,
    }
    for metric, wanted in expected.items():
        assert value(session, TEST, metric) == [[pytest.approx(wanted, rel=1e-6)]], metric
    assert session.imported is not None
    assert session.imported.label == "aiperf 0.13.0"
    assert session.model.name == "smollm2-135m"
    assert session.recorded == "2026-11-28T21:23:15Z"


def test_two_requests_at_once_are_another_test(llmperf: Command) -> None:
    assert llmperf("import", ONE, DATA / "aiperf-concurrency2.json", "--dir", "base").status == 0
    names = {name: test for session in stored() for name, test in session.tests.items()}
    assert set(names) == {TEST, "aiperf::profile[concurrency=2,requests=6]"}
    assert "up to 2 requests at once" in names["aiperf::profile[concurrency=2,requests=6]"].summary


def test_means_of_ratios_and_rates_per_user_are_refused_by_name(llmperf: Command) -> None:
    done = llmperf("import", ONE, "--dir", "base")
    assert "inter_token_latency -> left out: each request's own (latency - TTFT)" in done.words
    assert "output_token_throughput_per_user -> left out: the mean of 1 /" in done.words
    assert "prefill_throughput_per_user -> left out: prompt tokens / TTFT" in done.words


def test_fewer_chunks_than_tokens_are_no_gaps_between_tokens(
    llmperf: Command, tmp_path: Path
) -> None:
    def merge(data: dict[str, Any]) -> None:
        data["inter_chunk_latency"]["count"] = 59

    done = llmperf("import", changed(ONE.name, tmp_path / "c.json", merge), "--dir", "base")
    assert "inter_token" not in stored()[0].tests[TEST].metrics
    assert "inter_chunk_latency -> left out: gaps between responses" in done.words


def test_units_are_those_that_the_file_names(llmperf: Command, tmp_path: Path) -> None:
    def in_seconds(data: dict[str, Any]) -> None:
        found = data["time_to_first_token"]
        data["time_to_first_token"] = {
            name: value if name == "unit" or name == "count" else value / 1000
            for name, value in {**found, "unit": "s"}.items()
        }

    def in_furlongs(data: dict[str, Any]) -> None:
        data["time_to_first_token"]["unit"] = "furlongs"

    llmperf("import", ONE, "--dir", "ms")
    llmperf("import", changed(ONE.name, tmp_path / "s.json", in_seconds), "--dir", "s")
    (first,), (second,) = stored(Path("ms")), stored(Path("s"))
    for metric in ("first_token", "tokens_per_sec"):
        assert value(first, TEST, metric)[0] == pytest.approx(value(second, TEST, metric)[0])
    done = llmperf("import", changed(ONE.name, tmp_path / "f.json", in_furlongs), "--dir", "f")
    assert (
        "time_to_first_token.unit: expected one of ms, s, sec, us, ns, got 'furlongs'" in done.err
    )


def test_the_layout_of_the_first_versions_is_read_too(llmperf: Command, tmp_path: Path) -> None:
    def old(data: dict[str, Any]) -> None:
        data["input_config"] = {
            "endpoint": {"model_names": ["smollm2-135m"], "type": "completions"},
            "loadgen": {"concurrency": 1, "request_count": 4},
        }
        del data["aiperf_version"]

    assert llmperf("import", ONE, "--dir", "new").status == 0
    file = changed(ONE.name, tmp_path / "old.json", old)
    assert llmperf("import", file, "--dir", "old").status == 0
    (new,), (older,) = stored(Path("new")), stored(Path("old"))
    assert older.tests == new.tests
    assert older.model == new.model


def test_a_run_that_time_ended_or_that_was_cancelled(llmperf: Command, tmp_path: Path) -> None:
    def by_time(data: dict[str, Any]) -> None:
        phase = data["input_config"]["phases"][0]
        del phase["requests"]
        phase["duration"] = 10.0
        data["was_cancelled"] = True

    file = changed(ONE.name, tmp_path / "time.json", by_time)
    done = llmperf("import", file, "--dir", "base")
    (test,) = stored()[0].tests.values()
    assert "end_to_end" not in test.metrics
    assert test.invalid == ("the run was cancelled",)
    assert "request_latency -> left out: the run was limited by time" in done.words


def test_phases_that_one_summary_mixes_are_refused(llmperf: Command, tmp_path: Path) -> None:
    def two(data: dict[str, Any]) -> None:
        data["input_config"]["phases"] *= 2

    done = llmperf("import", changed(ONE.name, tmp_path / "two.json", two), "--dir", "base")
    assert done.status == 2
    assert "a run of 2 measured phases, whose requests its summary mixes" in done.err
