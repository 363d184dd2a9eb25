"""The session as JSON and as junit properties."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from report_sessions import SOURCE, new_test, row, session, short_answer

from pytest_llmperf.report.json_report import ReportError, session_json, write_json
from pytest_llmperf.report.model import TestReportView
from pytest_llmperf.report.properties import junit_properties

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
        "iterations": 3,
        "seed": 7,
        "wall_s": 58.0,
        "generation_s": 52.2,
        "recording_generation_s": 3.9,
        "busy": ["stress"],
        "notes": [],
        "baselines": [SOURCE],
        "recorded_to": None,
    }


def test_a_metric_has_its_raw_samples_and_its_verdict() -> None:
    (test,) = session_json(session(short_answer(1.3)))["tests"]
    metric = test["metrics"][2]
    assert metric["name"] == "first_token"
    assert metric["samples"] == [[0.412 * 1.3] * 3, [0.411 * 1.3] * 3, [0.415 * 1.3] * 3]
    assert metric["baseline"]["value"] == 0.415
    assert metric["change"] == pytest.approx(0.412 * 1.3 / 0.415 - 1)
    assert metric["verdict"] == "regressed"
    assert [reason["verdict"] for reason in metric["reasons"]] == ["regressed", "missed"]


def test_a_metric_that_is_shown_only_has_no_verdict() -> None:
    (test,) = session_json(session(short_answer()))["tests"]
    assert test["metrics"][1]["gated"] is False
    assert test["metrics"][1]["verdict"] is None


def test_every_metric_has_the_same_keys_in_the_same_order() -> None:
    broken = TestReportView("t.py::t", (row("end_to_end", error="it died"),))
    data = session_json(session(short_answer(), new_test(), broken))
    keys = [list(metric) for test in data["tests"] for metric in test["metrics"]]
    assert all(other == keys[0] for other in keys)


def test_counts_are_of_checks() -> None:
    data = session_json(session(short_answer(1.3), new_test()))
    assert data["counts"] == {"regressed": 3, "no baseline": 2}


def test_void_samples_do_not_put_nan_into_the_file(tmp_path: Path) -> None:
    void = TestReportView("t.py::t", (row("end_to_end", 1.0, float("nan"), 1.0),))
    write_json(tmp_path / "out.json", session(void))
    (test,) = json.loads((tmp_path / "out.json").read_text())["tests"]
    assert test["metrics"][0]["verdict"] == "error"
    assert test["metrics"][0]["samples"] == []


def test_the_file_is_the_session_whatever_its_names(tmp_path: Path) -> None:
    view = session(TestReportView("t\udcff.py::試験[\x1b]", (row("end_to_end", 1, 1, 1),)))
    write_json(tmp_path / "deep" / "er" / "out.json", view)
    assert json.loads((tmp_path / "deep/er/out.json").read_text()) == session_json(view)


def test_writing_again_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    write_json(path, session(short_answer()))
    assert json.loads(path.read_text())["schema"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]


def test_a_link_keeps_its_place(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_json(tmp_path / "link.json", session())
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["tests"] == []


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    # Never a real device here: where this breaks, a root user would lose it.
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
    assert "llmperf.prefill_tokens_per_sec.verdict" not in properties
    assert float(properties["llmperf.end_to_end.change"]) == pytest.approx(0.29297, abs=1e-4)


def test_a_test_without_numbers_has_only_its_verdict() -> None:
    broken = TestReportView("t.py::t", (row("end_to_end", error="it died"),))
    assert junit_properties(broken) == [
        ("llmperf.verdict", "error"),
        ("llmperf.end_to_end.verdict", "error"),
    ]
