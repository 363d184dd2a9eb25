"""The session as JSON and as junit properties."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from report_sessions import SOURCE, compared, new_test, row, session, short_answer

from pytest_llmperf.report.json_report import ReportError, session_json, write_json
from pytest_llmperf.report.properties import junit_properties
from pytest_llmperf.session.result import TestResult

if TYPE_CHECKING:
    from pathlib import Path


def test_the_session_is_described() -> None:
    data = session_json(session(short_answer(), busy=("stress",), baseline_sources=(SOURCE,)))
    assert data["schema"] == 1
    assert data["session"] == {
        "machine": "1x-rtx-4090-24gib_cuda",
        "model": "SmolLM2-135M-Instruct Q4_1",
        "engine": "llama_cpp 0.3.36",
        "processes": 3,
        "unit": "process",
        "iterations": 3,
        "seed": 7,
        "wall_s": 58.0,
        "generation_s": 52.2,
        "recording_generation_s": 3.9,
        "busy": ["stress"],
        "notes": [],
        "baselines": [SOURCE],
        "recorded_to": None,
        "against": None,
        "base_commit": None,
        "side_differences": [],
        "false_alarms": 0.01,
        "gpus": [],
        "waited_s": 0.0,
        "fitness": [],
        "measured_at": None,
        "command": None,
        "provenance": None,
        "model_file": None,
        "config": {},
        "machine_facts": {},
        "history": None,
        "fails": ["error", "invalid", "regressed", "missed"],
    }


def test_a_metric_has_its_raw_samples_and_its_verdict() -> None:
    (test,) = session_json(session(short_answer(1.3)))["tests"]
    metric = test["metrics"][2]
    assert metric["name"] == "first_token"
    assert metric["samples"][:2] == [[0.412 * 1.3] * 3, [0.411 * 1.3] * 3]
    assert metric["base_samples"] == []
    assert metric["baseline"]["value"] == pytest.approx(0.415, rel=1e-3)
    assert metric["change"] == pytest.approx(0.412 * 1.3 / 0.415 - 1, abs=1e-3)
    assert metric["verdict"] == "regressed"
    assert [reason["verdict"] for reason in metric["reasons"]] == ["regressed", "missed"]


def test_a_verdict_has_the_numbers_it_rests_on() -> None:
    (test,) = session_json(session(compared(), against="other.yaml"))["tests"]
    proof = test["metrics"][0]["proof"]
    assert list(proof) == [
        "effect",
        "low",
        "high",
        "bound",
        "log_evidence",
        "log_threshold",
        "samples",
        "more",
        "more_seconds",
        "level",
        "row_size",
        "passes_up_to",
        "calls_from",
    ]
    assert proof["low"] < proof["effect"] < proof["high"]
    assert proof["log_evidence"] > proof["log_threshold"]
    assert (proof["samples"], proof["level"], proof["more"]) == (7, 0.95, None)


def test_what_would_decide_is_a_number() -> None:
    undecided = row("end_to_end", 1.03, 1.04, 1.02, base=[1.0, 1.0, 1.0], exhausted=True)
    (test,) = session_json(session(TestResult("t.py::t", (undecided,))))["tests"]
    proof = test["metrics"][0]["proof"]
    assert proof["more"] > 0
    assert proof["more_seconds"] == proof["more"] * 12.0


def test_what_stored_sessions_can_tell_is_a_number() -> None:
    (test,) = session_json(session(short_answer()))["tests"]
    proof = test["metrics"][0]["proof"]
    assert proof["samples"] == 10
    assert 0 < proof["passes_up_to"] < proof["calls_from"]


def test_both_arms_have_their_samples_pair_by_pair() -> None:
    view = session(compared(), against="other.yaml", side_differences=("llm.n_ctx: 1 there",))
    data = session_json(view)
    assert data["session"]["against"] == "other.yaml"
    assert data["session"]["side_differences"] == ["llm.n_ctx: 1 there"]
    (test,) = data["tests"]
    assert test["pairs"] == 7
    metric = test["metrics"][1]
    assert len(metric["samples"]) == len(metric["base_samples"]) == 7
    assert metric["base_samples"][0] == [0.41 * 1.002] * 3
    assert metric["baseline"]["sessions"] == 0


def test_pairs_are_in_order_and_the_interval_tightens() -> None:
    (test,) = session_json(session(compared(1.1), against="other.yaml"))["tests"]
    metric = test["metrics"][1]
    progress = metric["progress"]
    assert progress["against"] == "base"
    assert len(progress["differences"]) == 7
    first, last = progress["looks"][0], progress["looks"][-1]
    assert progress["differences"][0] == pytest.approx(1.1 / 1.002 - 1)
    assert last == pytest.approx([7, *(metric["proof"][k] for k in ("effect", "low", "high"))])
    assert first[0] < last[0]
    assert last[3] - last[2] < first[3] - first[2]


def test_processes_are_compared_with_the_target() -> None:
    (test,) = session_json(session(new_test()))["tests"]
    progress = test["metrics"][0]["progress"]
    assert progress["against"] == "target"
    assert progress["differences"] == pytest.approx([60 / 84.9 - 1, 60 / 84.1 - 1, 60 / 85.6 - 1])
    assert test["metrics"][1]["progress"] is None


def test_stored_sessions_have_their_levels() -> None:
    (test,) = session_json(session(short_answer(sessions=4)))["tests"]
    assert test["metrics"][0]["baseline"]["levels"] == [85.2, 84.6, 85.2, 84.6]


def test_an_interval_without_end_is_null_in_the_file(tmp_path: Path) -> None:
    wild = row("end_to_end", 1e-150, 1.0, 1e150, base=[1.0, 1.0, 1.0])
    write_json(tmp_path / "out.json", session(TestResult("t.py::t", (wild,))))
    (test,) = json.loads((tmp_path / "out.json").read_text())["tests"]
    assert test["metrics"][0]["proof"]["high"] is None


def test_a_metric_that_is_shown_only_has_no_verdict() -> None:
    (test,) = session_json(session(short_answer()))["tests"]
    assert test["metrics"][1]["gated"] is False
    assert test["metrics"][1]["verdict"] is None


def test_every_metric_has_the_same_keys_in_the_same_order() -> None:
    broken = TestResult("t.py::t", (row("end_to_end", error="it died"),))
    data = session_json(session(short_answer(), new_test(), broken))
    keys = [list(metric) for test in data["tests"] for metric in test["metrics"]]
    assert all(names == keys[0] for names in keys)


def test_counts_are_of_checks() -> None:
    data = session_json(session(short_answer(1.3), new_test()))
    assert data["counts"] == {"regressed": 3, "no baseline": 2}


def test_void_samples_do_not_put_nan_into_the_file(tmp_path: Path) -> None:
    void = TestResult("t.py::t", (row("end_to_end", 1.0, float("nan"), 1.0),))
    write_json(tmp_path / "out.json", session(void))
    (test,) = json.loads((tmp_path / "out.json").read_text())["tests"]
    assert test["metrics"][0]["verdict"] == "error"
    assert test["metrics"][0]["samples"] == []


def test_the_file_is_the_session_whatever_its_names(tmp_path: Path) -> None:
    view = session(TestResult("t\udcff.py::試験[\x1b]", (row("end_to_end", 1, 1, 1),)))
    write_json(tmp_path / "deep" / "er" / "out.json", view)
    assert json.loads((tmp_path / "deep/er/out.json").read_text()) == session_json(view)


def test_writing_again_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    (tmp_path / "old.json").hardlink_to(path)
    write_json(path, session(short_answer()))
    assert json.loads(path.read_text())["schema"] == 1
    # The old file was not written to, so a full disk leaves it as it was.
    assert (tmp_path / "old.json").read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {"out.json", "old.json"}


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    # Never use a real device here: if this fails, a root user would lose it.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_json(pipe, session())
        assert json.loads(os.read(reader, 65536))["schema"] == 1
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError) as caught:
        write_json(tmp_path, session())
    assert str(caught.value) == (
        f"can't write the JSON report to {tmp_path}: it is a folder; "
        "give --llmperf-json a file name in a folder that can be written to"
    )


def test_a_file_used_as_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match=r"can't write the JSON report to .*out\.json: "):
        write_json(tmp_path / "file" / "out.json", session())


def test_junit_properties_hold_values_verdicts_and_units() -> None:
    properties = dict(junit_properties(short_answer(1.3)))
    assert properties["llmperf.verdict"] == "regressed"
    assert properties["llmperf.workload"] == "1 request, 38 tokens in, 64 out"
    assert properties["llmperf.first_token"] == "0.5356"
    assert properties["llmperf.first_token.unit"] == "s"
    assert properties["llmperf.first_token.limit"] == "0.5"
    assert properties["llmperf.first_token.verdict"] == "regressed"
    assert properties["llmperf.first_token.explanation"].startswith("29.1% slower [")
    assert properties["llmperf.first_token.also"].startswith("also missed: ")
    assert float(properties["llmperf.first_token.bound"]) > 0.29
    assert "llmperf.prefill_tokens_per_sec.verdict" not in properties
    assert float(properties["llmperf.end_to_end.change"]) == pytest.approx(0.293, abs=1e-3)


def test_a_test_without_numbers_has_only_its_verdict() -> None:
    broken = TestResult("t.py::t", (row("end_to_end", error="it died"),))
    assert junit_properties(broken) == [
        ("llmperf.verdict", "error"),
        ("llmperf.end_to_end.verdict", "error"),
        ("llmperf.end_to_end.explanation", "it died"),
    ]
