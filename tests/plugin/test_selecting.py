"""Which runs take perf tests in, and what a run without them says."""

from __future__ import annotations

import pytest

MIXED = """
@pytest.mark.perf
def test_bare(llm_engine):
    llm_engine.generate("a")

@pytest.mark.first_token(max="9s")
def test_implied(llm_engine):
    llm_engine.generate("b")

@pytest.mark.slow
def test_slow(): pass

def test_plain(): pass
"""


@pytest.fixture
def mixed(project):
    """Two perf tests, one of them by implication, and two others."""
    project.write(test_it=MIXED)
    project.ini("markers = slow")
    return project


def test_a_plain_run_leaves_perf_tests_out_and_says_how_many(mixed):
    result = mixed.here()
    result.assert_outcomes(passed=2, deselected=2)
    result.stdout.fnmatch_lines(["llmperf: 2 perf tests left out; run: pytest -m perf"])
    assert not mixed.was_loaded


def test_a_run_by_another_marker_leaves_perf_tests_out(mixed):
    mixed.here("-m", "not slow").assert_outcomes(passed=1, deselected=3)
    assert not mixed.was_loaded


def test_m_perf_selects_tests_with_a_metric_marker_too(mixed):
    result = mixed.perf()
    result.assert_outcomes(passed=2, deselected=2)
    assert mixed.verdicts().keys() == {"test_bare", "test_implied"}


def test_a_metric_marker_selects_by_itself(mixed):
    mixed.perf("-m", "first_token").assert_outcomes(passed=1, deselected=3)
    assert mixed.verdicts().keys() == {"test_implied"}


def test_perf_and_other_tests_run_in_one_session(mixed):
    mixed.perf("-m", "perf or slow").assert_outcomes(passed=3, deselected=1)


def test_k_narrows_perf_tests(mixed):
    mixed.perf("-k", "bare").assert_outcomes(passed=1, deselected=3)
    assert mixed.verdicts().keys() == {"test_bare"}


def test_a_node_id_narrows_perf_tests(mixed):
    mixed.perf("test_it.py::test_implied").assert_outcomes(passed=1)
    assert mixed.verdicts().keys() == {"test_implied"}


def test_collect_only_lists_and_loads_nothing(mixed):
    result = mixed.here("-m", "perf", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["test_it.py::test_bare", "test_it.py::test_implied"])
    assert result.ret == 0
    assert not mixed.was_loaded


def test_collect_only_brings_no_model(mixed, monkeypatch):
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(mixed.path / "empty-cache"))
    mixed.configure("llm:\n  model_path: smollm2-135m\n")
    assert mixed.here("-m", "perf", "--collect-only").ret == 0
    assert not (mixed.path / "empty-cache").exists()


def test_collect_only_checks_markers(project):
    project.write(test_it="@pytest.mark.perf(5)\ndef test_x(): pass\n")
    result = project.here("-m", "perf", "--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_an_ordinary_test_may_use_the_engine(project):
    project.write(test_it="def test_x(llm_engine):\n    assert llm_engine.generate('a').text\n")
    result = project.here()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*LLM performance*")


def test_an_ordinary_test_of_a_broken_configuration_fails_in_plain_words(project):
    project.configure("llm:\n  n_batsh: 5\n")
    project.write(test_it="def test_x(llm_engine): pass\n")
    result = project.here()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*config.yaml:2: llm.n_batsh:*n_batch*"])
    result.stdout.no_fnmatch_line("*Traceback*")
