"""Test bodies: every kind of test runs once, as in any session, before anything is measured."""

from __future__ import annotations

import os

import pytest
from plugin_projects import all_output


def test_a_body_runs_exactly_once(project):
    project.write(
        test_it="""
        import pathlib

        @pytest.mark.perf
        def test_x(llm_engine):
            with pathlib.Path("ran").open("a") as log:
                log.write("x")
            llm_engine.generate("a")
        """
    )
    project.perf().assert_outcomes(passed=1)
    assert project.path.joinpath("ran").read_text() == "x"
    # The body, two warm-ups at least, three iterations.
    assert len(project.path.joinpath("calls").read_text()) >= 6


def test_async_bodies_run(project):
    project.write(
        test_it="""
        import asyncio

        @pytest.mark.perf
        @pytest.mark.asyncio
        async def test_asyncio(llm_engine):
            await asyncio.sleep(0)
            llm_engine.generate("a")

        @pytest.mark.perf
        @pytest.mark.anyio
        async def test_anyio(llm_engine):
            await asyncio.sleep(0)
            llm_engine.generate("b")

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        """
    )
    # Event loops that an old pytest leaves to the garbage collector would be blamed on this test.
    result = project.run("-m", "perf", "--llmperf-json", "out.json")
    result.assert_outcomes(passed=2)
    assert project.verdicts().keys() == {"test_asyncio", "test_anyio"}


def test_unittest_classes_run(project):
    project.write(
        test_it="""
        import unittest

        @pytest.mark.perf
        class TestCase(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _engine(self, llm_engine):
                self.engine = llm_engine

            def setUp(self):
                self.prompt = "a"

            def test_x(self):
                self.assertTrue(self.engine.generate(self.prompt).text)

            def test_fails(self):
                self.assertEqual(self.engine.generate(self.prompt).text, "something else")
        """
    )
    project.perf().assert_outcomes(passed=1, failed=1)
    assert project.verdicts().keys() == {"TestCase::test_x"}


def test_parameters_are_tests_of_their_own(project):
    project.write(
        test_it="""
        @pytest.mark.perf
        @pytest.mark.parametrize("count", [2, 5])
        def test_x(llm_engine, count):
            llm_engine.generate("a", max_tokens=count)
        """
    )
    project.perf().assert_outcomes(passed=2)
    hashes = {test["workload"]["hash"] for test in project.session()["tests"]}
    assert project.verdicts().keys() == {"test_x[2]", "test_x[5]"}
    assert len(hashes) == 2


def test_fixtures_of_every_scope_are_set_up_and_torn_down_once(project):
    project.write(
        test_it="""
        import pathlib

        def note(text):
            with pathlib.Path("log").open("a") as log:
                log.write(text + " ")

        def fixture_of(scope):
            @pytest.fixture(scope=scope, name=scope + "_thing")
            def make(llm_engine):
                note("+" + scope)
                yield
                note("-" + scope)
            return make

        a, b, c, d = map(fixture_of, ["session", "module", "class", "function"])

        @pytest.mark.perf
        class TestX:
            def test_one(
                self, session_thing, module_thing, class_thing, function_thing, llm_engine
            ):
                note("one")
                llm_engine.generate("a")

            def test_two(self, class_thing, function_thing, llm_engine):
                note("two")
                llm_engine.generate("a")
        """
    )
    project.perf().assert_outcomes(passed=2)
    assert project.path.joinpath("log").read_text().split() == [
        *("+session", "+module", "+class", "+function", "one", "-function"),
        *("+function", "two", "-function", "-class", "-module", "-session"),
    ]


def test_what_a_fixture_asks_is_not_part_of_the_workload(project):
    project.write(
        test_it="""
        @pytest.fixture
        def warmed(llm_engine):
            llm_engine.generate("fixture")
            yield llm_engine
            llm_engine.generate("fixture")

        @pytest.mark.perf
        def test_x(warmed):
            warmed.generate("body")
        """
    )
    project.perf().assert_outcomes(passed=1)
    assert project.session()["tests"][0]["workload"]["summary"].startswith("1 request")


def test_a_failing_body_is_an_ordinary_failure_and_not_measured(project):
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_x(llm_engine):
            answer = llm_engine.generate("a")
            assert answer.text == "something else"
        """
    )
    result = project.here("-m", "perf")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*assert answer.text == *", "E * AssertionError*"])
    result.stdout.no_fnmatch_line("*measuring*")


def test_a_failing_fixture_is_an_ordinary_error_and_not_measured(project):
    project.write(
        test_it="""
        @pytest.fixture
        def broken():
            raise RuntimeError("no")

        @pytest.mark.perf
        def test_x(llm_engine, broken):
            llm_engine.generate("a")
        """
    )
    result = project.here("-m", "perf")
    result.assert_outcomes(errors=1)
    result.stdout.no_fnmatch_line("*measuring*")


def test_a_body_that_asks_nothing_fails_with_what_to_do(project):
    project.write(test_it="@pytest.mark.perf\ndef test_x(llm_engine): pass\n")
    result = project.here("-m", "perf")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["this perf test made no request to llm_engine*"])


def test_a_body_with_a_llama_of_its_own_fails_with_what_to_do(project):
    from pytest_llmperf.config.embedded import EMBEDDED, models_dir

    model = models_dir() / EMBEDDED["smollm2-135m"].file_name
    if not model.exists():
        pytest.skip("the embedded model is not in the cache")
    project.write(
        test_it=f"""
        import os

        @pytest.mark.perf
        def test_x(llm_engine):
            from llama_cpp import Llama
            Llama(model_path={os.fspath(model)!r}, vocab_only=True, verbose=False)
            llm_engine.generate("a")
        """
    )
    result = project.run("-m", "perf")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["this perf test built its own llama_cpp.Llama*"])


def test_a_skipped_body_is_skipped(project):
    project.write(
        test_it="""
        @pytest.mark.perf
        @pytest.mark.skip(reason="not today")
        def test_marked(llm_engine):
            llm_engine.generate("a")

        @pytest.mark.perf
        def test_inside(llm_engine):
            llm_engine.generate("a")
            pytest.skip("not this time")
        """
    )
    result = project.here("-m", "perf")
    result.assert_outcomes(skipped=2)
    result.stdout.no_fnmatch_line("*measuring*")


def test_a_failed_subtest_fails_its_test(project):
    if not hasattr(pytest, "Subtests"):
        pytest.skip("this pytest has no subtests")
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_x(llm_engine, subtests):
            with subtests.test("one"):
                assert llm_engine.generate("a").text == "something else"
        """
    )
    result = project.here("-m", "perf")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*contains 1 failed subtest*"])


