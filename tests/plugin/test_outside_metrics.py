"""A metric that a package or a conftest.py registers, from a marker to a comparison."""

from __future__ import annotations

import json
import subprocess

import outside_packages
import pytest
from plugin_projects import APP
from stored_sessions import scale_samples

from pytest_llmperf.cli import main
from pytest_llmperf.metrics import GROUP, METRICS

pytestmark = pytest.mark.usefixtures("restored_metrics")

#: A metric: the longest wait between two tokens.
METRIC = """
from pytest_llmperf.extension import register_metric

SLOWEST = register_metric(
    "slowest_gap",
    label="slowest gap",
    unit="s",
    direction="lower",
    formula="largest gap t_{i+1} - t_i over all requests",
    compute=lambda timelines: max(gap for one in timelines for gap in one.gaps()),
)
"""
GATE = 'perf_metric("slowest_gap", max="5s", tolerance="90%")'
TESTS = f"""
@pytest.mark.{GATE}
def test_gated(llm_engine):
    llm_engine.generate("hello", max_tokens=4)
"""


def forget():
    """Forget the metric, as if this were the new process of a command."""
    METRICS.pop("slowest_gap", None)


def test_of_a_package_is_judged_stored_and_compared(project, monkeypatch, quiet_machine, capsys):
    outside_packages.install(
        monkeypatch,
        project.path / "site",
        "acme-metrics",
        GROUP,
        {"slowest_gap": "acme_metrics:SLOWEST"},
        acme_metrics=METRIC,
    )
    project.write(test_it=TESTS)
    result = project.perf("--llmperf-record")
    assert result.ret == 0, result.stdout.str()
    result.stdout.fnmatch_lines(["  no baseline * slowest gap * <=5 s*"])
    assert project.metric("slowest_gap")["verdict"] == "no baseline"
    (base,) = project.baselines()
    assert json.loads(base.read_text())["tests"]["test_it.py::test_gated"]["metrics"][
        "slowest_gap"
    ]["samples"]

    # As a configured target, for a test that does not name the metric.
    project.configure(APP.replace("perf:", "perf:\n  targets: {slowest_gap: 1us}"))
    project.write(test_it=TESTS.replace(GATE, "perf"))
    result = project.perf()
    assert result.ret == 1
    assert project.metric("slowest_gap")["verdict"] in ("missed", "regressed")
    assert project.metric("slowest_gap")["baseline"] is not None

    # Commands know the metric without a session.
    monkeypatch.chdir(project.path)
    record = json.loads(base.read_text())
    rows = record["tests"]["test_it.py::test_gated"]["metrics"]["slowest_gap"]
    rows["samples"] = [[0.002, 0.0021, 0.0022]] * 3
    base.write_text(json.dumps(record))
    scale_samples(3.0, "slowest_gap")(record)
    record["recorded"] = "2030-01-01T00:00:00Z"
    slow = project.path / "slow.json"
    slow.write_text(json.dumps(record))
    capsys.readouterr()
    forget()
    main(["compare", str(base), str(slow), "--metric", "slowest_gap"])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if " slowest gap " in line]
    assert "2.10 ms over 1 session" in row
    assert "200% slower" in row
    subprocess.run(["git", "init", "-q"], check=True)
    forget()
    assert main(["history", "--metric", "slowest_gap"]) == 0
    assert "slowest gap" in capsys.readouterr().out


def test_of_a_conftest_is_judged_and_what_it_left_is_tolerated(project, quiet_machine, capsys):
    failing = METRIC.replace("slowest_gap", "failing").replace("max(gap for", "max(gap / 0 for")
    project.write(
        conftest=METRIC + failing,
        test_it=f"""
        {TESTS.replace(chr(10), chr(10) + " " * 8)}
        @pytest.mark.perf_metric("failing")
        def test_failing(llm_engine):
            llm_engine.generate("hello", max_tokens=4)
        """,
    )
    result = project.perf("--llmperf-record")
    assert result.ret == 1
    assert project.verdicts() == {"test_gated": "no baseline", "test_failing": "error"}
    result.stdout.fnmatch_lines(
        ["*failing could not be measured: its formula raised ZeroDivisionError: *"]
    )

    # Without anything that registers it, recorded samples are read and the name is refused.
    forget()
    METRICS.pop("failing")
    project.path.joinpath("conftest.py").unlink()
    project.write(test_it=TESTS)
    result = project.here("-m", "perf")
    result.stderr.fnmatch_lines(["*test_gated: marker 'perf_metric' names an unknown metric *"])
    project.write(test_it=TESTS.replace('perf_metric("slowest_gap", ', "end_to_end("))
    assert project.perf().ret == 0
    assert project.metric("end_to_end")["baseline"] is not None
