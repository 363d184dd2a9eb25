"""GuideLLM's benchmarks.json: real files, see data/README.md.

The expected numbers are computed from the requests in the file, not from its summaries.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from import_runs import DATA, Command, changed, stored, value

SYNC = DATA / "guidellm-synchronous.json"
TEST = "guidellm::synchronous[concurrency=1,requests=4]"


def test_decode_is_pooled_over_requests_and_times_are_seconds(llmperf: Command) -> None:
    done = llmperf("import", SYNC, "--dir", "base")
    assert done.status == 0, done.err
    (session,) = stored()
    requests = json.loads(SYNC.read_text())["benchmarks"][0]["requests"]["successful"]
    times = [request["info"]["timings"] for request in requests]
    steps = sum(request["output_tokens"] - 1 for request in requests)
    seconds = sum(t["last_token_iteration"] - t["first_token_iteration"] for t in times)
    firsts = sorted(t["first_token_iteration"] - t["request_start"] for t in times)
    expected = {
        "tokens_per_sec": steps / seconds,
        "time_per_output_token": seconds / steps,
        "first_token": firsts[1],  # nearest rank of four
        "first_token_p99": firsts[-1],
        "end_to_end": sum(t["request_end"] - t["request_start"] for t in times),
    }
    for metric, wanted in expected.items():
        assert value(session, TEST, metric) == [[pytest.approx(wanted, rel=1e-5)]], metric
    assert session.imported is not None
    assert session.imported.label == "guidellm 0.8.1"
    assert session.model.name == "smollm2-135m"
    assert session.recorded.startswith("2026-11-28T21:20:")


def test_a_token_time_with_the_first_token_in_it_is_refused_by_name(llmperf: Command) -> None:
    done = llmperf("import", SYNC, "--dir", "base")
    assert "time_per_output_token_ms -> left out: (t_n - t_start) / n of each" in done.words
    assert "inter_token_latency_ms, median and percentiles -> left out" in done.words


def test_a_mean_that_is_not_weighted_by_tokens_is_refused(llmperf: Command, tmp_path: Path) -> None:
    def by_request(data: dict[str, Any]) -> None:
        metrics = data["benchmarks"][0]["metrics"]
        metrics["inter_token_latency_ms"]["successful"]["count"] = 4

    file = changed(SYNC.name, tmp_path / "requests.json", by_request)
    done = llmperf("import", file, "--dir", "base")
    assert "tokens_per_sec" not in stored()[0].tests[TEST].metrics
    assert "inter_token_latency_ms.mean -> left out: each request's own" in done.words


def test_a_run_that_time_ended_has_no_sum_and_a_load_without_requests_no_run(
    llmperf: Command,
) -> None:
    done = llmperf("import", DATA / "guidellm-concurrent.json", "--dir", "base")
    assert done.status == 0
    (session,) = stored()
    assert list(session.tests) == ["guidellm::concurrent[concurrency=1]"]
    (test,) = session.tests.values()
    assert "end_to_end" not in test.metrics
    assert "request_latency -> left out: the run was limited by time" in done.words
    assert "benchmarks[1] was skipped: no request completed" in done.words


def test_loads_are_tests_of_their_own(llmperf: Command, tmp_path: Path) -> None:
    def two_rates(data: dict[str, Any]) -> None:
        (benchmark,) = data["benchmarks"]
        second = json.loads(json.dumps(benchmark))
        second["config"]["strategy"] = {"type_": "constant", "rate": 2.5, "max_concurrency": 8}
        second["start_time"] += 60
        data["benchmarks"].append(second)

    file = changed(SYNC.name, tmp_path / "rates.json", two_rates)
    assert llmperf("import", file, "--dir", "base").status == 0
    (session,) = stored()
    assert set(session.tests) == {TEST, "guidellm::constant[concurrency=8,rate=2.5,requests=4]"}
    assert len({test.workload for test in session.tests.values()}) == 2


@pytest.mark.parametrize("metadata", [None, {"version": 1}])
def test_an_older_layout_is_refused_with_its_reason(
    llmperf: Command, tmp_path: Path, metadata: Any
) -> None:
    file = changed(SYNC.name, tmp_path / "old.json", lambda data: {**data, "metadata": metadata})
    done = llmperf("import", file, "--dir", "base")
    assert done.status == 2
    assert "written by GuideLLM before 0.4, which defines token times differently" in done.err
    assert "measure with GuideLLM 0.4 or later" in done.err


def test_nothing_completed_and_a_missing_metric_are_named(llmperf: Command, tmp_path: Path) -> None:
    def nothing(data: dict[str, Any]) -> None:
        data["benchmarks"][0]["metrics"]["request_totals"]["successful"] = 0

    def no_metrics(data: dict[str, Any]) -> None:
        del data["benchmarks"][0]["metrics"]

    done = llmperf("import", changed(SYNC.name, tmp_path / "a.json", nothing), "--dir", "base")
    assert "no request of the run completed" in done.err
    done = llmperf("import", changed(SYNC.name, tmp_path / "b.json", no_metrics), "--dir", "base")
    assert (
        "benchmarks[0].metrics is missing, so this layout of guidellm's file is not supported"
        in done.err
    )
