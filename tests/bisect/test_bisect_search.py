"""Which commit a search names, after how many sessions, and its message if it names none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from scripted_histories import Oracle, add, bisection, git, history

from pytest_llmperf.bisect.drive import BisectEvent, Question, SearchStarted
from pytest_llmperf.bisect.evidence import BisectEvidence
from pytest_llmperf.bisect.history import RangeError
from pytest_llmperf.bisect.session import BisectSession
from pytest_llmperf.report.bisect import BisectText


@pytest.mark.parametrize("first", [1, 2, 9, 16, 31, 32])
def test_the_first_slow_commit_of_32_is_found(
    root: Path, evidence: BisectEvidence, first: int
) -> None:
    commits = history(root, "f" * first + "s" * (33 - first))
    oracle, events = Oracle(root), list[BisectEvent]()
    outcome = bisection(root, evidence, oracle, commits[0], events=events).run()
    assert outcome.kind == "found"
    assert outcome.first is not None
    assert outcome.first.hash == commits[first]
    assert outcome.first.subject == "state s"
    begun = events[0]
    assert isinstance(begun, SearchStarted)
    assert begun.estimate.sessions == 7
    assert len(oracle.asked) <= 7


@pytest.mark.parametrize("count", [1, 2, 3, 5, 13])
def test_never_more_sessions_than_estimated(
    root: Path, evidence: BisectEvidence, count: int
) -> None:
    commits = history(root, "f" + "s" * count)
    oracle, events = Oracle(root), list[BisectEvent]()
    outcome = bisection(root, evidence, oracle, commits[0], events=events).run()
    assert outcome.first is not None
    assert outcome.first.hash == commits[1]
    assert isinstance(events[0], SearchStarted)
    assert len(oracle.asked) <= events[0].estimate.sessions


def test_the_bad_end_is_measured_first_and_the_answer_against_its_parent_last(
    root: Path, evidence: BisectEvidence
) -> None:
    commits = history(root, "fffsss")
    oracle = Oracle(root)
    outcome = bisection(root, evidence, oracle, commits[0]).run()
    first, last = oracle.questions[0], oracle.questions[-1]
    assert (first.commit, first.against, first.tests) == (commits[5], commits[0], None)
    assert (last.commit, last.against, last.fresh) == (commits[3], commits[2], True)
    assert all(question.against == commits[0] for question in oracle.questions[:-1])
    assert outcome.verification is not None
    assert [effect.effect for effect in outcome.effects()] == [0.1]


@pytest.mark.parametrize("first", [1, 2, 5, 6, 7, 11])
def test_a_commit_that_only_records_a_session_is_not_measured_again(
    root: Path, evidence: BisectEvidence, first: int
) -> None:
    # A commit with the same files as its parent has the parent's answer.
    same = {3, 4, 8, 9, 10}
    commits = history(root, "f" * first + "s" * (12 - first), same)
    oracle, events = Oracle(root), list[BisectEvent]()
    bisect = bisection(root, evidence, oracle, commits[0], events=events)
    outcome = bisect.run()
    assert outcome.kind == "found"
    assert outcome.first is not None
    assert outcome.first.hash == commits[first]
    searched = [commits.index(question.commit) for question in oracle.questions[:-1]]
    code = [max(n for n in range(position + 1) if n not in same) for position in searched]
    assert len(code) == len(set(code))
    alike = [judged.session for judged in outcome.path if judged.session.same_as]
    assert outcome.calls("good") + outcome.calls("bad") == len(oracle.questions) - 1
    text = BisectText(bisect.good, bisect.bad, evidence.folder)
    lines = [line for event in events for line in text.event_lines(event, 80)]
    out = " ".join(" ".join(lines).split())
    assert out.count("not measured: ") == len(alike)


def test_what_has_the_files_of_the_good_end_is_good_unmeasured(
    root: Path, evidence: BisectEvidence
) -> None:
    commits = history(root, "ffs", {1})
    oracle = Oracle(root)
    outcome = bisection(root, evidence, oracle, commits[0]).run()
    assert outcome.first is not None
    assert outcome.first.hash == commits[2]
    assert commits[1] not in oracle.asked
    assert outcome.search_error == pytest.approx(0.01)


def test_ends_with_the_same_files_are_told_so(root: Path, evidence: BisectEvidence) -> None:
    commits = history(root, "fff", {1, 2})
    oracle = Oracle(root)
    with pytest.raises(RangeError, match="at most recorded baselines differ"):
        bisection(root, evidence, oracle, commits[0]).run()
    assert oracle.asked == []


def test_only_the_tests_that_regressed_at_the_end_are_measured_again(
    root: Path, evidence: BisectEvidence
) -> None:
    commits = history(root, "ffss")
    oracle = Oracle(root)
    bisection(root, evidence, oracle, commits[0]).run()
    assert {question.tests for question in oracle.questions[1:]} == {("test_it.py::test_x",)}


@pytest.mark.parametrize(
    ("letters", "first", "checks"),
    [
        # Prefill was slow for a while, but not at the end; the search is for decode.
        pytest.param("FFpppsss", 5, 1, id="fine at the end"),
        pytest.param("FFppbb", 2, 2, id="any metric that counts"),
        pytest.param("ff?ff!fss!?ss", 7, 1, id="skipped elsewhere"),
        pytest.param("F++bb", 3, 2, id="improved is good"),
    ],
)
def test_the_first_commit_slower_in_what_is_slow_at_the_end_is_found(
    root: Path, evidence: BisectEvidence, letters: str, first: int, checks: int
) -> None:
    commits = history(root, letters)
    outcome = bisection(root, evidence, Oracle(root), commits[0]).run()
    assert outcome.kind == "found"
    assert outcome.first is not None
    assert outcome.first.hash == commits[first]
    assert len(outcome.checks) == checks


@pytest.mark.parametrize("letter", ["u", "m", "?", "!"])
def test_what_is_not_decided_for_all_that_counts_is_skipped(
    root: Path, evidence: BisectEvidence, letter: str
) -> None:
    commits = history(root, f"F{letter}b")
    outcome = bisection(root, evidence, Oracle(root), commits[0]).run()
    assert outcome.kind == "range"
    assert outcome.first is None
    assert [commit.hash for commit in outcome.candidates] == [commits[2], commits[1]]
    assert [commit.hash for commit in outcome.skipped] == [commits[1]]
    assert outcome.path[0].judgement.reason


def test_where_only_skipped_commits_are_left_they_and_the_bad_one_are_named(
    root: Path, evidence: BisectEvidence
) -> None:
    commits = history(root, "ff??sss")
    outcome = bisection(root, evidence, Oracle(root), commits[0]).run()
    assert outcome.kind == "range"
    assert {commit.hash for commit in outcome.candidates} == set(commits[2:5])
    assert {commit.hash for commit in outcome.skipped} == set(commits[2:4])
    assert outcome.verification is None


def test_a_fast_end_is_nothing_to_look_for(root: Path, evidence: BisectEvidence) -> None:
    commits = history(root, "fsf")
    oracle = Oracle(root)
    outcome = bisection(root, evidence, oracle, commits[0]).run()
    assert outcome.kind == "not slower"
    assert len(oracle.asked) == 1
    assert outcome.end.findings


def test_an_end_that_cannot_be_measured_says_so(root: Path, evidence: BisectEvidence) -> None:
    commits = history(root, "fs!")
    outcome = bisection(root, evidence, Oracle(root), commits[0]).run()
    assert outcome.kind == "unmeasured"
    assert outcome.end.problem == "it does not build"


class Unsure(Oracle):
    """An oracle that can't decide between a commit and its own parent."""

    def __call__(self, question: Question) -> BisectSession:
        session = super().__call__(question)
        if not question.fresh:
            return session
        undecided = [replace(finding, verdict="inconclusive") for finding in session.findings]
        return replace(session, findings=tuple(undecided))


