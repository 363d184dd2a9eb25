"""``llmperf baseline accept`` and ``anchor``: what they write, say and refuse."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from baseline_folders import LONG, SHORT, name_of

from pytest_llmperf.baselines.record import TestRecord
from pytest_llmperf.baselines.samples import collect_baseline_samples
from pytest_llmperf.baselines.store import StoredRecord


def evidence_of(folder: Any, nodeid: str = SHORT) -> Any:
    shelf = folder.shelf()
    return collect_baseline_samples(
        shelf.records, nodeid, "w1", "first_token", decisions=shelf.decisions
    )


def days(records: tuple[StoredRecord, ...]) -> list[int]:
    return [int(stored.path.name[6:8]) for stored in records]


@pytest.fixture
def week(folder: Any) -> Any:
    """Seven sessions, one a day."""
    for day in range(1, 8):
        folder.record(day)
    return folder


def test_accepting_takes_the_newest_session_for_all_its_tests(week: Any, baseline: Any) -> None:
    assert baseline("accept", "--reason", "flash attention off: wrong answers").status == 0
    (stored,) = week.shelf().decisions
    assert stored.decision.kind == "accept"
    assert stored.decision.session == name_of(7)
    assert stored.decision.tests is None
    assert stored.decision.reason == "flash attention off: wrong answers"
    assert days(evidence_of(week).records) == days(evidence_of(week, LONG).records) == [7]


def test_accepting_a_named_session_for_a_named_test_leaves_others_alone(
    week: Any, baseline: Any
) -> None:
    baseline("accept", "--reason", "why", "--session", name_of(5), SHORT)
    assert days(evidence_of(week).records) == [5, 6, 7]
    assert days(evidence_of(week, LONG).records) == [1, 2, 3, 4, 5, 6, 7]


def test_anchoring_makes_the_session_the_anchor_and_nothing_else(week: Any, baseline: Any) -> None:
    baseline("anchor", "--reason", "release 1.0", "--session", name_of(5))
    assert days(evidence_of(week).anchor_records) == [5]
    assert days(evidence_of(week).records) == [1, 2, 3, 4, 5, 6, 7]


def test_it_says_what_it_did_and_what_to_commit(week: Any, baseline: Any) -> None:
    out = baseline("accept", "--reason", "why", "--session", name_of(5), SHORT).out
    words = " ".join(out.split())
    assert f"accepted: the level of {name_of(5)} (2026-11-05T12:00:00Z, commit" in words
    assert SHORT in out
    assert "3 sessions judge; 4 sessions before it no longer do" in out
    (stored,) = week.shelf().decisions
    assert f"  git add {stored.path} && git commit\n" in out


def test_deciding_changes_no_record(week: Any, baseline: Any) -> None:
    before = {path: path.read_bytes() for path in week.store.root.glob("*/*.json")}
    baseline("accept", "--reason", "why")
    baseline("anchor", "--reason", "why")
    assert {path: path.read_bytes() for path in week.store.root.glob("*/*.json")} == before


def test_the_repositorys_commit_is_kept(week: Any, baseline: Any) -> None:
    for words in (
        ["init", "-q"],
        ["-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *words], check=True)
    baseline("accept", "--reason", "why")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True)
    assert week.shelf().decisions[0].decision.commit == commit.stdout.decode().strip()


def test_outside_a_repository_there_is_no_commit(week: Any, baseline: Any) -> None:
    baseline("accept", "--reason", "why")
    assert week.shelf().decisions[0].decision.commit is None


@pytest.mark.parametrize("verb", ["accept", "anchor"])
@pytest.mark.parametrize("words", [[], ["--reason", " "], ["--reason", ""]])
def test_without_a_reason_nothing_is_decided(
    week: Any, baseline: Any, verb: str, words: list[str]
) -> None:
    status, _, err = baseline(verb, *words)
    assert status == 2
    assert "--reason" in err
    assert week.shelf().decisions == ()


def test_a_test_the_session_does_not_hold_is_refused(week: Any, baseline: Any) -> None:
    week.record(8, tests=(LONG,))
    status, _, err = baseline("accept", "--reason", "why", SHORT)
    assert status == 2
    assert f"{name_of(8)} has no test '{SHORT}'" in err
    assert week.shelf().decisions == ()


def test_a_test_that_was_invalid_is_refused_with_the_reason(week: Any, baseline: Any) -> None:
    week.record(8, invalid=("throttled at 40 s",))
    status, _, err = baseline("accept", "--reason", "why", SHORT)
    assert status == 2
    assert f"{name_of(8)} can't be used for these tests" in err
    assert f"'{SHORT}': throttled at 40 s" in err
    assert week.shelf().decisions == ()


def test_a_session_in_which_every_test_was_invalid_is_refused(week: Any, baseline: Any) -> None:
    week.record(8, invalid=("throttled at 40 s",))
    status, _, err = baseline("accept", "--reason", "why")
    assert status == 2
    assert f"'{LONG}': throttled at 40 s" in err


def test_of_all_tests_the_invalid_ones_are_left_out_and_named(week: Any, baseline: Any) -> None:
    path = week.record(8)
    record = week.shelf().records[-1].record
    path.unlink()
    spoilt: TestRecord = record.tests[LONG]
    tests = {SHORT: record.tests[SHORT], LONG: TestRecord(**{**vars(spoilt), "invalid": ("busy",)})}
    week.store.write(type(record)(**{**vars(record), "tests": tests}))
    status, out, _ = baseline("accept", "--reason", "why")
    assert status == 0
    assert "left out, invalid in that session:" in out
    assert days(evidence_of(week).records) == [8]
    assert days(evidence_of(week, LONG).records) == [1, 2, 3, 4, 5, 6, 7]


def test_an_anchor_older_than_the_accepted_level_is_pointed_out(week: Any, baseline: Any) -> None:
    baseline("accept", "--reason", "a better sampler", "--session", name_of(5))
    out = baseline("anchor", "--reason", "why", "--session", name_of(2)).out
    assert "note: it is older than the accepted level (a better sampler)" in out


def test_a_session_whose_name_can_not_be_kept_is_told(week: Any, baseline: Any) -> None:
    odd = week.store.root / "xeon-2c_cpu" / "20261109T120000Z_[odd].json"
    (odd.parent / name_of(7)).rename(odd)
    status, _, err = baseline("accept", "--reason", "why", "--session", odd.name)
    assert status == 1
    assert "the decision cannot be recorded: session: expected the file name" in err
