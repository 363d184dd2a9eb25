"""Cells of a sweep against another commit: both sides run with the cell's settings."""

from __future__ import annotations

from commit_projects import ONE_PAIR, CommitProject
from tiny_models import tiny_llama

#: The session's own context is too small for the test's request; the cells' contexts are not.
CONFIG = """
llm:
  model_path: {model}
  n_ctx: 20
  n_batch: 64
  max_tokens: 4
  n_threads: 1
  n_threads_batch: 1
perf:
  processes: 1
  iterations: 3
"""
TEST = """
import pytest

@pytest.mark.perf_sweep(n_ctx={contexts}, use_mmap=[True, False])
@pytest.mark.end_to_end(tolerance="99%")
def test_a(llm_engine):
    llm_engine.generate("once upon a time in a far land", max_tokens=3)
"""


def test_both_commits_run_with_the_cells_settings(project: CommitProject) -> None:
    config = CONFIG.format(model=tiny_llama())
    project.commit("sweep", {"config.yaml": config, "test_it.py": TEST.format(contexts="[256]")})
    project.commit("wider", {"test_it.py": TEST.format(contexts="[256, 512]")})

    session = project.against("HEAD~1", *ONE_PAIR)

    assert session.ret == 0, session.out + session.err
    assert {name: test["pairs"] for name, test in session.tests.items()} == {
        "test_a[n_ctx=256-use_mmap=true]": 1,
        "test_a[n_ctx=512-use_mmap=true]": 0,
        "test_a[n_ctx=256-use_mmap=false]": 1,
        "test_a[n_ctx=512-use_mmap=false]": 0,
    }
    assert "has no such test" in session.all_output
