"""Recorded traces: validated, resampled in blocks, written with one process per line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gate_checks import Settings
from gate_regimes import BLOCK
from gate_tables import Report
from gate_trace import MIN_PROCESSES, TraceError, read_trace, resampled, run
from make_trace import text_of, trace_of


def trace(tmp_path: Path, metrics: object) -> Path:
    file = tmp_path / "trace.json"
    file.write_text(json.dumps({"machine": "here", "metrics": metrics}), encoding="utf-8")
    return file


def rows(rng: np.random.Generator, processes: int, centre: float = 80.0) -> list[list[float]]:
    return (centre * np.exp(rng.normal(0.0, 0.01, (processes, 4)))).tolist()


def test_more_is_worse_whatever_the_metric(tmp_path: Path, rng: np.random.Generator) -> None:
    rate, seconds = rows(rng, 30), rows(rng, 30, 1.1)
    _, logs = read_trace(trace(tmp_path, {"tokens_per_sec": rate, "end_to_end": seconds}))
    assert np.allclose(logs["tokens_per_sec"], -np.log(rate))
    assert np.allclose(logs["end_to_end"], np.log(seconds))


def test_a_missing_trace_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"no such file.*make_trace\.py"):
        read_trace(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["", "[1]", '{"metrics": 3}', '{"metrics": {"x": [["a"]]}}'])
def test_a_file_that_is_no_trace_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(TraceError, match=r"odd\.json"):
        read_trace(file)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_value_that_has_no_logarithm_is_refused(
    tmp_path: Path, rng: np.random.Generator, value: float
) -> None:
    samples = rows(rng, 30)
    samples[4][1] = value
    with pytest.raises(TraceError, match="numbers above 0"):
        read_trace(trace(tmp_path, {"end_to_end": samples}))


def test_too_few_processes_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    file = trace(tmp_path, {"end_to_end": rows(rng, MIN_PROCESSES - 1)})
    with pytest.raises(TraceError, match=f"at least {MIN_PROCESSES}"):
        read_trace(file)


def test_blocks_are_processes_in_a_row(rng: np.random.Generator) -> None:
    picked = resampled(rng, 30, 200).reshape(-1, BLOCK)
    assert (np.diff(picked, axis=1) == 1).all()
    assert picked.min() == 0
    assert picked.max() == 29


def test_a_planted_slowdown_of_a_trace_is_called(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(exact=False)
    run(report, Settings(60, 1), trace(tmp_path, {"tokens_per_sec": rows(rng, 40)}))
    assert report.close()
    table = next(t for t in report.tables if "one check of 1:" in t["title"])
    called = {row[1]: row[2] for row in table["rows"]}
    assert called["0.0%"].startswith("0 [")
    assert called["10.0%"].startswith("100 [")
    assert capsys.readouterr().out


def test_a_written_trace_is_json_with_one_process_a_line(rng: np.random.Generator) -> None:
    document = {"machine": "here", "threads": 2, "metrics": {"end_to_end": [[1.0, 2.0], [3.0]]}}
    text = text_of(document)
    assert json.loads(text) == document
    assert "[1.0, 2.0],\n" in text


def test_a_calibration_becomes_a_trace_pair_by_pair() -> None:
    check = {"nodeid": "t.py::t", "metric": "end_to_end", "candidate": [[1.0]], "base": [[2.0]]}
    calibration = {
        "plant": "",
        "machine": "here",
        "model_name": "m",
        "engine_version": "1",
        "runs": [{"checks": [check]}, {"checks": [check]}],
    }
    assert trace_of(calibration)["metrics"] == {"end_to_end": [[1.0], [2.0], [1.0], [2.0]]}
    with pytest.raises(ValueError, match="planted"):
        trace_of({**calibration, "plant": "a decode slower by 5%"})
