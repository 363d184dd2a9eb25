"""A repository that git refuses to read, because it belongs to another user."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from commit_projects import CommitProject

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away"
)


@pytest.fixture
def foreign(project: CommitProject) -> CommitProject:
    subprocess.run(["chown", "-R", "12345", str(project.top)], check=True)
    return project


def test_a_session_measures_and_records_without_a_commit(foreign: CommitProject) -> None:
    run = foreign.perf("--llmperf-record")
    assert run.ret == 0, run.out
    assert "no commit is recorded, because git can't be used" in run.all_output
    assert (
        "if you trust what is in it, run git config --global --add safe.directory" in run.all_output
    )
    (baseline,) = foreign.baselines()
    assert json.loads(baseline.read_text())["provenance"]["commit"] is None


def test_a_comparison_with_a_commit_is_refused_before_a_body_runs(foreign: CommitProject) -> None:
    run = foreign.against("HEAD")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    assert "--llmperf-against: git does not read the repository" in run.all_output