def test_an_answer_that_its_parent_alone_does_not_confirm_is_told_apart(
    root: Path, evidence: BisectEvidence
) -> None:
    commits = history(root, "ffss")
    outcome = bisection(root, evidence, Unsure(root), commits[0]).run()
    assert outcome.kind == "unconfirmed"
    assert outcome.first is not None
    assert outcome.first.hash == commits[2]
    assert outcome.own_error is None


def merged(root: Path) -> dict[str, str]:
    """Merge a side branch that became slow, and add a commit; return the hashes by name."""
    names = {"base": history(root, "f")[0]}
    git(root, "switch", "--quiet", "-c", "side")
    names["fast side"] = add(root, "f")
    names["slow side"] = add(root, "s")
    git(root, "switch", "--quiet", "main")
    (root / "other").write_text("beside")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "on main")
    names["main"] = git(root, "rev-parse", "HEAD")
    git(root, "merge", "--quiet", "--no-ff", "-m", "the merge", "side")
    names["merge"] = git(root, "rev-parse", "HEAD")
    names["end"] = add(root, "s")
    return names


def test_a_slow_commit_on_a_merged_branch_is_found(root: Path, evidence: BisectEvidence) -> None:
    names = merged(root)
    outcome = bisection(root, evidence, Oracle(root), names["base"]).run()
    assert outcome.first is not None
    assert outcome.first.hash == names["slow side"]


