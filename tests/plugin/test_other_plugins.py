"""Perf tests beside other plugins: timeouts, coverage, several workers."""

from __future__ import annotations

import pytest

TWO = """
@pytest.mark.perf
def test_one(llm_engine):
    llm_engine.generate("a")

@pytest.mark.perf
def test_two(llm_engine):
    llm_engine.generate("b")

def test_plain(): pass
"""


def test_a_timeout_in_a_body_fails_that_test_and_the_next_one_runs(project):
    project.path.joinpath("calls").write_text("x")
    project.write(
        test_it="""
        @pytest.mark.perf
        @pytest.mark.timeout(0.5)
        def test_one(llm_engine):
            llm_engine.generate("hang later")

        @pytest.mark.perf
        def test_two(llm_engine):
            llm_engine.generate("a")
        """
    )
    result = project.run("-m", "perf", "--llmperf-json", "out.json")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*Timeout*0.5*"])
    assert project.verdicts() == {"test_two": "no baseline"}


def test_a_timeout_of_every_test_does_not_count_measuring(project):
    project.pytester.makepyfile(
        toy="""
        import time

        def answer(prompt):
            time.sleep(0.3)
            yield "word"
            yield "word"
        """
    )
    project.write(
        test_it="""
        @pytest.mark.end_to_end(max="50s")
        def test_one(llm_engine):
            llm_engine.generate("a")
        """
    )
    # The replays take longer than the body is given. Whether a busy machine lets them be judged
    # is another matter.
    result = project.run(
        *("-m", "perf", "--llmperf-json", "out.json", "--timeout=1.4", "-o"),
        "timeout_func_only=true",
    )
    result.stdout.no_fnmatch_line("*Timeout*")
    assert project.session()["session"]["wall_s"] > 1.4
    assert project.verdicts().keys() == {"test_one"}


def test_coverage_counts_the_bodies(project):
    project.write(
        mine="def double(x):\n    return 2 * x\n",
        test_it="""
        from mine import double

        @pytest.mark.perf
        def test_one(llm_engine):
            llm_engine.generate("a", max_tokens=double(2))
        """,
    )
    result = project.run("-m", "perf", "--cov=mine", "--llmperf-json", "out.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*LLM performance*", "mine.py * 100%"])


def test_several_workers_run_bodies_and_measure_nothing(project):
    project.write(test_it=TWO)
    result = project.run("-m", "perf", "-n", "2", "--junitxml", "junit.xml")
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["not measured: the bodies of 2 perf tests ran*without -n"])
    result.stdout.no_fnmatch_line("*verdict*")
    assert project.path.joinpath("calls").read_text() in ("x", "xx")


def test_several_workers_refuse_to_store_what_they_do_not_measure(project):
    project.write(test_it=TWO)
    result = project.run("-m", "perf", "-n", "2", "--llmperf-record", "--llmperf-json", "o.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: llmperf: --llmperf-record, --llmperf-json: nothing is measured*without -n"]
    )


def test_several_workers_refuse_nothing_where_no_test_is_ours(project):
    """Options that stand in the settings hold for other projects' tests of these markers, too."""
    project.write(test_it="@pytest.mark.perf\ndef test_x(): pass\n")
    result = project.run("-m", "perf", "-n", "2", "--llmperf-json", "o.json")
    result.assert_outcomes(passed=1)
    assert result.ret == 0


def test_several_workers_say_what_is_wrong_with_a_marker(project):
    project.write(test_it="@pytest.mark.perf(5)\ndef test_x(llm_engine): pass\n")
    result = project.run("-m", "perf", "-n", "2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["llmperf: test_it.py::test_x: marker 'perf' takes no positional*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_several_workers_leave_perf_tests_out_of_a_plain_run(project):
    project.write(test_it=TWO)
    project.run("-n", "2").assert_outcomes(passed=1)
    assert not project.was_loaded


def test_no_workers_measure(project):
    project.write(test_it=TWO)
    project.perf("-n", "0").assert_outcomes(passed=2, deselected=1)
    assert project.verdicts() == {"test_one": "no baseline", "test_two": "no baseline"}
