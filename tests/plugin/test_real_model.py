"""Whole sessions with a real model in a real llama.cpp."""

from __future__ import annotations

from typing import Any

import pytest
from plugin_projects import CACHE, REAL, all_output
from stored_sessions import scale_samples

from pytest_llmperf.config.embedded import EMBEDDED, models_dir


@pytest.fixture
def real(project, quiet_machine):
    """A project whose engine is llama.cpp with the embedded model."""
    if not (models_dir(CACHE) / EMBEDDED["smollm2-135m"].file_name).exists():
        pytest.skip("the embedded model is not in the cache")
    project.configure(REAL)
    return project


def test_every_kind_of_request_is_measured(real):
    real.write(
        test_it="""
        @pytest.mark.tokens_per_sec(min=0.001)
        @pytest.mark.first_token(max="10h")
        @pytest.mark.perf_metric("prefill_tokens_per_sec", min=0.001)
        def test_x(llm_engine):
            answer = llm_engine.generate("The capital of France is", max_tokens=4)
            assert answer.output_tokens == 4
            assert llm_engine.chat([{"role": "user", "content": "Hi"}], max_tokens=3).text
            with llm_engine.stream("One, two,", max_tokens=3) as stream:
                assert len(list(stream)) == 3
            assert "SmolLM2" in llm_engine.info.model_name
        """
    )
    result = real.perf()
    result.assert_outcomes(passed=1)
    (test,) = real.session()["tests"]
    values = {m["name"]: m["value"] for m in test["metrics"]}
    assert test["workload"]["summary"].startswith("3 requests")
    assert min(values.values()) > 0
    assert {"tokens_per_sec", "first_token", "prefill_tokens_per_sec"} <= values.keys()


def test_a_recorded_baseline_names_model_and_build(real):
    real.write(
        test_it="""
        @pytest.mark.perf(tolerance="99%")
        def test_x(llm_engine):
            llm_engine.generate("Once", max_tokens=3)
        """
    )
    real.perf("--llmperf-record")
    assert real.session()["session"]["recorded_to"]
    (path,) = real.baselines()
    text = path.read_text()
    assert EMBEDDED["smollm2-135m"].sha256 in text
    assert '"engine": "llama_cpp"' in text
    second = real.perf()
    assert second.ret == 0
    # On a busy machine one process may be suspect.
    assert real.verdicts()["test_x"] != "no baseline"


def test_two_configurations_are_compared(real):
    # One process after the other: turns of tokens take seconds, and have a test of their own.
    config = f"{REAL}  turns: processes\n"
    real.configure(config)
    real.configure(config.replace("n_ctx: 256", "n_ctx: 512"), "other.yaml")
    real.write(
        test_it="""
        @pytest.mark.end_to_end(tolerance="99%")
        def test_x(llm_engine):
            llm_engine.generate("Once", max_tokens=3)
        """
    )
    result = real.perf("--llmperf-against-config", "other.yaml")
    assert real.verdicts() == {"test_x": "pass"}
    said = all_output(result)
    assert "llm.n_ctx: base 512, candidate 256" in said


def on_vulkan(record: dict[str, Any]) -> None:
    """Let the record be of this machine's Vulkan device in software, and many times faster."""
    assert record["loaded"]["layers_on_gpu"] == 0
    strict = record["machine"]["strict"]
    host = ("cpu family/model/stepping", "cpu instructions", "memory GiB")
    record["machine"]["info"] |= {item: strict.pop(item) for item in host}
    strict |= {"backend": "vulkan", "gpus": ["llvmpipe (LLVM 15.0.6, 256 bits)"]}
    strict |= {"gpu memory GiB": [None], "gpu MIG profile": [None], "gpu power limit W": [None]}
    record["provenance"]["backend"] = "vulkan"
    record["loaded"]["layers_on_gpu"] = record["loaded"]["total_layers"]
    scale_samples(0.01)(record)


def test_a_build_without_gpu_code_is_judged_by_the_other_backends_baseline(real, quiet_machine):
    real.configure(REAL.replace("processes: 1", "processes: 3"))
    real.write(
        test_it="""
        @pytest.mark.end_to_end
        def test_x(llm_engine):
            llm_engine.generate("Once", max_tokens=3)
        """
    )
    real.perf("--llmperf-record")
    real.edit_baseline(on_vulkan)
    real.move_baseline("1x-llvmpipe_vulkan")

    result = real.perf()

    assert real.verdicts() == {"test_x": "regressed"}
    (test,) = real.session()["tests"]
    assert test["causes"][0] == "CPU-only build; the baseline ran on vulkan"
    assert test["causes"][1].startswith("0 of 31 layers on the GPU, the baseline had 31: CPU-only")
    assert {entry["name"] for entry in test["fitness"]} == {"other_backend", "other_layers"}
    said = all_output(result)
    assert "judged by the baseline of 1x-llvmpipe_vulkan: the same hardware with another" in said
    assert "likely caused by the configuration or the build: - CPU-only build;" in said
