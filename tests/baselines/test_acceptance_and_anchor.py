"""Which sessions judge after a level was accepted, and which are the anchor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.baselines.decisions import Decision, StoredDecision
from pytest_llmperf.baselines.record import MetricRecord, TestRecord
from pytest_llmperf.baselines.samples import BaselineSamples, collect_baseline_samples
from pytest_llmperf.baselines.store import StoredRecord

TEST = "test_chat.py::test_short"
Find = Callable[..., BaselineSamples]


@pytest.fixture
def sessions(make_record: Any) -> Callable[..., list[StoredRecord]]:
    """Build one session a day at noon: session 1 measured 1 s, session 2 measured 2 s, ..."""

    def build(number: int, **changes: dict[str, Any]) -> list[StoredRecord]:
        stored = []
        for day in range(1, number + 1):
            metrics = {"first_token": MetricRecord("s", ((float(day),),))}
            facts = {"workload": "w1", "summary": "", "metrics": metrics}
            test = TestRecord(**(facts | changes.get(f"s{day}", {})))
            record = make_record(recorded=f"2026-11-{day:02}T12:00:00Z", tests={TEST: test})
            stored.append(StoredRecord(Path(f"{day}.json"), record))
        return stored

    return build


def accept(day: int, session: int, kind: str = "accept", **changes: Any) -> StoredDecision:
    """Return a decision about a session, made in the evening of ``day``."""
    facts: dict[str, Any] = {
        "kind": kind,
        "decided": f"2026-11-{day:02}T20:00:00.000Z",
        "session": f"{session}.json",
        "tests": None,
        "reason": "why",
    }
    decision = Decision(**(facts | changes))
    return StoredDecision(Path("decisions") / f"{day}_{kind}.json", decision)


def anchor(day: int, session: int, **changes: Any) -> StoredDecision:
    return accept(day, session, "anchor", **changes)


def evidence(records: list[StoredRecord], *decisions: StoredDecision, **more: Any) -> Any:
    metric = more.get("metric", "first_token")
    return collect_baseline_samples(records, TEST, "w1", metric, decisions=decisions)


def window(found: BaselineSamples) -> list[int]:
    return [int(session[0][0]) for session in found.sessions]


def anchored(found: BaselineSamples) -> list[int]:
    return [int(session[0][0]) for session in found.anchor]


def test_sessions_before_an_accepted_one_no_longer_judge(sessions: Any) -> None:
    assert window(evidence(sessions(5), accept(5, 3))) == [3, 4, 5]


def test_a_decision_for_other_tests_changes_nothing(sessions: Any) -> None:
    assert window(evidence(sessions(3), accept(3, 3, tests=("other",)))) == [1, 2, 3]


def test_a_decision_for_this_test_among_others_counts(sessions: Any) -> None:
    assert window(evidence(sessions(3), accept(3, 3, tests=("other", TEST)))) == [3]


def test_the_acceptance_decided_last_counts(sessions: Any) -> None:
    assert window(evidence(sessions(5), accept(6, 2), accept(5, 4))) == [2, 3, 4, 5]


def test_an_acceptance_by_decision_replaces_an_earlier_one_in_a_session(sessions: Any) -> None:
    records = sessions(5, s4={"accepted": "why"})
    assert window(evidence(records, accept(5, 2))) == [2, 3, 4, 5]


def test_an_accepting_session_replaces_an_earlier_decision(sessions: Any) -> None:
    records = sessions(5, s4={"accepted": "why"})
    assert window(evidence(records, accept(3, 2))) == [4, 5]


def test_accepting_a_session_in_which_the_test_was_invalid_changes_nothing(sessions: Any) -> None:
    records = sessions(3, s3={"invalid": ("throttled",)})
    assert window(evidence(records, accept(3, 3))) == [1, 2]


def test_accepting_a_session_of_another_workload_changes_nothing(sessions: Any) -> None:
    records = sessions(3, s3={"workload": "w2"})
    assert window(evidence(records, accept(3, 3))) == [1, 2]


def test_a_decision_about_a_session_that_does_not_match_changes_nothing(sessions: Any) -> None:
    assert window(evidence(sessions(4)[:2], accept(4, 4), anchor(4, 4))) == [1, 2]


def test_the_anchor_is_the_oldest_three_sessions(sessions: Any) -> None:
    samples = evidence(sessions(14))
    assert anchored(samples) == [1, 2, 3]
    assert [s.path.name for s in samples.anchor_records] == ["1.json", "2.json", "3.json"]
    assert window(samples) == list(range(5, 15))


def test_fewer_sessions_are_all_anchor(sessions: Any) -> None:
    assert anchored(evidence(sessions(2))) == [1, 2]


def test_an_invalid_session_is_no_anchor(sessions: Any) -> None:
    records = sessions(5, s1={"invalid": ("throttled",)})
    assert anchored(evidence(records)) == [2, 3, 4]


def test_the_accepted_session_is_the_first_of_the_anchor(sessions: Any) -> None:
    assert anchored(evidence(sessions(9), accept(9, 5))) == [5, 6, 7]


def test_a_chosen_session_is_the_anchor_alone(sessions: Any) -> None:
    assert anchored(evidence(sessions(9), anchor(9, 4))) == [4]


def test_the_anchor_decided_last_counts(sessions: Any) -> None:
    assert anchored(evidence(sessions(9), anchor(9, 4), anchor(8, 6))) == [4]


def test_an_anchor_older_than_the_accepted_level_holds_if_it_was_chosen_later(
    sessions: Any,
) -> None:
    samples = evidence(sessions(9), accept(8, 7), anchor(9, 2))
    assert anchored(samples) == [2]
    assert window(samples) == [7, 8, 9]


def test_accepting_a_level_later_moves_the_anchor_to_it(sessions: Any) -> None:
    assert anchored(evidence(sessions(9), anchor(6, 2), accept(8, 7))) == [7, 8, 9]


def test_an_accepting_session_recorded_later_moves_the_anchor_to_it(sessions: Any) -> None:
    records = sessions(9, s7={"accepted": "why"})
    assert anchored(evidence(records, anchor(6, 2))) == [7, 8, 9]


def test_anchoring_a_session_in_which_the_test_was_invalid_changes_nothing(sessions: Any) -> None:
    records = sessions(5, s4={"invalid": ("throttled",)})
    assert anchored(evidence(records, anchor(5, 4))) == [1, 2, 3]


def test_a_metric_the_chosen_anchor_does_not_hold_falls_back_to_the_oldest(sessions: Any) -> None:
    metrics = {name: MetricRecord("s", ((9.0,),)) for name in ("first_token", "inter_token")}
    records = sessions(6, s3={"metrics": metrics}, s5={"metrics": metrics})
    samples = evidence(records, anchor(6, 4), metric="inter_token")
    assert [s.path.name for s in samples.anchor_records] == ["3.json", "5.json"]


def test_a_metric_recorded_only_lately_is_anchored_where_it_began(sessions: Any) -> None:
    metrics = {name: MetricRecord("s", ((9.0,),)) for name in ("first_token", "inter_token")}
    records = sessions(12, **{f"s{day}": {"metrics": metrics} for day in range(8, 13)})
    samples = evidence(records, metric="inter_token")
    assert [s.path.name for s in samples.anchor_records] == ["8.json", "9.json", "10.json"]


def test_without_a_baseline_there_is_no_anchor(sessions: Any) -> None:
    samples = evidence(sessions(3), metric="prefill_tokens_per_sec")
    assert samples.status == "missing"
    assert samples.anchor == ()
