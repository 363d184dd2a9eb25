"""Perf tests where several processes run tests: tests that can't be measured are not green."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from plugin_projects import all_output

from pytest_llmperf.plugin.xdist_mode import report_to_controller

TWO = """
@pytest.mark.perf
def test_one(llm_engine):
    llm_engine.generate("a")

@pytest.mark.perf
def test_two(llm_engine):
    llm_engine.generate("b")

def test_plain(): pass
"""

#: Another plugin that runs every test in a process of its own, as pytest-parallel does.
IN_CHILDREN = """
import os

def pytest_runtestloop(session):
    if session.config.option.collectonly:
        return None
    for item in session.items:
        child = os.fork()
        if child == 0:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            os._exit(0)
        os.waitpid(child, 0)
    return True
"""


@pytest.mark.parametrize("workers", ["-n1 --dist=no", "--tx=2*popen --dist=load"])
@pytest.mark.parametrize("expression", ["perf and not slow", "perf or smoke"])
def test_workers_are_refused_before_any_body_runs(project, workers, expression):
    project.write(test_it=TWO)
    project.ini("markers =\n  slow\n  smoke")
    result = project.run("-m", expression, *workers.split())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: llmperf: perf tests can't be measured while several pytest-xdist workers run*",
            "  measure in one process: pytest -m perf -n 0",
            "  run the bodies without measuring: --llmperf-allow-unmeasured",
        ]
    )
    assert not project.was_loaded
    assert ("created: " in all_output(result)) == (expression == "perf or smoke")


@pytest.mark.parametrize("where", ["settings", "PYTEST_ADDOPTS"])
def test_workers_of_the_settings_are_refused_and_n_0_measures(project, monkeypatch, where):
    project.write(test_it=TWO)
    if where == "settings":
        file = project.path / "tox.ini"
        file.write_text(file.read_text().replace("addopts =", "addopts = -n auto"))
    else:
        monkeypatch.setenv("PYTEST_ADDOPTS", "-n auto")
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "2")
    result = project.run("-m", "perf")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "measure in one process: pytest -m perf -n 0" in all_output(result)
    assert not project.was_loaded
    project.perf("-n", "0").assert_outcomes(passed=2, deselected=1)
    assert project.verdicts() == {"test_one": "no baseline", "test_two": "no baseline"}


@pytest.mark.parametrize("words", ["--dist=no", "--tx=2*popen --dist=no", "-n auto", "--forked"])
def test_what_starts_no_workers_measures(project, monkeypatch, words):
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "0")
    project.write(test_it=TWO)
    project.perf(*words.split()).assert_outcomes(passed=2, deselected=1)
    assert project.verdicts() == {"test_one": "no baseline", "test_two": "no baseline"}


def test_bodies_run_unmeasured_where_that_is_allowed(project):
    project.write(test_it=TWO)
    result = project.run("-m", "perf", "-n", "2", "--llmperf-allow-unmeasured")
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["not measured: the bodies of 2 perf tests ran*", "*measure in one process: * -n 0"]
    )
    result.stdout.no_fnmatch_line("*verdict*")
    assert project.path.joinpath("calls").read_text() in ("x", "xx")


def test_workers_store_nothing_even_where_unmeasured_is_allowed(project):
    project.write(test_it=TWO)
    options = ("--llmperf-record", "--llmperf-json", "o.json", "--llmperf-allow-unmeasured")
    result = project.run("-m", "perf", "-n", "2", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: llmperf: --llmperf-record, --llmperf-json: nothing is measured*",
            "  measure in one process: pytest -m perf -n 0",
        ]
    )
    assert not project.path.joinpath("o.json").exists()


def test_a_worker_on_another_machine_shares_no_folder(tmp_path):
    file = tmp_path / "of the controller" / "found"
    report_to_controller(SimpleNamespace(workerinput={"llmperf_found": str(file)}))
    file.parent.mkdir()
    report_to_controller(SimpleNamespace(workerinput={"llmperf_found": str(file)}))
    assert file.exists()


def test_what_runs_no_body_is_not_refused(project):
    project.write(test_it=TWO)
    listed = project.run("-m", "perf", "-n", "2", "--collect-only", "-q")
    assert listed.ret == 0
    listed.stdout.fnmatch_lines(["test_it.py::test_one", "test_it.py::test_two"])
    assert project.run("-m", "perf", "-n", "2", "--setup-plan").ret == 0
    assert not project.was_loaded


def test_a_session_without_a_perf_test_left_is_not_refused(project):
    project.write(test_it=TWO.replace("def test_plain", "@pytest.mark.smoke\ndef test_plain"))
    project.ini("markers = smoke")
    result = project.run("-m", "perf or smoke", "-n", "2", "-k", "plain")
    assert result.ret == 0
    result.assert_outcomes(passed=1)
    none = project.run("-m", "perf or smoke", "-n", "2", "-k", "nothing")
    assert none.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_tests_that_another_plugin_runs_elsewhere_are_not_green(project):
    project.write(test_it=TWO, conftest=IN_CHILDREN)
    result = project.run("-m", "perf", "-p", "no:xdist")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "2 perf tests not measured: another plugin ran the tests itself" in all_output(result)
    allowed = project.run("-m", "perf", "-p", "no:xdist", "--llmperf-allow-unmeasured")
    assert allowed.ret == 0
    assert "2 perf tests not measured" in all_output(allowed)


def test_several_workers_refuse_nothing_where_no_test_is_ours(project):
    """Options in the settings also apply to other projects' tests with these markers."""
    project.path.joinpath("config.yaml").unlink()
    project.write(test_it="@pytest.mark.perf\ndef test_x(): pass\n")
    result = project.run("-m", "perf", "-n", "2", "--llmperf-json", "o.json")
    result.assert_outcomes(passed=1)
    assert result.ret == 0


def test_several_workers_say_what_is_wrong_with_a_marker(project):
    project.write(test_it="@pytest.mark.perf(5)\ndef test_x(llm_engine): pass\n")
    result = project.run("-m", "perf", "-n", "2", "--llmperf-allow-unmeasured")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["llmperf: test_it.py::test_x: marker 'perf' takes no positional*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_several_workers_leave_perf_tests_out_of_a_plain_run(project):
    project.write(test_it=TWO)
    project.run("-n", "2").assert_outcomes(passed=1)
    assert not project.was_loaded
