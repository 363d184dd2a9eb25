"""Measured sessions are kept when a search is interrupted, killed, run twice or restarted."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_histories import Oracle, bisection, child, history

from benchmarks.file_damage import damage, damaged, find_fault
from pytest_llmperf.bisect.drive import BisectEvent, CommitJudged, Question, SearchStarted
from pytest_llmperf.bisect.evidence import KEPT_FOR, BisectEvidence, EvidenceError
from pytest_llmperf.bisect.session import BisectSession

LETTERS = "ffffffssssssssss"


class Interrupted(Oracle):
    """An oracle that stops at the given session, as Ctrl-C would."""

    def __init__(self, root: Path, at: int) -> None:
        super().__init__(root)
        self.at = at

    def __call__(self, question: Question) -> BisectSession:
        if len(self.asked) == self.at:
            raise KeyboardInterrupt
        return super().__call__(question)


@pytest.mark.parametrize("at", [1, 2, 4, 5])
def test_an_interrupted_search_goes_on_where_it_was(
    root: Path, evidence: BisectEvidence, at: int
) -> None:
    commits = history(root, LETTERS)
    complete = Oracle(root)
    expected = bisection(root, evidence, complete, commits[0]).run()
    evidence.restart()
    first, second, events = Interrupted(root, at), Oracle(root), list[BisectEvent]()
    with pytest.raises(KeyboardInterrupt):
        bisection(root, evidence, first, commits[0]).run()
    outcome = bisection(root, evidence, second, commits[0], events=events).run()
    assert outcome == expected
    assert first.asked + second.asked == complete.asked
    kept = [event for event in events if isinstance(event, CommitJudged) and event.kept]
    assert len(kept) == at


@pytest.mark.parametrize("letters", [LETTERS, "fs"])
def test_a_finished_search_measures_nothing_again(
    root: Path, evidence: BisectEvidence, letters: str
) -> None:
    commits = history(root, letters)
    expected = bisection(root, evidence, Oracle(root), commits[0]).run()
    again = Oracle(root)
    assert bisection(root, evidence, again, commits[0]).run() == expected
    assert again.asked == []


def test_the_log_is_what_git_bisect_replays(root: Path, evidence: BisectEvidence) -> None:
    commits = history(root, "ff?ss")
    bisection(root, evidence, Oracle(root), commits[0]).run()
    log = (evidence.folder / "bisect.log").read_text()
    assert f"git bisect skip {commits[2]}" in log


KILLED = """
import sys, time
from pathlib import Path
from scripted_histories import Oracle, bisection
from pytest_llmperf.bisect.evidence import BisectEvidence

root, cache, good, asked = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])

class Slow(Oracle):
    def __call__(self, question):
        time.sleep(0.02)
        session = super().__call__(question)
        with asked.open("a") as stream:
            stream.write(f"{question.commit} {question.fresh}\\n")
        return session

with BisectEvidence(cache, ["a search"]) as evidence:
    print("ready", flush=True)
    outcome = bisection(root, evidence, Slow(root), good).run()
