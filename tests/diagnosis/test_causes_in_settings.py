"""Causes in settings and threads: each found in a real load, and none where nothing is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llmperf.baselines.causes import beyond_cores
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.diagnosis.cause import CauseEvidence
from pytest_llmperf.diagnosis.registry import CAUSES, examine
from pytest_llmperf.diagnosis.situation import Situation, WorkloadSize

Load = Callable[..., Situation]

OLD_BUILD = "int ggml_cpu_has_avx2(void) { return 0; }\n"


def evidence(situation: Situation, name: str) -> CauseEvidence | None:
    (cause,) = (cause for cause in CAUSES if cause.name == name)
    return cause.look(situation)


def evidence_shown(situation: Situation, name: str) -> CauseEvidence:
    found = evidence(situation, name)
    assert found is not None
    # The configuration must accept the change.
    LlamaCppConfig(**{**situation.config, **found.remedy.settings})
    return found


def own(prompt: int, output: int = 8) -> WorkloadSize:
    return WorkloadSize(prompt, output, prompt + output, is_users=True)


def test_every_cause_has_a_name_and_a_title_of_its_own() -> None:
    assert len({cause.name for cause in CAUSES}) == len(CAUSES)
    assert len({cause.title for cause in CAUSES}) == len(CAUSES)


def test_the_defaults_on_this_machine_show_nothing(load: Load) -> None:
    causes = examine(load(n_ctx=2048, n_batch=1024, n_ubatch=512, use=WorkloadSize(512, 64, 576)))
    assert [found.cause.name for found in causes if found.cause.theme != "GPU"] == []


def test_more_threads_than_cpus(load: Load) -> None:
    usable = load().hardware.usable_cpus
    found = evidence_shown(load(n_threads=usable + 2), "threads_above_cores")
    assert found.certain
    assert f"n_threads {usable + 2} on {usable} usable core" in found.text
    # A report that has both says it once.
    assert [found.text] == [f.text for f in beyond_cores({"n_threads": usable + 2}, usable)]
    assert found.remedy.settings == {"n_threads": min(usable, 8)}
    assert evidence(load(), "threads_above_cores") is None


def test_fewer_threads_than_cpus_is_worth_trying(load: Load) -> None:
    situation = load(n_threads=1, n_threads_batch=1)
    larger = Situation(
        **{
            **vars(situation),
            "hardware": type(situation.hardware)(**{**vars(situation.hardware), "usable_cpus": 4}),
        }
    )
    found = evidence_shown(larger, "threads_too_few")
    assert not found.certain
    assert found.remedy.change == "n_threads: 4, n_threads_batch: 4"
    assert evidence(load(), "threads_too_few") is None


def test_a_build_for_an_older_cpu(
    load: Load, compiled: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    """The engine's own report, with a library that says it was compiled without AVX2."""
    if "avx2" not in load().hardware.cpu_instructions:
        pytest.skip("this CPU has no AVX2: no build can be below it")
    source = tmp_path / "old_build.c"
    source.write_text(OLD_BUILD)
    situation = load(env={"LD_PRELOAD": str(compiled(source, "old_build.so"))})
    found = evidence_shown(situation, "build_below_avx2")
    assert "compiled without AVX2" in found.text
    assert found.remedy.is_command
    assert "-DGGML_NATIVE=OFF" in found.remedy.change
    assert evidence(load(), "build_below_avx2") is None


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"n_batch": 1024, "n_ubatch": 32}, {"n_ubatch": 512}),
        ({"n_ubatch": 32}, {"n_batch": 512, "n_ubatch": 512}),
        ({"n_batch": 32, "n_ubatch": 32}, {"n_batch": 512, "n_ubatch": 512}),
    ],
)
def test_batches_too_small_for_the_prompt(
    load: Load, settings: Mapping[str, int], remedy: Mapping[str, int]
) -> None:
    situation = load(use=own(200), **settings)
    found = evidence_shown(situation, "batch_small")
    assert "200 tokens is computed in 7 pieces" in found.text
    assert found.remedy.settings == remedy
    assert not found.certain


