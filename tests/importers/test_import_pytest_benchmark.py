"""pytest-benchmark's JSON: real files, see data/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from import_runs import DATA, Command, changed, stored, value

ONE, TWO = DATA / "pytest-benchmark-1.json", DATA / "pytest-benchmark-2.json"
TEST = "pytest-benchmark::test_call.py::test_answer[1]"


def test_a_call_is_end_to_end_and_rounds_are_repetitions_in_one_run(llmperf: Command) -> None:
    done = llmperf("import", ONE, TWO, "--dir", "base")
    assert done.status == 0, done.err
    (session,) = stored()
    data = json.loads(ONE.read_text())
    assert list(session.tests) == [TEST, TEST.replace("[1]", "[2]")]
    runs = value(session, TEST, "end_to_end")
    assert [len(run) for run in runs] == [5, 5]
    assert runs[0] == [
        pytest.approx(number, rel=1e-8) for number in data["benchmarks"][0]["stats"]["data"]
    ]
    assert session.provenance.commit == data["commit_info"]["id"]
    assert session.machine.strict["cpu"] == data["machine_info"]["cpu"]["brand_raw"]
    assert "it is end to end if the benchmarked function makes its requests" in done.words


def test_without_the_rounds_the_median_is_the_sample(llmperf: Command, tmp_path: Path) -> None:
    assert llmperf("import", DATA / "pytest-benchmark-saved.json", "--dir", "base").status == 0
    data = json.loads((DATA / "pytest-benchmark-saved.json").read_text())
    median = data["benchmarks"][0]["stats"]["median"]
    assert value(stored()[0], TEST, "end_to_end") == [[pytest.approx(median, rel=1e-8)]]

    def many(data: dict[str, Any]) -> None:
        data["benchmarks"][0]["stats"]["data"] = [0.001] * 5000
        data["datetime"] = "2026-01-01T00:00:00+00:00"

    file = changed(ONE.name, tmp_path / "many.json", many)
    assert llmperf("import", file, "--dir", "many").status == 0
    samples = [value(s, TEST, "end_to_end") for s in stored(Path("many")) if TEST in s.tests]
    assert [len(run) for runs in samples for run in runs] == [1]