XFAIL = """
@pytest.mark.perf
@pytest.mark.xfail({arguments})
@pytest.mark.end_to_end(max="{limit}")
def test_x(llm_engine):
    {first}
    llm_engine.generate("a")
"""


@pytest.mark.parametrize(
    ("arguments", "limit", "first", "outcome"),
    [
        ("", "9s", "assert False", "xfailed"),
        ("", "9s", "pass", "xpassed"),
        ("", "1us", "pass", "xfailed"),
        ("strict=True", "1us", "pass", "xfailed"),
        ("strict=True", "9s", "pass", "failed"),
        ("raises=ValueError", "1us", "pass", "failed"),
    ],
)
def test_an_expected_failure_counts_verdicts_too(project, arguments, limit, first, outcome):
    source = XFAIL.format(arguments=arguments, limit=limit, first=first)
    project.write(test_it=source)
    result = project.here("-m", "perf", "--llmperf-exit-codes")
    result.assert_outcomes(**{outcome: 1})
    assert result.ret == (1 if outcome == "failed" else 0)


def test_the_reason_of_an_expected_failure_is_kept(project):
    project.write(
        test_it=XFAIL.format(arguments="strict=True, reason='slow on CPUs'", limit="1us", first="0")
    )
    project.here("-m", "perf", "-rx").stdout.fnmatch_lines(["XFAIL *::test_x - slow on CPUs"])


def test_a_default_metric_that_the_workload_does_not_define_is_left_out(project):
    project.write(
        toy="""
        def answer(prompt):
            return "one token has no decode rate"
        """,
        test_it="""
        @pytest.mark.perf
        def test_x(llm_engine):
            llm_engine.generate("a")
        """,
    )
    project.perf().assert_outcomes(passed=1)
    (test,) = project.session()["tests"]
    assert [metric["name"] for metric in test["metrics"]] == ["first_token", "end_to_end"]


def test_a_metric_that_a_marker_asks_for_must_be_defined(project):
    project.write(
        toy="""
        def answer(prompt):
            return list("abc") if prompt == "list" else "one token has no decode rate"
        """,
        test_it="""
        @pytest.mark.tokens_per_sec
        def test_text(llm_engine):
            llm_engine.generate("a")

        @pytest.mark.perf_metric("inter_token")
        def test_texts(llm_engine):
            llm_engine.generate("a")
            llm_engine.generate("b")

        @pytest.mark.tokens_per_sec
        @pytest.mark.inter_token(percentile=75)
        def test_list(llm_engine):
            llm_engine.generate("list")

        @pytest.mark.perf_metric("prefill_tokens_per_sec")
        def test_prefill(llm_engine):
            llm_engine.generate("list")
        """,
    )
    result = project.perf()
    result.assert_outcomes(failed=4)
    fix = "yield each token as it comes, or remove the marker"
    said = all_output(result)
    for text in (
        "tokens_per_sec is undefined for this workload: the application's answer came as 1 item "
        "(it was returned whole, or ended after one), and tokens/s is measured between items, "
        f"from 2 on; {fix}",
        "inter_token is undefined for this workload: the application's 2 answers came as 1 item "
        "each (it was returned whole, or ended after one), and inter-token is measured between "
        f"items, from 2 on; {fix}",
        "tokens_per_sec is undefined for this workload: the application's answer of 3 items came "
        f"all at once (a list), and tokens/s is measured between items that come one by one; {fix}",
        "inter_token_p75 is undefined for this workload: the application's answer of 3 items came "
        f"all at once (a list), and inter-token p75 is measured between items that come one by "
        f"one; {fix}",
        "prefill_tokens_per_sec is undefined for this workload: an application does not say how "
        "long it took to read the prompt; remove the marker, or ask for first_token",
    ):
        assert text in said


def test_a_stream_that_is_left_early_counts_as_the_request_it_was(project):
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_x(llm_engine):
            for token in llm_engine.stream("a", max_tokens=5):
                break
        """
    )
    project.perf().assert_outcomes(passed=1)
    (test,) = project.session()["tests"]
    assert test["workload"]["summary"] == "1 request, 5 out, streamed"


def test_an_engine_that_does_not_load_says_so_once(project):
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_x(llm_engine):
            llm_engine.generate("a")
        """
    )
    result = project.run("-m", "perf", "--llmperf-set", "llm.target=nowhere:answer")
    # In the error and in its summary.
    assert result.stdout.str().count("llm.target 'nowhere:answer' could not be loaded") == 2
    result.stdout.no_fnmatch_line("*During handling*")
