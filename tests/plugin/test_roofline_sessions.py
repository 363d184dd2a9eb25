"""Sessions that report how close decode comes to the limit of the machine's memory."""

from __future__ import annotations

import pytest
from plugin_projects import APP, REAL, all_output

#: Bytes in SmolLM2-135M Q4_1: tensors and an embedding row; keys and values of a position.
WEIGHTS, POSITION = 96_576_768 + 612, 30 * 3 * 64 * 2 * 2


def test_a_new_machine_has_a_verdict_on_day_one(project, quiet_machine):
    project.configure(REAL)
    project.write(
        test_it="""
        @pytest.mark.roofline(min="0.01%")
        def test_x(llm_engine):
            llm_engine.generate("The capital of France is", max_tokens=9)
        """
    )
    result = project.perf()
    (test,) = project.session()["tests"]
    result.assert_outcomes(passed=1)
    metric, roof = project.metric("roofline"), test["roofline"]
    assert (metric["verdict"], metric["baseline"]) == ("pass", None)
    # Five prompt tokens; eight steps look at 6 to 13 positions.
    assert roof["depth"] == 9.5
    assert roof["bytes_per_token"] == pytest.approx(WEIGHTS + 9.5 * POSITION, rel=1e-4)
    cpu = roof["devices"]["CPU"]
    assert cpu["how"] == "measured, a stream on 1 thread"
    rates = [rate for process in project.metric("tokens_per_sec")["samples"] for rate in process]
    shares = [share for process in metric["samples"] for share in process]
    bytes_per_second = [roof["bytes_per_token"] * rate for rate in rates]
    assert shares == pytest.approx([rate / cpu["bandwidth"] for rate in bytes_per_second])
    assert roof["share"] == metric["value"]
    said = all_output(result)
    assert f"% of this machine's limit of {roof['limit_tokens_per_sec']:.3g} tok/s: 96.8 MB" in said


def test_an_application_has_no_roofline_and_says_why(project, quiet_machine):
    project.configure(APP)
    project.write(
        test_it="""
        @pytest.mark.roofline(min="50%")
        def test_asked(llm_engine):
            llm_engine.generate("Hi", max_tokens=4)

        @pytest.mark.tokens_per_sec(min=0.001)
        def test_other(llm_engine):
            llm_engine.generate("Hi", max_tokens=4)
        """
    )
    result = project.perf("--llmperf-roofline")
    reason = "the app engine does not say what it reads from memory"
    asked, other = project.session()["tests"]
    assert asked["verdict"] == "error"
    said = result.stdout.str()
    assert f"the roofline is unknown: {reason}" in said
    assert said.count(f"- roofline unknown: {reason}") == 1
    # Where the roofline is only shown, a problem with it stops nothing.
    assert other["verdict"] == "no baseline"
    assert other["roofline"] == {"share": None, "problem": reason}


def test_a_target_in_the_configuration_is_never_left_unjudged_without_a_word(project):
    project.configure(f"{APP}  targets:\n    roofline: 50%\n")
    project.write(
        test_it="""
        @pytest.mark.tokens_per_sec(min=0.001)
        def test_x(llm_engine):
            llm_engine.generate("Hi", max_tokens=4)
        """
    )
    project.perf()
    assert project.verdicts()["test_x"] in ("error", "invalid")


def test_nothing_is_said_of_it_where_nobody_asks(project):
    project.configure(APP)
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_x(llm_engine):
            llm_engine.generate("Hi", max_tokens=4)
        """
    )
    result = project.perf()
    assert project.session()["tests"][0]["roofline"] is None
    assert "roofline" not in result.stdout.str()


@pytest.mark.parametrize("marker", ["roofline()", 'perf_metric("roofline", tolerance="5%")'])
def test_a_marker_without_a_limit_is_refused(project, marker):
    project.configure(APP)
    project.write(
        test_it=f"""
        @pytest.mark.{marker}
        def test_x(llm_engine):
            llm_engine.generate("Hi", max_tokens=4)
        """
    )
    result = project.perf()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*needs its limit, min=...: roofline is compared with no baseline*"]
    )
