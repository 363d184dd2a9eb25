"""Real sessions on a real device: requirements on the device, and messages of failures."""

from __future__ import annotations

import json
import os
import re
import subprocess
from textwrap import dedent

import pytest
from gpu_loads import CACHE, SMALL

CONFIG = "llm:\n" + "".join(f"  {key}: {value}\n" for key, value in SMALL.items())
CONFIG += "  generation_timeout: 10m\n"
INI = """
[pytest]
addopts = -p no:hypothesispytest
asyncio_default_fixture_loop_scope = function
"""
PERF = """
perf:
  require_gpu: true
  processes: 1
  max_processes: 1
  max_pairs: 1
  iterations: 3
  warmup_max: 1
"""
ONE_TEST = """
    import pathlib, pytest

    @pytest.mark.perf
    def test_answer(llm_engine):
        pathlib.Path("body").touch()
        gpu = llm_engine.verify_gpu_utilization()
        assert gpu.layers_on_gpu == gpu.total_layers == 31, gpu.explain()
        assert llm_engine.generate([1], max_tokens=2).output_tokens == 2
"""


@pytest.fixture
def project(pytester, monkeypatch, tmp_path):
    """A project with the embedded model; nothing of this session reaches it."""
    for name in os.environ:
        if name.startswith(("LLMPERF_", "PYTEST_ADDOPTS")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(CACHE))
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(tmp_path / "device.lock"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    pytester.path.joinpath("config.yaml").write_text(CONFIG + PERF)
    pytester.makeini(INI)
    return pytester


def run(project, source: str, *args: str) -> pytest.RunResult:
    project.makepyfile(test_it=dedent(source))
    return project.runpytest_subprocess(*args, timeout=600)


def said(result: pytest.RunResult) -> str:
    return " ".join(result.stdout.str().split())


def refused(project, *args: str) -> str:
    """Return the output of the perf test, which must fail before its body and any measurement."""
    result = run(project, ONE_TEST, "-m", "perf", "--llmperf-json", "out.json", *args)
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    for file in ("body", "out.json"):
        assert not project.path.joinpath(file).exists()
    return said(result)


def test_a_session_with_every_layer_on_the_device_is_measured(project):
    result = run(project, ONE_TEST, "-m", "perf", "--llmperf-json", "out.json")

    assert "GPU Utilization: 31/31 layers on GPU" in said(result)
    (test,) = json.loads(project.path.joinpath("out.json").read_text())["tests"]
    # Whether other processes disturb the machine does not depend on the device.
    assert test["verdict"] in ("no baseline", "invalid", "pass", "inconclusive")


def test_too_few_layers_asked_for_are_told_with_the_line_that_asks(project):
    text = refused(project, "--llmperf-set", "llm.n_gpu_layers=12")

    assert "perf.require_gpu: 12 of 31 layers are on a GPU, and all are required" in text
    assert "cause: llm.n_gpu_layers is only 12 (--llmperf-set llm.n_gpu_layers)" in text
    assert "remedy: set llm.n_gpu_layers: -1" in text
    assert re.search(r"CPU: 19 layers, model [\d.]+ MiB, KV cache [\d.]+ MiB", text)


def test_no_layer_asked_for_is_told(project):
    assert "0 of 31 layers are on a GPU" in refused(project, "--llmperf-set", "llm.n_gpu_layers=0")


def test_hidden_devices_are_told_by_the_variable_that_hides_them(project, hidden, monkeypatch):
    for name, value in hidden.items():
        monkeypatch.setenv(name, value)

    text = refused(project)

    assert "0 of 31 layers are on a GPU, and all are required" in text
    assert "cause: no visible device" in text
    assert f"{next(iter(hidden))} is ''" in text


LOSES_THE_DEVICE = """
    import os, pytest

    @pytest.mark.end_to_end
    def test_answer(llm_engine):
        llm_engine.generate([1], max_tokens=1)
        os.environ.update({hidden!r})
"""
LOST = "perf.require_gpu: 0 of 31 layers are on a GPU, and all are required"


def test_a_device_that_is_lost_before_the_measurement_is_an_error_and_no_slow_run(project, hidden):
    source = LOSES_THE_DEVICE.format(hidden=hidden)

    result = run(project, source, "-m", "perf", "--llmperf-json", "out.json")

    result.assert_outcomes(failed=1)
    (test,) = json.loads(project.path.joinpath("out.json").read_text())["tests"]
    assert test["verdict"] == "error"
    assert LOST in said(result)


def test_a_device_that_is_lost_before_a_calibration_is_no_noise(project, hidden):
    request = project.path / "request.json"
    settings = {"sessions": 1, "slowdown": 0.0, "share": 1.0, "store": False, "json": None}
    request.write_text(json.dumps(settings))
    source = LOSES_THE_DEVICE.format(hidden=hidden)

    result = run(project, source, "-m", "perf", f"--llmperf-calibrate={request}")

    result.assert_outcomes(failed=1)
    assert LOST in said(result)


def test_too_little_memory_is_told_with_what_to_make_smaller(project):
    config = CONFIG.replace("n_ctx: 256", "n_ctx: 6000000") + "  type_k: f32\n  type_v: f32\n"
    project.path.joinpath("config.yaml").write_text(config + PERF)

    assert "hint: too little memory on " in refused(project)


def test_a_base_commit_with_fewer_layers_is_a_difference_and_no_failure(project):
    config = project.path / "config.yaml"
    config.write_text(f"{CONFIG}  n_gpu_layers: 29\n{PERF}")
    project.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.end_to_end
        def test_first_token(llm_engine):
            llm_engine.generate([1], max_tokens=1)
        """
    )
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(project.path)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "Fewer layers"]):
        subprocess.run([*git, *command], check=True)
    config.write_text(CONFIG + PERF)

    result = project.runpytest_subprocess("-m", "perf", "--llmperf-against", "HEAD", timeout=600)

    assert "llm.n_gpu_layers: base 29, candidate -1" in said(result)
    assert "layers on a GPU: base 29/31, candidate 31/31" in said(result)
    assert "require_gpu" not in said(result)


def test_the_marker_holds_for_tests_that_are_no_perf_tests(project, full):
    name = full.gpu.gpus[0].name
    result = run(
        project,
        f"""
        import pytest

        @pytest.mark.gpu(layers=12)
        def test_enough(llm_engine): pass

        @pytest.mark.gpu(layers=12, device="{name.lower()}")
        def test_there(llm_engine): pass

        @pytest.mark.gpu
        def test_all(llm_engine): pass

        @pytest.mark.gpu(layers=13)
        def test_more(llm_engine): pass

        @pytest.mark.gpu(layers=12, device="no such card")
        def test_elsewhere(llm_engine): pass

        def test_unasked(llm_engine): pass
        """,
        *("--llmperf-set", "llm.n_gpu_layers=12", "--llmperf-set", "llm.split_mode=none"),
    )

    result.assert_outcomes(passed=3, errors=3)
    text = said(result)
    assert "marker 'gpu': 12 of 31 layers are on a GPU, and all are required" in text
    assert "12 of 31 layers are on a GPU, and 13 are required" in text
    assert "remedy: set llm.n_gpu_layers: -1, or 13 at least" in text
    assert f"the engine has no device 'no such card'; it has {name}" in text