print(outcome.kind, outcome.first.hash, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills as POSIX does")
def test_killed_again_and_again_it_ends_with_the_same_answer(
    root: Path, cache: Path, tmp_path: Path
) -> None:
    commits = history(root, LETTERS)
    asked = tmp_path / "asked"
    output = b""
    for delay in (0.05, 0.15, 0.25, 0.3, 0.2, None):
        process = child(KILLED, root, cache, commits[0], asked, cwd=tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if delay is not None:
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    assert output.split() == [b"found", commits[6].encode()]
    # A kill between measuring and storing makes the search measure that session again.
    sessions = asked.read_text().splitlines()
    assert len(sessions) - len(set(sessions)) <= 5
    assert not list(cache.rglob("search.git"))


def test_two_at_once_are_refused(cache: Path, evidence: BisectEvidence) -> None:
    with pytest.raises(EvidenceError, match=f"running already .process {os.getpid()}."):
        BisectEvidence(cache, ["a search"]).__enter__()


def test_another_search_is_not_refused(cache: Path, evidence: BisectEvidence) -> None:
    with BisectEvidence(cache, ["another search"]) as other:
        assert other.folder != evidence.folder


def test_it_is_free_after_use(cache: Path) -> None:
    with BisectEvidence(cache, ["a search"]) as first:
        folder = first.folder
    with BisectEvidence(cache, ["a search"]) as second:
        assert second.folder == folder


def test_skipped_commits_are_measured_again_only_when_asked(
    root: Path, evidence: BisectEvidence
) -> None:
    commits = history(root, "ff??sss")
    bisection(root, evidence, Oracle(root), commits[0]).run()
    again = Oracle(root)
    assert bisection(root, evidence, again, commits[0]).run().kind == "range"
    assert again.asked == []
    bisection(root, evidence, again, commits[0], retry=True).run()
    assert sorted(again.asked) == sorted(commits[2:4])


class Undecided(Oracle):
    """An oracle that can't tell the answer from its parent, or can't measure it."""

    def __init__(self, root: Path, verdict: str) -> None:
        super().__init__(root)
        self.verdict = verdict

    def __call__(self, question: Question) -> BisectSession:
        session = super().__call__(question)
        if not question.fresh:
            return session
        findings = tuple(replace(finding, verdict=self.verdict) for finding in session.findings)
        return replace(session, findings=findings)


@pytest.mark.parametrize(("verdict", "again"), [("inconclusive", 0), ("invalid", 1), ("error", 1)])
def test_a_verification_that_was_looked_at_gets_no_second_chance(
    root: Path, evidence: BisectEvidence, verdict: str, again: int
) -> None:
    commits = history(root, "ffss")
    bisection(root, evidence, Undecided(root, verdict), commits[0]).run()
    oracle = Oracle(root)
    outcome = bisection(root, evidence, oracle, commits[0], retry=True).run()
    assert len(oracle.asked) == again
    assert outcome.kind == ("found" if again else "unconfirmed")


@pytest.mark.parametrize("letters", ["ff?sss", "f?"])
def test_where_every_session_stands_alone_none_gets_a_second_chance(
    root: Path, evidence: BisectEvidence, letters: str
) -> None:
    commits = history(root, letters)
    expected = bisection(root, evidence, Oracle(root), commits[0], isolated=True).run()
    again = Oracle(root)
    assert bisection(root, evidence, again, commits[0], isolated=True, retry=True).run() == expected
    assert again.asked == []


def test_where_every_session_stands_alone_what_was_not_measured_is_tried_again(
    root: Path, evidence: BisectEvidence
) -> None:
    commits = history(root, "ff!sss")
    bisection(root, evidence, Oracle(root), commits[0], isolated=True).run()
    again = Oracle(root)
    bisection(root, evidence, again, commits[0], isolated=True, retry=True).run()
    assert again.asked == [commits[2]]


def test_a_file_that_is_not_whole_is_measured_again(root: Path, evidence: BisectEvidence) -> None:
    commits = history(root, LETTERS)
    bisection(root, evidence, Oracle(root), commits[0]).run()
    files = sorted(evidence.folder.glob("*.session.json"))
    files[0].write_text(files[0].read_text()[:40])
    files[1].write_text('{"findings": [], "unknown": 1}')
    again = Oracle(root)
    assert bisection(root, evidence, again, commits[0]).run().kind == "found"
    assert len(again.asked) == 2


def test_whatever_a_value_becomes_the_file_is_used_or_named_once(
    root: Path, evidence: BisectEvidence
) -> None:
    commits = history(root, "ffss")
    expected = bisection(root, evidence, Oracle(root), commits[0]).run()
    file, *_ = sorted(evidence.folder.glob("*.session.json"))
    whole = file.read_text()
    for variant in damaged(whole):
        file.write_text(variant.text)
        problems = evidence.problems()
        assert len(problems) + len(evidence.sessions()) == len(expected.path) + 2
        for problem in problems:
            assert find_fault("", problem, file.name, refused=True) == "", variant.place
    file.write_text(damage(whole, [("findings", 0, "effect")], "text"))
    events: list[BisectEvent] = []
    assert bisection(root, evidence, Oracle(root), commits[0], events=events).run() == expected
    (begun,) = (event for event in events if isinstance(event, SearchStarted))
    (problem,) = begun.problems
    assert "findings[0].effect: expected a number, got 'x'" in problem
    assert evidence.problems() == []


def test_another_machine_is_refused(root: Path, evidence: BisectEvidence) -> None:
    commits = history(root, LETTERS)
    with pytest.raises(KeyboardInterrupt):
        bisection(root, evidence, Interrupted(root, 2), commits[0]).run()
    other = Oracle(root, machine="m2")
    with pytest.raises(EvidenceError, match=r"started on m1, but this machine is m2; .* --restart"):
        bisection(root, evidence, other, commits[0], host="m1").run()
    assert len(other.asked) == 1


def test_another_machine_is_refused_before_anything_is_measured(
    root: Path, evidence: BisectEvidence
) -> None:
    commits = history(root, LETTERS)
    with pytest.raises(KeyboardInterrupt):
        bisection(root, evidence, Interrupted(root, 2), commits[0]).run()
    other = Oracle(root, machine="m2")
    with pytest.raises(EvidenceError, match=r"started on m1, but this machine is m2; .* --restart"):
        bisection(root, evidence, other, commits[0]).run()
    assert other.asked == []


def test_an_end_that_was_not_slower_is_measured_anew(root: Path, evidence: BisectEvidence) -> None:
    commits = history(root, "f?")
    bisection(root, evidence, Oracle(root), commits[0]).run()
    again = Oracle(root)
    bisection(root, evidence, again, commits[0]).run()
    assert len(again.asked) == 1


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EvidenceError, match=r"can't be stored in .*file.*LLMPERF_CACHE_DIR"):
        BisectEvidence(tmp_path / "file", ["a search"]).__enter__()


def test_begun_anew_it_knows_nothing_but_that(root: Path, evidence: BisectEvidence) -> None:
    commits = history(root, "fs")
    bisection(root, evidence, Oracle(root), commits[0]).run()
    assert not evidence.restarted
    for _ in range(2):
        evidence.restart()
        assert evidence.restarted
        assert len(list(evidence.folder.iterdir())) == 1


def test_what_nobody_went_on_with_for_months_is_forgotten(cache: Path) -> None:
    for name in ("old", "new", "held"):
        with BisectEvidence(cache, [name]) as stored:
            stored.keep_log("a log")
            os.utime(stored.folder, (time.time(), time.time() - KEPT_FOR * (name != "new") - 60))
    with BisectEvidence(cache, ["held"]) as held:
        folder = held.folder
        os.utime(folder, (1, 1))
        with BisectEvidence(cache, ["another"]):
            pass
        assert folder.exists()
    assert not BisectEvidence(cache, ["old"]).folder.exists()
    assert BisectEvidence(cache, ["new"]).folder.exists()