def test_batches_that_hold_the_prompt_are_no_cause(load: Load) -> None:
    assert evidence(load(use=own(200)), "batch_small") is None
    assert evidence(load(use=own(24), n_ubatch=32), "batch_small") is None
    assert evidence(load(use=own(4000), n_batch=512, n_ubatch=512), "batch_small") is None


def test_flash_attention_off_where_the_cache_is_much_of_what_is_read(load: Load) -> None:
    # At 1500 tokens the cache is 33 MiB, beside 92 MiB of weights.
    found = evidence_shown(load(use=own(1500)), "flash_attention_off")
    assert "26% of what decoding reads is KV cache" in found.text
    assert found.remedy.change == "flash_attn: true"
    assert not found.certain


def test_flash_attention_is_no_cause_on_a_cpu_at_short_contexts_or_where_it_is_on(
    load: Load,
) -> None:
    assert evidence(load(use=own(100)), "flash_attention_off") is None
    assert evidence(load(use=own(1500), flash_attn=True), "flash_attention_off") is None


def test_weights_that_are_not_quantized(load: Load, tmp_path: Path) -> None:
    situation = load(use=own(300))
    info = situation.info
    assert info is not None
    assert evidence(situation, "weights_not_quantized") is None
    # As if the weights had 16 bits.
    large = replace(info, model_bytes=2 * info.parameters)
    config = {**situation.config, "model_path": str(tmp_path / "a b-F16.gguf")}
    situation = replace(situation, info=large, config=config)
    found = evidence_shown(situation, "weights_not_quantized")
    assert (
        "the weights have 16 bits: decoding reads 256.6 MiB of them for every token" in found.text
    )
    assert "and about 78.6 MiB of Q4_K_M" in found.text
    assert found.remedy.is_command
    command = f"llmperf model quantize '{tmp_path}/a b-F16.gguf' --to Q4_K_M"
    assert found.remedy.change == command
    assert not found.certain
    assert 2.9 < found.slower < 3.3
    # A file with the name that this command would give it can be tried.
    quantized = tmp_path / "a b-Q6_K.gguf"
    quantized.touch()
    found = evidence_shown(situation, "weights_not_quantized")
    assert found.remedy.settings == {"model_path": str(quantized)}
    assert "of Q6_K" in found.text
    # Such weights need not be read from memory.
    small = replace(situation, info=replace(large, model_bytes=50 << 20, parameters=25 << 20))
    assert evidence(small, "weights_not_quantized") is None


def test_a_context_far_larger_than_used(load: Load) -> None:
    found = evidence_shown(load(n_ctx=8192, use=own(300)), "context_large")
    assert "n_ctx: 8,192 where the workload uses 308 tokens: 168.8 MiB" in found.text
    assert found.remedy.settings == {"n_ctx": 512}
    # It takes memory, which is not short here.
    assert not found.certain
    assert found.saves == "168.8 MiB of memory"


def test_a_context_is_not_too_large_by_a_workload_that_was_made_up(load: Load) -> None:
    assert evidence(load(n_ctx=8192, use=WorkloadSize(300, 8, 308)), "context_large") is None
    assert evidence(load(n_ctx=512, use=own(300)), "context_large") is None


def test_a_context_that_no_memory_holds_is_named_where_the_load_failed(load: Load) -> None:
    situation = load(n_ctx=50_000_000)
    assert situation.info is None
    found = evidence_shown(situation, "context_large")
    assert "the KV cache of 1.0 TiB for n_ctx: 50,000,000 could not be allocated" in found.text
    assert found.certain
    fits = found.remedy.settings["n_ctx"]
    assert 256 <= fits <= 8192
    assert load(n_ctx=fits).info is not None
