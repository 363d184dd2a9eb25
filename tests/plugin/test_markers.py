"""Markers: limits and tolerances of metrics, and wrong markers refused at collection."""

from __future__ import annotations

import pytest
from plugin_projects import APP


def test_a_misspelled_marker_is_refused(project):
    project.write(
        test_it="""
@pytest.mark.token_per_sec(min=60)
def test_x(llm_engine): pass

@pytest.mark.fist_token(max="1s")
@pytest.mark.tokens_per_sec
def test_y(llm_engine): pass

@pytest.mark.first_tokens
def test_of_something_else(): pass
"""
    )
    result = project.here("-m", "perf", "-W", "ignore")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [
        "ERROR: llmperf: test_it.py::test_x: there is no marker 'token_per_sec'; did you mean "
        "'tokens_per_sec'? (a marker of your own has to be registered)",
        "  test_it.py:3: @pytest.mark.token_per_sec(min=60)",
        "test_it.py::test_y: there is no marker 'fist_token'; did you mean 'first_token'? (a "
        "marker of your own has to be registered)",
        '  test_it.py:6: @pytest.mark.fist_token(max="1s")',
    ]
    assert not project.was_loaded


def test_a_registered_marker_of_a_similar_name_is_the_projects_own(project):
    project.write(test_it="@pytest.mark.first_tokens\ndef test_x(llm_engine): pass\n")
    result = project.here("-m", "perf", "-o", "markers=first_tokens: about several")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def gated(project) -> dict[str, dict[str, tuple[float | None, float]]]:
    """Return what the last session gated: test -> metric -> limit and tolerance."""
    return {
        test["nodeid"].partition("::")[2]: {
            m["name"]: (m["limit"], m["tolerance"]) for m in test["metrics"] if m["gated"]
        }
        for test in project.session()["tests"]
    }


def test_are_listed(project):
    result = project.here("--markers")
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.perf(*",
            "@pytest.mark.tokens_per_sec(min=60*",
            "@pytest.mark.first_token(max='500ms'*",
            "@pytest.mark.end_to_end(max='5s'*",
            "@pytest.mark.perf_metric(name, *",
        ]
    )


@pytest.mark.parametrize(
    ("decorator", "says"),
    [
        ("@pytest.mark.tokens_per_sec(mim=3)", "*unknown argument 'mim'*did you mean 'min'*"),
        ("@pytest.mark.perf(tolerence='5%')", "*'perf'*'tolerence'*did you mean 'tolerance'*"),
        ("@pytest.mark.first_token(min='1s', max='2s')", "*has both min and max*max=*"),
        ("@pytest.mark.tokens_per_sec(max=60)", "*has max=*better higher*limit is min=*"),
        ("@pytest.mark.first_token(min='1s')", "*has min=*better lower*limit is max=*"),
        ("@pytest.mark.first_token(max='500')", "*'first_token' max: *'500'*"),
        ("@pytest.mark.tokens_per_sec(60)", "*by name: tokens_per_sec(min=60)*"),
        ("@pytest.mark.perf('5%')", "*'perf'*no positional*"),
        ("@pytest.mark.end_to_end(max=0)", "*expected a limit above 0*"),
        ("@pytest.mark.end_to_end(max='1s', tolerance=5)", "*tolerance: *"),
        ("@pytest.mark.perf_metric(max='1s')", "*metric's name first*"),
        ("@pytest.mark.perf_metric('first_tokn', max='1s')", "*first_tokn*first_token*"),
        (
            "@pytest.mark.end_to_end(max='1s')\n@pytest.mark.end_to_end(max='2s')",
            "*contradicts the marker 'end_to_end' on the same test*",
        ),
        (
            "@pytest.mark.end_to_end(max='1s')\n@pytest.mark.perf_metric('end_to_end', max='2s')",
            "*contradicts the marker*on the same test*",
        ),
    ],
)
def test_a_wrong_marker_is_refused_with_the_remedy(project, decorator, says):
    project.write(test_it=f"{decorator}\ndef test_x(llm_engine): pass\n")
    stderr = project.check_refused()
    stderr.fnmatch_lines(
        ["ERROR: llmperf: test_it.py::test_x: marker *", "  test_it.py:*: @pytest.mark.*"]
    )
    stderr.fnmatch_lines([says])


def test_every_wrong_marker_of_a_session_is_named(project):
    project.write(
        test_it="""
        @pytest.mark.tokens_per_sec(60)
        def test_one(llm_engine): pass

        @pytest.mark.first_token(max="1")
        def test_two(): pass
        """
    )
    result = project.here("-m", "perf")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*::test_one: marker*", "*::test_two: marker*"])


