"""``--llmperf-against REV``: this tree and another commit run interleaved, and the report."""

from __future__ import annotations

import pytest
from commit_projects import CONFIG, ONE_PAIR, SLOW, TEST, CommitProject, Session, toy_source


@pytest.fixture(scope="module")
def slower(shared: CommitProject) -> Session:
    """A session whose HEAD takes 12% longer per token; plugins load by their entry points."""
    shared.commit("slower tokens", {"toy.py": toy_source(1.12)})
    return shared.against("HEAD~1", "-p", "no:hypothesispytest", installed=True)


def test_a_commit_that_slows_every_token_is_regressed(slower: Session) -> None:
    assert slower.ret == pytest.ExitCode.TESTS_FAILED
    assert slower.verdicts == {"test_a": "regressed"}
    assert 0.05 < slower.change() < 0.25


def test_the_base_is_named_with_hash_and_subject(slower: Session, shared: CommitProject) -> None:
    base = shared.git("rev-parse", "HEAD~1")[:12]
    assert slower.facts["against"] == f"HEAD~1 ({base})"
    assert f"base HEAD~1 ({base}): the first one" in slower.notes
    assert "both run interleaved in this session" in slower.all_output


def test_files_that_differ_are_counted_with_how_to_see_them(
    slower: Session, shared: CommitProject
) -> None:
    base = shared.git("rev-parse", "HEAD~1")[:12]
    (line,) = slower.facts["side_differences"]
    assert line == f"code: 1 file differs (git diff --stat {base})"
    assert line in slower.all_output


def test_a_failure_names_the_only_commit_in_between(slower: Session, shared: CommitProject) -> None:
    head = shared.git("rev-parse", "HEAD")[:12]
    assert f"commit {head} (slower tokens) made it slower" in slower.all_output


def test_evidence_counts_both_arms(slower: Session) -> None:
    (metric,) = [m for m in slower.tests["test_a"]["metrics"] if m["gated"]]
    assert slower.tests["test_a"]["pairs"] >= 6
    assert len(metric["samples"]) == len(metric["base_samples"]) == slower.tests["test_a"]["pairs"]


def test_a_commit_that_changes_a_comment_passes(project: CommitProject) -> None:
    # Other load on the machine may make pairs differ by more than the test's own 5%.
    project.commit("less strict", {"test_it.py": TEST.replace("5%", "30%")})
    project.commit("a remark", {"toy.py": toy_source(extra="\n# the sleep stands for a model\n")})
    session = project.against("HEAD~1")
    assert session.ret == 0
    assert session.verdicts == {"test_a": "pass"}
    assert session.facts["side_differences"][0].startswith("code: 1 file differs")


def test_files_that_git_does_not_track_are_counted_apart(project: CommitProject) -> None:
    project.commit("less strict", {"test_it.py": TEST.replace("5%", "30%")})
    base = project.git("rev-parse", "HEAD~1")[:12]
    project.write({"notes.txt": "new", "a\x1b[31m\udcff.txt": "new"})
    session = project.against("HEAD~1", *ONE_PAIR)
    assert session.facts["side_differences"][0] == (
        f"code: 1 file differs (git diff --stat {base}), and 2 files not tracked by git "
        r"(a\x1b[31m\udcff.txt and 1 more)"
    )


def test_settings_of_the_commit_are_its_own(project: CommitProject) -> None:
    changed = CONFIG.replace("toy:", "other:").replace("target:", "seed: 64\n  target:")
    project.commit("another application", {"other.py": toy_source(SLOW), "config.yaml": changed})
    session = project.against("HEAD~1", *ONE_PAIR)
    assert session.change() > 0.5
    differences = session.facts["side_differences"]
    assert differences[0].startswith("code: 2 files differ")
    assert "llm.target: base toy:answer, candidate other:answer" in differences
    assert "llm.seed: base 42, candidate 64" in differences


def test_a_commit_can_be_compared_with_itself(project: CommitProject) -> None:
    session = project.against("HEAD", *ONE_PAIR, "--llmperf-strict", "--llmperf-exit-codes")
    assert session.ret == 11
    assert session.verdicts == {"test_a": "inconclusive"}
    assert session.facts["side_differences"] == []
    assert "both have the same settings: an A/A run" in session.all_output