def test_by_first_parents_the_merge_is_named(root: Path, evidence: BisectEvidence) -> None:
    names = merged(root)
    oracle = Oracle(root)
    outcome = bisection(root, evidence, oracle, names["base"], first_parent=True).run()
    assert outcome.first is not None
    assert outcome.first.hash == names["merge"]
    assert outcome.first.parents == (names["main"], names["slow side"])
    assert outcome.verification is not None
    assert outcome.verification.against == names["main"]


def optimised(root: Path) -> dict[str, str]:
    """Merge a side branch without the good commit's speedup, then slow down; return the hashes."""
    history(root, "s")
    git(root, "branch", "side")
    names = {"good": add(root, "f", "made fast")}
    git(root, "switch", "--quiet", "side")
    for number in range(3):
        (root / "other").write_text(f"{number}")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "-m", f"side {number}")
        names.setdefault("side", git(root, "rev-parse", "HEAD"))
    git(root, "switch", "--quiet", "main")
    git(root, "merge", "--quiet", "--no-ff", "-m", "the merge", "side")
    names["slow"] = add(root, "s", "slower")
    return names


def test_a_commit_that_does_not_descend_from_the_good_one_is_told_apart(
    root: Path, evidence: BisectEvidence
) -> None:
    names = optimised(root)
    outcome = bisection(root, evidence, Oracle(root), names["good"]).run()
    assert (outcome.kind, outcome.strays) == ("unconfirmed", (names["side"],))
    outcome = bisection(root, evidence, Oracle(root), names["good"], first_parent=True).run()
    assert outcome.first is not None
    assert (outcome.first.hash, outcome.strays) == (names["slow"], ())


def test_a_commit_that_may_be_slow_by_nature_is_said_to_be(
    root: Path, evidence: BisectEvidence
) -> None:
    names = optimised(root)
    search = bisection(root, evidence, Oracle(root), names["good"])
    text = BisectText(search.good, search.bad, evidence.folder)
    output = " ".join(" ".join(text.outcome_lines(search.run(), 80)).split())
    assert f"it does not descend from {names['good']}, and may be slower only for lack of" in output
    assert "--first-parent treats each merge as one commit" in output


def test_a_detached_head_without_branches_is_no_obstacle(
    root: Path, evidence: BisectEvidence
) -> None:
    commits = history(root, "ffss")
    git(root, "checkout", "--quiet", "--detach")
    git(root, "branch", "--quiet", "-D", "main")
    outcome = bisection(root, evidence, Oracle(root), commits[0]).run()
    assert outcome.first is not None
    assert outcome.first.hash == commits[2]


def refusal(root: Path, evidence: BisectEvidence, good: str, bad: str) -> str:
    oracle = Oracle(root)
    with pytest.raises(RangeError) as error:
        bisection(root, evidence, oracle, good, bad).run()
    assert oracle.asked == []
    return str(error.value)


def test_the_same_commit_twice_is_refused(root: Path, evidence: BisectEvidence) -> None:
    history(root, "fs")
    assert "main and HEAD are the same commit" in refusal(root, evidence, "main", "HEAD")


def test_ends_the_other_way_round_are_told(root: Path, evidence: BisectEvidence) -> None:
    history(root, "fs")
    text = refusal(root, evidence, "HEAD", "HEAD~1")
    assert "to find what made HEAD slower, run: llmperf bisect HEAD~1 HEAD" in text


def test_branches_that_went_apart_get_the_merge_base_to_start_from(
    root: Path, evidence: BisectEvidence
) -> None:
    names = merged(root)
    git(root, "branch", "other", names["slow side"])
    text = refusal(root, evidence, "other", names["main"])
    assert f"they diverged at {names['base'][:12]} state f" in text
    assert f"llmperf bisect {names['base'][:12]} {names['main']}" in text


def test_separate_histories_are_told(root: Path, evidence: BisectEvidence) -> None:
    history(root, "fs")
    git(root, "switch", "--quiet", "--orphan", "other")
    add(root, "f", "another root")
    assert "no commit in common" in refusal(root, evidence, "main", "other")


def test_the_users_repository_keeps_every_byte(root: Path, evidence: BisectEvidence) -> None:
    commits = history(root, "fff?sss")
    (root / "state").write_text("uncommitted")

    def seen() -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in root.rglob("*")
        }

    before = seen()
    bisection(root, evidence, Oracle(root), commits[0]).run()
    assert seen() == before
