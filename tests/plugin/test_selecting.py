"""Which runs select perf tests, and what a run without them says."""

from __future__ import annotations

import pytest

from pytest_llmperf.plugin.selection import named_markers, selects_only_ours

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
def mixed(project, quiet_machine):
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
    project.write(test_it="@pytest.mark.perf(5)\ndef test_x(llm_engine): pass\n")
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


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("perf", {"perf"}),
        ("perf or smoke", {"perf"}),
        ("perf or not perf", {"perf"}),
        ("roofline and not (slow or first_token)", {"roofline"}),
        ("not (not perf)", {"perf"}),
        ("not perf", set()),
        ("not roofline", set()),
        ("not (perf and slow)", set()),
        ("smoke", set()),
        ("performance or my_perf", set()),
        ("", set()),
        ("((perf", set()),
    ],
)
def test_an_expression_names_the_markers_that_it_selects_by(expression, named):
    assert named_markers(expression) == named


@pytest.mark.skipif(pytest.version_tuple < (8, 3), reason="-m took no arguments then")
@pytest.mark.parametrize(
    ("expression", "only"),
    [
        ("perf", True),
        ("perf and not slow", True),
        ("slow and (perf or first_token)", True),
        ("not (not perf or slow)", True),
        ("perf or smoke", False),
        ("smoke and not slow", False),
        ("smoke or slow", False),
        ("not perf", False),
        ("not slow", False),
        ("smoke", False),
        ("perf and", False),
        ("", False),
    ],
)
def test_an_expression_may_select_perf_tests_only(expression, only):
    assert selects_only_ours(expression) is only


def test_an_expression_may_name_a_marker_with_its_arguments():
    assert named_markers("smoke or perf(budget='2m')") == {"perf"}


#: Tests with markers of another plugin that have our names, and with ours.
FOREIGN = """
@pytest.mark.end_to_end
def test_browser(): pass

@pytest.mark.perf(users=5)
class TestLoad:
    def test_load(self): pass

@pytest.fixture
def warm(llm_engine):
    return llm_engine

@pytest.mark.end_to_end
@pytest.mark.smoke
def test_ours(warm):
    warm.generate("a")

@pytest.mark.end_to_end(max="9s")
def test_forgetful(): pass
"""


@pytest.fixture
def foreign(project):
    """A strict project whose own tests have markers of our names."""
    project.write(test_it=FOREIGN)
    settings = project.path / "tox.ini"
    settings.write_text(settings.read_text().replace("addopts =", "addopts = --strict-markers"))
    project.ini("markers =\n    smoke\n    perf: a load test of ours")
    return project


def test_another_projects_tests_run_in_a_plain_session(foreign):
    result = foreign.here()
    result.assert_outcomes(passed=2, deselected=2)
    result.stdout.fnmatch_lines(["llmperf: 2 perf tests left out; run: pytest -m perf"])
    assert not foreign.was_loaded


def test_another_projects_tests_are_neither_measured_nor_marked(foreign):
    """A test of llm_engine is measured; one with our argument, but without llm_engine, fails."""
    result = foreign.perf("-m", "end_to_end")
    result.assert_outcomes(passed=2, failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "llmperf: 1 test has a marker of that name without using llm_engine; not measured",
            "*this perf test made no request to llm_engine*",
        ]
    )
    assert foreign.verdicts().keys() == {"test_ours"}
    listed = foreign.here("-m", "perf", "--collect-only", "-q").stdout.str()
    assert "test_load" in listed
    assert "test_ours" in listed
    assert "test_browser" not in listed


@pytest.mark.parametrize("expression", ["not roofline", "smoke", "tokens_per_sec or smoke"])
def test_an_expression_that_names_no_marker_of_a_test_does_not_measure_it(foreign, expression):
    result = foreign.here("-m", expression)
    result.stdout.fnmatch_lines(["llmperf: * perf test* left out; run: pytest -m perf"])
    result.stdout.no_fnmatch_line("*LLM performance*")
    assert not foreign.was_loaded


def test_a_test_that_another_marker_selects_too_is_measured_where_ours_is_named(foreign):
    foreign.perf("-m", "perf or smoke", "-k", "ours").assert_outcomes(passed=1, deselected=3)
    assert foreign.verdicts() == {"test_ours": "no baseline"}


def test_a_fixture_of_the_projects_own_is_not_our_engine(project):
    project.write(
        conftest="@pytest.fixture\ndef llm_engine():\n    return 'theirs'\n",
        test_it="@pytest.mark.perf\ndef test_x(llm_engine):\n    assert llm_engine == 'theirs'\n",
    )
    project.here().assert_outcomes(passed=1)
    project.here("-m", "perf").assert_outcomes(passed=1)
    wrapped = (
        "@pytest.fixture(scope='session')\ndef llm_engine(llm_engine):\n    return llm_engine\n"
    )
    project.write(conftest=wrapped, test_it="@pytest.mark.perf\ndef test_x(llm_engine): pass\n")
    project.here().assert_outcomes(deselected=1)
