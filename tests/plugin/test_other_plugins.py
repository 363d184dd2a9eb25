"""Perf tests beside other plugins: timeouts, coverage."""

from __future__ import annotations


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
    # The replays take longer than the timeout of a body. On a busy machine they may not be
    # judged, which does not matter here.
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
