"""vLLM's ``bench serve`` and SGLang's ``bench_serving``: files of their layout, see data/README.md.

The expected numbers are computed from the requests in the file, not from its summaries.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from import_runs import DATA, Command, changed, stored, value

SINGLE = DATA / "vllm-single-1.json"
VLLM = "vllm::serve[concurrency=1,requests=8]"


def test_decode_is_pooled_over_the_requests_of_a_run(llmperf: Command) -> None:
    assert llmperf("import", SINGLE, "--dir", "base").status == 0
    (session,) = stored()
    data = json.loads(SINGLE.read_text())
    gaps = [gap for request in data["itls"] for gap in request]
    steps = sum(data["output_lens"]) - len(data["output_lens"])
    expected = {
        "tokens_per_sec": steps / sum(gaps),
        "time_per_output_token": sum(gaps) / steps,
        "first_token": median(data["ttfts"]),
        "inter_token": median(gaps),
        "end_to_end": sum(data["ttfts"]) + sum(gaps),
        "first_token_p99": data["p99_ttft_ms"] / 1000,
    }
    for metric, wanted in expected.items():
        assert value(session, VLLM, metric) == [[pytest.approx(wanted, rel=1e-6)]], metric
    assert set(session.tests[VLLM].metrics) == set(expected)


@pytest.mark.parametrize("dropped", ["mean_e2el_ms", "mean_e2el_ms latencies"])
def test_latencies_come_from_the_requests_where_the_mean_is_missing(
    llmperf: Command, tmp_path: Path, dropped: str
) -> None:
    def without(data: dict[str, Any]) -> None:
        pairs = zip(data["ttfts"], data["itls"], strict=True)
        data["latencies"] = [first + sum(gaps) for first, gaps in pairs]
        for name in dropped.split():
            del data[name]

    llmperf("import", SINGLE, "--dir", "whole")
    file = changed(SINGLE.name, tmp_path / "without.json", without)
    assert llmperf("import", file, "--dir", "base").status == 0
    for metric in ("tokens_per_sec", "end_to_end"):
        (whole,), (part,) = stored(Path("whole")), stored()
        expected = value(whole, VLLM, metric)[0][0]
        assert value(part, VLLM, metric) == [[pytest.approx(expected, rel=1e-6)]]


def test_means_of_ratios_and_throughputs_are_refused_by_name(llmperf: Command) -> None:
    done = llmperf("import", DATA / "vllm-concurrency8.json", "--dir", "base")
    (session,) = stored()
    assert set(session.tests["vllm::serve[concurrency=8,requests=16]"].metrics) == {
        "first_token",
        "first_token_p99",
    }
    assert "mean_tpot_ms, median_tpot_ms, std_tpot_ms, p99_tpot_ms -> left out: each" in done.words
    assert "output_throughput, total_token_throughput" in done.words
    assert (
        "mean_e2el_ms -> left out: not in the file; it is with --percentile-metrics" in done.words
    )
    assert "median_itl_ms -> left out: gaps between chunks" in done.words


def test_gaps_between_chunks_of_several_tokens_are_not_taken(
    llmperf: Command, tmp_path: Path
) -> None:
    def merge(data: dict[str, Any]) -> None:
        first, second, *rest = data["itls"][0]
        data["itls"][0] = [first + second, *rest]

    file = changed(SINGLE.name, tmp_path / "chunks.json", merge)
    done = llmperf("import", file, "--dir", "base")
    assert "inter_token" not in stored()[0].tests[VLLM].metrics
    assert "itls, median_itl_ms -> left out: chunks held several tokens" in done.words


def test_requests_at_once_are_another_test_and_other_work(llmperf: Command) -> None:
    done = llmperf("import", SINGLE, DATA / "vllm-concurrency8.json", "--dir", "base")
    names = {name: test for session in stored() for name, test in session.tests.items()}
    assert set(names) == {VLLM, "vllm::serve[concurrency=8,requests=16]"}
    assert len({test.workload for test in names.values()}) == 2
    assert "up to 8 requests at once" in done.words
    assert "one request at a time" in done.words


def test_other_concurrency_under_the_same_name_is_other_work(
    llmperf: Command, tmp_path: Path
) -> None:
    def rename(data: dict[str, Any]) -> None:
        data["burstiness"] = 0.5

    file = changed(SINGLE.name, tmp_path / "bursts.json", rename)
    assert llmperf("import", SINGLE, file, "--dir", "base", "--machine", "box").status == 0
    first, second = stored()
    assert first.tests[VLLM].workload != second.tests[VLLM].workload
    files = sorted(Path("base").rglob("*.json"))
    done = llmperf("compare", *files)
    assert done.status == 2
    assert "no check could be compared: workload changed" in done.err


def test_failed_requests_make_a_run_invalid(llmperf: Command, tmp_path: Path) -> None:
    def fail(data: dict[str, Any]) -> None:
        data["completed"], data["failed"] = 6, 2

    file = changed("vllm-concurrency8.json", tmp_path / "failed.json", fail)
    done = llmperf("import", file, "--dir", "base")
    (test,) = stored()[0].tests.values()
    assert test.invalid == ("10 of 16 requests failed",)
    assert "can't be used as a baseline: 10 of 16 requests failed" in done.words


def test_lines_of_one_file_are_runs_of_their_own(llmperf: Command) -> None:
    done = llmperf("import", DATA / "sglang.jsonl", "--dir", "base")
    assert done.status == 0, done.err
    sessions = {next(iter(record.tests)): record for record in stored()}
    single = sessions["sglang::random[concurrency=1,requests=16]"]
    assert single.session.processes == 2
    assert len(sessions) == 2
    lines = [json.loads(line) for line in (DATA / "sglang.jsonl").read_text().splitlines()]
    for run, line in zip(
        value(single, next(iter(single.tests)), "tokens_per_sec"), lines, strict=False
    ):
        # All requests have equally many tokens, so the mean of ratios is the pooled ratio.
        assert run == [pytest.approx(1000 / line["mean_tpot_ms"], rel=1e-6)]
    assert single.model.name == "Llama-3.1-8B-Instruct", "no path of another machine"
    assert single.provenance.engine_version == "0.5.6"
    assert single.config["attention_backend"] == "fa3"
    assert "mean_itl_ms, median_itl_ms" in done.words
    assert "the file has no date" in done.words


def test_a_grown_file_adds_its_new_lines_only(llmperf: Command, tmp_path: Path) -> None:
    lines = (DATA / "sglang.jsonl").read_text().splitlines(keepends=True)
    file = tmp_path / "grows.jsonl"
    file.write_text(lines[0])
    date = ("--recorded", "2026-03-01T12:00:00Z", "--machine", "box")
    assert llmperf("import", file, "--dir", "base", *date).status == 0
    file.write_text("".join(lines[:2]))
    done = llmperf("import", file, "--dir", "base", *date)
    assert "1 of 2 imported before, in base/imported-sglang_box/" in done.words
    first, second = stored()
    assert first.recorded == second.recorded == "2026-03-01T12:00:00Z"
    assert first.tests != second.tests
    assert [record.session.processes for record in (first, second)] == [1, 1]
