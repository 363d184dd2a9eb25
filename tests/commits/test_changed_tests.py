"""Tests that differ between the commits: added, removed, with other work, or broken in one."""

from __future__ import annotations

import pytest
from commit_projects import CommitProject, Session

THERE = """
import pytest

@pytest.mark.end_to_end
def test_same(llm_engine):
    llm_engine.generate("hello", max_tokens=6)

@pytest.mark.end_to_end
def test_gone(llm_engine):
    llm_engine.generate("hello", max_tokens=6)

@pytest.mark.end_to_end
def test_other_work(llm_engine):
    llm_engine.generate("hello", max_tokens=3)

@pytest.mark.end_to_end
def test_failing_there(llm_engine):
    assert llm_engine.generate("hello", max_tokens=6).text == "what it never says"

@pytest.mark.end_to_end
@pytest.mark.skip(reason="too slow for now")
def test_skipped_there(llm_engine):
    llm_engine.generate("hello", max_tokens=6)

def test_without_an_engine():
    pass
"""
HERE = """
import pytest

@pytest.mark.end_to_end
def test_same(llm_engine):
    llm_engine.generate("hello", max_tokens=6)

@pytest.mark.end_to_end
def test_added(llm_engine):
    llm_engine.generate("hello", max_tokens=6)

@pytest.mark.end_to_end(max="1us")
def test_added_with_a_target(llm_engine):
    llm_engine.generate("hello", max_tokens=6)

@pytest.mark.end_to_end
def test_other_work(llm_engine):
    llm_engine.generate("hello", max_tokens=6)

@pytest.mark.end_to_end
def test_failing_there(llm_engine):
    assert llm_engine.generate("hello", max_tokens=6).text

@pytest.mark.end_to_end
def test_skipped_there(llm_engine):
    llm_engine.generate("hello", max_tokens=6)
"""
BROKEN = """
import pytest
import nowhere_to_be_found

@pytest.mark.end_to_end
def test_of_a_broken_file(llm_engine):
    llm_engine.generate("hello", max_tokens=6)
"""
OTHER = """
import pytest

@pytest.mark.end_to_end
def test_other(llm_engine):
    llm_engine.generate("hello", max_tokens=6)
"""


@pytest.fixture(scope="module")
def session(shared: CommitProject) -> Session:
    """A session of tests of which only test_same is the same in HEAD~1."""
    before = {"test_it.py": THERE, "test_broken.py": BROKEN, "test_ignored.py": OTHER}
    shared.commit("tests as they were", {**before, "test_deselected.py": OTHER})
    mended = BROKEN.replace("import nowhere_to_be_found", "")
    shared.commit("tests as they are", {"test_it.py": HERE, "test_broken.py": mended})
    left_out = ("--ignore=test_ignored.py", "--deselect=test_deselected.py::test_other")
    return shared.against("HEAD~1", "--llmperf-set=perf.max_pairs=3", *left_out)


def test_only_what_is_the_same_is_compared(session: Session) -> None:
    verdicts = session.verdicts
    assert verdicts.pop("test_same") in ("pass", "inconclusive", "improved")
    assert verdicts == {
        "test_of_a_broken_file": "error",
        "test_added": "no baseline",
        "test_added_with_a_target": "missed",
        "test_other_work": "workload changed",
        "test_failing_there": "no baseline",
        "test_skipped_there": "no baseline",
    }


def test_no_change_is_said_of_what_is_not_the_same(session: Session) -> None:
    metrics = {name: test["metrics"] for name, test in session.tests.items()}
    compared = [name for name, rows in metrics.items() if any(m["base_samples"] for m in rows)]
    changed = [name for name, rows in metrics.items() if any(m["change"] is not None for m in rows)]
    assert compared == changed == ["test_same"]


@pytest.mark.parametrize("name", ["test_added", "test_added_with_a_target"])
def test_an_added_test_is_measured_all_the_same(session: Session, name: str) -> None:
    (metric,) = [m for m in session.tests[name]["metrics"] if m["gated"]]
    assert len(metric["samples"]) == session.tests[name]["processes"] > 0
    assert metric["base_samples"] == []


def test_an_added_test_is_called_that(session: Session) -> None:
    assert "added: HEAD~1 (" in session.explanation("test_added")


def test_removed_tests_are_listed(session: Session, shared: CommitProject) -> None:
    """Tests that this session only left out are not listed: its tree has them."""
    base = shared.git("rev-parse", "HEAD~1")[:12]
    assert f"removed since HEAD~1 ({base}): test_it.py::test_gone" in session.facts["notes"]


def test_other_work_is_shown_beside_and_not_judged(session: Session) -> None:
    (metric,) = [m for m in session.tests["test_other_work"]["metrics"] if m["gated"]]
    assert metric["value"] > metric["baseline"]["value"] > 0
    assert metric["change"] is None
    text = session.explanation("test_other_work")
    assert "1 request, 3 out: a different workload" in text
    assert "so not compared: the request has 6 output tokens, 3 in HEAD~1 (" in text


def test_a_body_that_fails_there_is_the_reason_and_no_regression(session: Session) -> None:
    text = session.explanation("test_failing_there")
    assert "its call failed there" in text
    assert "what it never says" in text


def test_a_test_that_is_skipped_there_says_why(session: Session) -> None:
    assert "it is skipped there: too slow for now" in session.explanation("test_skipped_there")


def test_a_file_that_cannot_be_collected_there_is_an_error_with_its_log(session: Session) -> None:
    text = session.explanation("test_of_a_broken_file")
    assert "could not be collected there" in text
    assert "No module named 'nowhere_to_be_found'" in text


def test_the_session_fails_for_what_is_missed_or_broken_alone(session: Session) -> None:
    assert session.ret == pytest.ExitCode.TESTS_FAILED
    assert "2 failed, 5 passed" in session.all_output
