"""pytest-benchmark sees the samples of perf tests, and its fixture works on the engine."""

from __future__ import annotations

import json

import pytest


def saved(path) -> dict:
    """Return the only benchmark in a pytest-benchmark file."""
    (benchmark,) = json.loads(path.read_text())["benchmarks"]
    return benchmark


@pytest.mark.parametrize("place", ["command line", "addopts", "environment"])
def test_its_table_shows_perf_tests_if_one_of_its_options_is_given(one_test, monkeypatch, place):
    option = "--benchmark-sort=name"
    if place == "addopts":
        ini = one_test.path / "tox.ini"
        ini.write_text(ini.read_text().replace("addopts =", f"addopts = {option}"))
    elif place == "environment":
        monkeypatch.setenv("PYTEST_ADDOPTS", option)
    result = one_test.here("-m", "perf", *([option] if place == "command line" else []))
    result.stdout.fnmatch_lines(["*benchmark: 1 tests*", "test_answer *"])


def test_its_table_shows_tests_of_its_own_only_where_none_is_given(project):
    project.write(
        test_it="""
        def test_own(benchmark):
            benchmark(len, "a")

        @pytest.mark.perf
        def test_answer(llm_engine):
            llm_engine.generate("hello", max_tokens=4)
        """
    )
    result = project.here("-m", "perf or not perf", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*benchmark: 1 tests*", "test_own *"])
    result.stdout.no_fnmatch_line("test_answer *")
    project.here("-m", "perf").stdout.no_fnmatch_line("*benchmark: 1 tests*")


def test_its_json_has_durations_and_llm_metrics(one_test):
    one_test.perf("--benchmark-json=bench.json")
    benchmark = saved(one_test.path / "bench.json")
    (test,) = one_test.session()["tests"]
    samples = {m["name"]: m["samples"] for m in test["metrics"]}
    assert benchmark["fullname"] == "test_it.py::test_answer"
    assert benchmark["stats"]["data"] == [v for row in samples["end_to_end"] for v in row]
    extra = benchmark["extra_info"]
    assert extra["tokens_per_sec_unit"] == "tok/s"
    assert extra["tokens_per_sec_samples"] == samples["tokens_per_sec"]
    assert extra["workload_hash"] == test["workload"]["hash"]
    assert extra["verdict"] == test["verdict"] == "no baseline"


def test_it_saves_and_compares(one_test):
    one_test.here("-m", "perf", "--benchmark-autosave")
    assert list(one_test.path.glob(".benchmarks/*/0001_*.json"))
    result = one_test.here("-m", "perf", "--benchmark-compare=0001")
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(["test_answer (NOW) *", "test_answer (0001_*"])


def test_parameters_are_kept(project):
    project.write(
        test_it="""
        @pytest.mark.perf
        @pytest.mark.parametrize("count", [3])
        def test_x(llm_engine, count):
            llm_engine.generate("a", max_tokens=count)
        """
    )
    project.here("-m", "perf", "--benchmark-json=bench.json")
    benchmark = saved(project.path / "bench.json")
    assert benchmark["param"] == "3"
    assert benchmark["params"] == {"count": 3}


def test_disabled_it_is_told_nothing_and_verdicts_stand(one_test):
    result = one_test.perf("--benchmark-disable")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*benchmark: 1 tests*")
    assert one_test.verdicts() == {"test_answer": "no baseline"}


def test_without_it_perf_tests_work(one_test):
    result = one_test.perf("-p", "no:benchmark")
    assert result.ret == 0
    assert one_test.verdicts() == {"test_answer": "no baseline"}


def test_a_benchmark_of_the_engine_by_itself_works(project):
    project.write(
        test_it="""
        def test_x(benchmark, llm_engine):
            answer = benchmark.pedantic(llm_engine.generate, args=("a",), rounds=3)
            assert answer.text
        """
    )
    result = project.here("--benchmark-json=bench.json")
    result.assert_outcomes(passed=1)
    assert saved(project.path / "bench.json")["stats"]["rounds"] == 3


def test_a_calibrated_benchmark_of_the_engine_works(project):
    project.write(
        test_it="""
        def test_x(benchmark, llm_engine):
            assert benchmark(llm_engine.generate, "a").text
        """
    )
    project.here("--benchmark-max-time=0.05").assert_outcomes(passed=1)


@pytest.mark.parametrize("call", ["benchmark(", "benchmark.pedantic(rounds=9, target="])
def test_within_a_perf_test_the_function_runs_once_and_is_replayed(project, call):
    arguments = 'args=("a",)' if "pedantic" in call else '"a"'
    project.write(
        test_it=f"""
        @pytest.mark.perf
        def test_x(benchmark, llm_engine):
            assert {call}llm_engine.generate, {arguments}).text
        """
    )
    result = project.perf("--benchmark-json=bench.json")
    result.assert_outcomes(passed=1)
    (test,) = project.session()["tests"]
    assert test["workload"]["summary"].startswith("1 request,")
    assert saved(project.path / "bench.json")["stats"]["rounds"] == 3


def test_benchmark_only_leaves_out_perf_tests_without_its_fixture(one_test):
    one_test.here("-m", "perf", "--benchmark-only").assert_outcomes(skipped=1)
    assert not one_test.was_loaded


def test_benchmark_skip_leaves_perf_tests_in(one_test):
    assert one_test.perf("--benchmark-skip").ret == 0
    assert one_test.verdicts() == {"test_answer": "no baseline"}
