"""A perf test over a grid of engine settings: each cell is a test with its own settings."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from plugin_projects import Project, all_output
from tiny_models import tiny_llama

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.engine.worker_process import WorkerProcess

TINY = """
llm:
  model_path: {model}
  n_ctx: 1024
  n_batch: 64
  max_tokens: 4
  n_threads: 1
  n_threads_batch: 1
perf:
  processes: 1
  max_processes: 1
  iterations: 3
  warmup_max: 1
"""
#: A context too large for any memory: the many layers of the deep model take 8 KiB per token.
HUGE = 50_000_000


@pytest.fixture
def swept(project: Project, quiet_machine: None) -> Project:
    """A project with a tiny real model."""
    project.configure(TINY.format(model=tiny_llama()))
    return project


@pytest.fixture
def deep(swept: Project) -> Project:
    """The same project with a model of many layers."""
    swept.configure(TINY.format(model=tiny_llama(layers=64, name="deep-llama")))
    return swept


def reported(project: Project) -> dict[str, dict[str, Any]]:
    """Return the tests of the last JSON report, by the name after ``::``."""
    return {t["nodeid"].partition("::")[2]: t for t in project.session()["tests"]}


def test_each_cell_is_a_test_with_its_own_engine_verdict_and_baseline(swept: Project) -> None:
    swept.write(
        test_it="""
        @pytest.mark.perf_sweep(n_ctx=[256, 512], n_batch=[16, 32])
        @pytest.mark.tokens_per_sec(min=0.001)
        def test_x(llm_engine, request):
            info = llm_engine.info
            assert f"[n_ctx={info.n_ctx}-n_batch={info.n_batch}]" in request.node.nodeid
            assert info.n_ubatch == min(info.n_batch, 512)
            llm_engine.generate("once upon a time", max_tokens=3)

        @pytest.mark.perf
        def test_plain(llm_engine):
            assert llm_engine.info.n_ctx == 1024
            llm_engine.generate("once upon a time", max_tokens=3)
        """
    )
    swept.perf("--llmperf-record").assert_outcomes(passed=5)
    cells = [f"test_x[n_ctx={c}-n_batch={b}]" for c in (256, 512) for b in (16, 32)]
    tests = reported(swept)
    assert list(tests) == [*cells, "test_plain"]
    assert tests[cells[1]]["settings"] == {"n_ctx": 256, "n_batch": 32}
    assert tests["test_plain"]["settings"] == {}
    (path,) = swept.baselines()
    record = json.loads(path.read_text())
    stored = {nodeid.partition("::")[2]: test for nodeid, test in record["tests"].items()}
    assert stored[cells[1]]["settings"] == {"n_batch": 32, "n_ctx": 256, "n_ubatch": 32}
    assert stored[cells[1]]["loaded"]["threads"] == 1
    assert not {"settings", "loaded"} & stored["test_plain"].keys()
    assert record["config"]["n_ctx"] == 1024

    swept.perf("-k", "test_x and n_batch:32").assert_outcomes(passed=2, deselected=3)
    for name, test in reported(swept).items():
        (rate,) = [m for m in test["metrics"] if m["name"] == "tokens_per_sec"]
        assert rate["baseline"]["sessions"] == 1
        assert test["differences"] == [], name


def test_cells_share_a_process_where_only_the_context_differs(
    swept: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[str] = []
    spawn = WorkerProcess._spawn

    def noting(self: WorkerProcess) -> Any:
        spawned.append(str(self._spec.config["use_mmap"]))
        return spawn(self)

    monkeypatch.setattr(WorkerProcess, "_spawn", noting)
    swept.write(
        test_it="""
        @pytest.mark.perf_sweep(n_ctx=[256, 512], use_mmap=[True, False])
        @pytest.mark.parametrize("prompt", ["a", "b"])
        @pytest.mark.tokens_per_sec(min=0.001)
        def test_x(llm_engine, prompt):
            assert llm_engine.info.use_mmap in (True, False)
            llm_engine.generate(prompt, max_tokens=3)
        """
    )
    result = swept.perf()
    result.assert_outcomes(passed=8)
    # For each way to load the model, one process for the bodies and one for the round.
    assert sorted(spawned) == ["False", "False", "True", "True"]
    first = "test_x[n_ctx=256-use_mmap=true-a]"
    assert next(iter(reported(swept))) == first
    said = result.outlines
    start = said.index("test_it.py::test_x[a]")
    assert said[start + 2].split()[:2] == ["n_ctx=256", "use_mmap=True"]
    grid = said[start + 2 : start + 6]
    assert [line.split()[0] for line in grid] == ["n_ctx=256", "n_ctx=512"] * 2
    assert any("*" in line for line in grid)
    assert any(line.startswith("* fastest here, not proven") for line in said)


def test_impossible_cells_are_skipped_and_unloadable_ones_fail_alone(deep: Project) -> None:
    deep.write(
        test_it=f"""
        @pytest.mark.perf_sweep(n_ctx=[{HUGE}, 256], n_ubatch=[16, 4096], type_v=["q8_0", "f16"])
        def test_x(llm_engine):
            llm_engine.generate("once", max_tokens=3)
        """
    )
    result = deep.perf("-rs")
    result.assert_outcomes(passed=1, errors=1, skipped=6)
    said = " ".join(result.outlines)
    assert "n_ubatch: n_ubatch (4096) must not be larger than n_batch (64)" in said
    assert "type_v: q8_0 values need flash attention" in said
    assert f"_ ERROR at setup of test_x[n_ctx={HUGE}-n_ubatch=16-type_v=f16] _" in said
    assert "llama.cpp could not load" in said
    assert list(reported(deep)) == ["test_x[n_ctx=256-n_ubatch=16-type_v=f16]"]


def test_a_cell_that_no_longer_loads_is_an_error_of_its_own(
    deep: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure = EngineClient.configure
    recorded = deep.path / "recorded"

    def failing(self: EngineClient, spec: LaunchSpec) -> bool:
        if recorded.exists() and spec.config["n_ctx"] == 512:
            spec = replace(spec, config={**spec.config, "n_ctx": HUGE})
        return configure(self, spec)

    start = EngineClient.start.__func__  # type: ignore[attr-defined]

    def starting(cls: type[EngineClient], spec: LaunchSpec) -> EngineClient:
        if recorded.exists() and spec.config["n_ctx"] == 512:
            spec = replace(spec, config={**spec.config, "n_ctx": HUGE})
        client: EngineClient = start(cls, spec)
        return client

    monkeypatch.setattr(EngineClient, "configure", failing)
    monkeypatch.setattr(EngineClient, "start", classmethod(starting))
    deep.write(
        test_it=f"""
        import pathlib

        @pytest.mark.perf_sweep(n_ctx=[256, 512, 768])
        @pytest.mark.tokens_per_sec(min=0.001)
        def test_x(llm_engine):
            llm_engine.generate("once", max_tokens=3)
            if llm_engine.info.n_ctx == 768:
                pathlib.Path({str(recorded)!r}).touch()
        """
    )
    deep.perf().assert_outcomes(passed=2, failed=1)
    found = {name: test["verdict"] for name, test in reported(deep).items()}
    assert [name for name, verdict in found.items() if verdict == "error"] == ["test_x[n_ctx=512]"]
    assert len(found) == 3


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("[512, 1024]", "takes settings by name: perf_sweep(n_batch=[512, 1024])"),
        ("n_batch=512", "n_batch: expected a list of values, got 512"),
        ("n_batch=[]", "n_batch: expected a list of values, got []"),
        ("n_batch=[64, 64]", "n_batch: names 64 twice"),
        ("n_bach=[64]", "n_bach: unknown setting; did you mean 'n_batch'?"),
        ("n_batch=['many']", "n_batch: expected an integer >= 1, got 'many'"),
        ("type_k=['q9']", "type_k: expected f32, f16"),
        ("flash_attn=[3]", "flash_attn: expected true or false, got 3"),
        ("model_path=['a.gguf']", "model_path: a session has one model"),
        ("max_tokens=[4]", "max_tokens: it decides what is asked"),
        ("extra=[{}]", "extra: name its arguments one by one"),
        ("**{'extra.rope_base': [1.0]}", "extra.rope_base: the installed llama_cpp.Llama takes"),
    ],
)
def test_a_wrong_sweep_is_a_usage_error(swept: Project, marker: str, said: str) -> None:
    swept.write(
        test_it=f"""
        @pytest.mark.perf_sweep({marker})
        def test_x(llm_engine):
            llm_engine.generate("once")
        """
    )
    result = swept.here("-m", "perf")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.startswith("ERROR")]
    assert line.startswith("ERROR: llmperf: test_it.py::test_x: marker 'perf_sweep' ")
    assert said in line


def test_a_sweep_where_it_makes_no_tests_is_a_usage_error(swept: Project) -> None:
    swept.write(
        test_it="""
        import unittest

        class TestOld(unittest.TestCase):
            @pytest.mark.perf_sweep(n_ctx=[256])
            def test_x(self):
                pass

        @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.perf_sweep(n_ctx=[64]))])
        def test_y(llm_engine, x):
            pass
        """
    )
    result = swept.here("-m", "perf", "--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = "\n".join(result.errlines)
    assert "TestOld::test_x: marker 'perf_sweep' creates no tests here" in said
    assert "test_y: marker 'perf_sweep' creates no tests here" in said
    # Without -m perf, nobody asks for these tests.
    assert swept.here().ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_an_application_can_not_be_swept(project: Project) -> None:
    project.write(
        test_it="""
        @pytest.mark.perf_sweep(n_threads=[1, 2])
        def test_x(llm_engine):
            llm_engine.generate("once")
        """
    )
    result = project.here("-m", "perf")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.startswith("ERROR")]
    assert "engine app does not pass settings of llm on to the application" in line
    assert not project.was_loaded


def test_the_closest_marker_of_a_setting_counts(swept: Project) -> None:
    swept.write(
        test_it="""
        pytestmark = pytest.mark.perf_sweep(n_ctx=[64, 128], n_batch=[16])

        class TestIt:
            @pytest.mark.perf_sweep(n_ctx=[192])
            def test_x(self, llm_engine):
                llm_engine.generate("once")

            def test_y(self, llm_engine):
                llm_engine.generate("once")
        """
    )
    result = swept.here("-m", "perf", "--collect-only", "-q", "-k", "n_ctx:192 or n_ctx:64")
    collected = [line for line in result.outlines if "::" in line]
    assert collected == [
        "test_it.py::TestIt::test_x[n_ctx=192-n_batch=16]",
        "test_it.py::TestIt::test_y[n_ctx=64-n_batch=16]",
    ]


def test_both_sides_of_a_comparison_get_the_cells_settings(swept: Project) -> None:
    text = TINY.format(model=tiny_llama())
    swept.configure(
        text.replace("n_ctx: 1024", "n_ctx: 2048\n  n_ubatch: 32").replace(
            "n_threads_batch: 1", "n_threads_batch: 2"
        ),
        "other.yaml",
    )
    swept.write(
        test_it="""
        @pytest.mark.perf_sweep(n_ctx=[256, 512], n_batch=[64, 16])
        @pytest.mark.end_to_end(tolerance="99%")
        def test_x(llm_engine):
            llm_engine.generate("once", max_tokens=3)
        """
    )
    result = swept.perf("--llmperf-against-config", "other.yaml", "--llmperf-set=perf.max_pairs=1")
    tests = reported(swept)
    for batch, kinds in ((64, {"inconclusive", "pass"}), (16, {"error"})):
        for context in (256, 512):
            test = tests[f"test_x[n_ctx={context}-n_batch={batch}]"]
            assert test["verdict"] in kinds
            lines = " ".join(test["differences"])
            assert "n_ctx" not in lines
            assert ("llm.n_ubatch: base 32, candidate 64" in lines) == (batch == 64)
    said = all_output(result)
    assert "base (other.yaml) can't have these settings: n_ubatch: n_ubatch (32) must not" in said


def test_stored_cells_of_other_settings_are_never_compared(swept: Project) -> None:
    swept.write(
        test_it="""
        @pytest.mark.perf_sweep(n_batch=[16])
        def test_x(llm_engine):
            llm_engine.generate("once", max_tokens=3)
        """
    )
    swept.perf("--llmperf-record")
    (path,) = swept.baselines()
    record = json.loads(path.read_text())
    assert "loaded" not in record
    # Settings that the sweep does not name may change: the test is judged, the change named.
    swept.perf("--llmperf-set=llm.n_ctx=256")
    (test,) = reported(swept).values()
    assert test["differences"] == ["llm.n_ctx: 1024 → 256"]
    (stored,) = record["tests"].values()
    stored["settings"]["n_batch"] = 32
    path.write_text(json.dumps(record))
    result = swept.perf()
    (test,) = reported(swept).values()
    assert test["verdict"] == "no baseline"
    said = all_output(result)
    assert "measured with other engine settings (n_batch=32, n_ubatch=16)" in said


def test_a_search_for_settings_refuses_tests_that_have_their_own(swept: Project) -> None:
    swept.write(
        test_it="""
        @pytest.mark.perf_sweep(n_batch=[16, 32])
        def test_x(llm_engine):
            llm_engine.generate("once upon a time", max_tokens=3)
        """
    )
    result = swept.perf("--llmperf-tune=request.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = all_output(result)
    assert "llmperf tune: marker 'perf_sweep' gives test_it.py::test_x[n_batch=16] engine" in said