def test_a_wrong_marker_is_shown_with_its_line_wherever_it_is(project):
    project.write(
        test_it="""
        pytestmark = pytest.mark.end_to_end(max=0)

        @pytest.mark.first_token(
            min=1,
        )
        class TestClass:
            @pytest.mark.parametrize("number", [1, 2])
            @pytest.mark.tokens_per_sec(mim=1)
            def test_method(self, llm_engine, number): pass
        """
    )
    result = project.here("-m", "perf")
    result.stderr.fnmatch_lines(
        [
            "*::TestClass::test_method[[]1[]]: marker 'tokens_per_sec' *",
            "  test_it.py:10: @pytest.mark.tokens_per_sec(mim=1)",
            "*marker 'first_token' *",
            "  test_it.py:5: @pytest.mark.first_token(",
            "*marker 'end_to_end' *",
            "  test_it.py:3: pytestmark = pytest.mark.end_to_end(max=0)",
        ]
    )


def test_the_closest_marker_of_a_metric_counts(project):
    project.write(
        test_it="""
        pytestmark = pytest.mark.end_to_end(max="50s")

        def test_module(llm_engine):
            llm_engine.generate("a")

        class Base:
            pytestmark = [pytest.mark.end_to_end(max="40s"), pytest.mark.first_token(max="9s")]

            def test_class(self, llm_engine):
                llm_engine.generate("a")

        class TestBase(Base):
            @pytest.mark.end_to_end(max="30s")
            def test_function(self, llm_engine):
                llm_engine.generate("a")

            @pytest.mark.end_to_end(max="30s")
            @pytest.mark.parametrize(
                "n", [1, pytest.param(2, marks=pytest.mark.end_to_end(max="20s"))]
            )
            def test_parameter(self, llm_engine, n):
                llm_engine.generate("a")

        @pytest.mark.end_to_end(max="10s")
        class TestDerived(Base):
            pass
        """
    )
    assert project.perf().ret == 0
    checks = gated(project)
    limits = {name: metrics["end_to_end"][0] for name, metrics in checks.items()}
    assert limits == {
        "test_module": 50,
        "TestBase::test_class": 40,
        "TestBase::test_function": 30,
        "TestBase::test_parameter[1]": 30,
        "TestBase::test_parameter[2]": 20,
        "TestDerived::test_class": 10,
    }
    assert checks["TestDerived::test_class"]["first_token"][0] == 9
    assert "first_token" not in checks["test_module"]


def test_a_bare_marker_gates_against_the_baseline_only(project):
    project.write(
        test_it="""
        @pytest.mark.first_token
        def test_x(llm_engine):
            llm_engine.generate("a")
        """
    )
    project.perf()
    assert gated(project) == {"test_x": {"first_token": (None, 0.05)}}


def test_perf_alone_gates_three_metrics(one_test):
    one_test.perf()
    assert list(gated(one_test)["test_answer"]) == ["tokens_per_sec", "first_token", "end_to_end"]


def test_defaults_come_from_the_configuration(one_test):
    one_test.configure(
        """
llm: {engine: app, target: "toy:answer"}
perf: {processes: 1, targets: {first_token: 7s}, tolerance: 8%}
"""
    )
    one_test.perf()
    checks = gated(one_test)["test_answer"]
    assert checks["first_token"] == (7, 0.08)
    assert checks["end_to_end"] == (None, 0.08)


def test_the_tolerance_of_a_metric_wins_over_the_test_s(project):
    project.write(
        test_it="""
        @pytest.mark.perf(tolerance="20%")
        @pytest.mark.first_token(max="9s", tolerance="30%")
        @pytest.mark.end_to_end(max="9s")
        def test_x(llm_engine):
            llm_engine.generate("a")
        """
    )
    project.perf()
    assert gated(project) == {"test_x": {"first_token": (9, 0.3), "end_to_end": (9, 0.2)}}


def test_any_registered_metric_can_be_gated(project):
    project.write(
        test_it="""
        @pytest.mark.perf_metric("inter_token", max="5s")
        def test_x(llm_engine):
            llm_engine.generate("a")
        """
    )
    project.perf()
    assert gated(project) == {"test_x": {"inter_token": (5, 0.05)}}


def test_a_configured_target_that_a_test_leaves_undefined_is_named(project):
    project.configure(APP + "  targets: {tokens_per_sec: 1, end_to_end: 9s}\n")
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_x(llm_engine):
            llm_engine.generate("a", max_tokens=1)

        @pytest.mark.perf
        def test_y(llm_engine):
            llm_engine.generate("a", max_tokens=4)
        """
    )
    project.perf()
    notes = [note for note in project.session()["session"]["notes"] if "perf.targets" in note]
    assert notes == [
        "the target for tokens/s (perf.targets) is not judged in test_it.py::test_x: tokens/s is "
        "undefined for these requests"
    ]


def test_a_metric_that_the_workload_does_not_have_is_an_error(project):
    project.write(
        test_it="""
        @pytest.mark.tokens_per_sec(min=1)
        def test_x(llm_engine):
            llm_engine.generate("a", max_tokens=1)
        """
    )
    result = project.perf()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*tokens_per_sec is undefined for this workload: the answer came as 1 output token*"]
    )
