"""Which stored sessions count for a test and metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.baselines.record import MetricRecord
from pytest_llmperf.baselines.samples import collect_baseline_samples
from pytest_llmperf.baselines.store import StoredRecord
from pytest_llmperf.baselines.window import WINDOW


@pytest.fixture
def history(make_record: Any) -> Any:
    """Build stored sessions, oldest first, from the changed parts of each session's test."""

    def build(*tests: dict[str, Any]) -> list[StoredRecord]:
        return [
            StoredRecord(Path(f"{index}.json"), make_record(test=test))
            for index, test in enumerate(tests)
        ]

    return build


def nodeid(records: list[StoredRecord]) -> str:
    return next(iter(records[0].record.tests))


def samples_of(
    records: list[StoredRecord], workload: str = "w1", metric: str = "first_token"
) -> Any:
    return collect_baseline_samples(records, nodeid(records), workload, metric)


def numbered(value: float) -> dict[str, Any]:
    return {"metrics": {"first_token": MetricRecord("s", ((value,),))}}


def test_a_sessions_samples_are_returned_by_process(history: Any) -> None:
    samples = samples_of(history({}))
    assert samples.status == "ok"
    assert samples.sessions == (((0.41, 0.42), (0.4, 0.43)),)
    assert samples.paths == (Path("0.json"),)


def test_only_the_newest_sessions_count(history: Any) -> None:
    samples = samples_of(history(*(numbered(1.0 + index) for index in range(WINDOW + 3))))
    assert [session[0][0] for session in samples.sessions] == [4.0 + i for i in range(WINDOW)]
    assert samples.paths[0] == Path("3.json")


def test_invalid_sessions_are_skipped_counted_and_replaced_by_older_ones(history: Any) -> None:
    tests = [numbered(1.0 + index) for index in range(WINDOW + 2)]
    tests[-1]["invalid"] = ("process 4242 (stress) used 1.9 of 2 cores",)
    samples = samples_of(history(*tests))
    assert [session[0][0] for session in samples.sessions] == [2.0 + i for i in range(WINDOW)]
    assert samples.skipped_invalid == 1


def test_a_test_whose_every_session_is_invalid_is_missing_and_says_so(history: Any) -> None:
    samples = samples_of(history({"invalid": ("swapping",)}))
    assert samples.status == "missing"
    assert samples.skipped_invalid == 1
    assert "invalid" in samples.detail


def test_a_test_that_was_never_recorded_is_missing(history: Any) -> None:
    samples = collect_baseline_samples(history({}), "test_new", "w1", "first_token")
    assert samples.status == "missing"
    assert samples.detail == "this test is in none of the baselines"


def test_a_metric_that_was_never_recorded_is_missing(history: Any) -> None:
    samples = samples_of(history({}), metric="inter_token")
    assert samples.status == "missing"
    assert "inter_token" in samples.detail


def test_no_records_at_all_are_missing_without_a_detail() -> None:
    samples = collect_baseline_samples([], "test_new", "w1", "first_token")
    assert (samples.status, samples.detail) == ("missing", "")


def test_another_workload_is_never_compared(history: Any) -> None:
    samples = samples_of(history({}), workload="w2")
    assert samples.status == "workload changed"
    assert samples.sessions == ()
    assert "the baseline measured 1 request, 38 tokens in, 64 out" in samples.detail


def test_sessions_of_the_same_workload_count_past_those_of_another(history: Any) -> None:
    samples = samples_of(history(numbered(1.0), {"workload": "w2", **numbered(2.0)}))
    assert samples.status == "ok"
    assert [session[0][0] for session in samples.sessions] == [1.0]


def test_sessions_before_an_accepted_one_no_longer_judge(history: Any) -> None:
    tests = [
        numbered(1.0),
        {**numbered(2.0), "accepted": "a slower, better sampler"},
        numbered(3.0),
    ]
    assert [session[0][0] for session in samples_of(history(*tests)).sessions] == [2.0, 3.0]


def test_an_invalid_session_accepts_nothing(history: Any) -> None:
    invalid = {**numbered(2.0), "accepted": "why", "invalid": ("throttled",)}
    samples = samples_of(history(numbered(1.0), invalid))
    assert [session[0][0] for session in samples.sessions] == [1.0]
