"""Tests with the marker ``quality``: refused markers, verdicts, reports."""

from __future__ import annotations

import json

import pytest
from plugin_projects import all_output
from tiny_models import tiny_llama

CONFIG = """
llm:
  model_path: {model}
  n_ctx: 256
  n_batch: 64
  n_ubatch: 64
  max_tokens: 8
  n_threads: 1
  n_threads_batch: 1
  flash_attn: true
  type_k: {cache}
  type_v: {cache}
perf:
  processes: 1
  iterations: 3
  warmup_max: 1
quality:
  reference: {reference}
"""

TEST = """
@pytest.mark.quality({limits})
def test_answer(llm_engine):
    for word in ("bottles", "harbours", "cranes"):
        llm_engine.generate(f"Tell me about {{word}}, please.", max_tokens=40)
"""


@pytest.fixture
def tiny(project, quiet_machine, monkeypatch, tmp_path):
    """A function that makes a project with a tiny model and its own folder of stored scores."""
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(tmp_path / "cache"))

    def make(limits: str, cache: str = "q4_0", reference: str = "{type_k: f16, type_v: f16}"):
        project.configure(CONFIG.format(model=tiny_llama(seed=1), cache=cache, reference=reference))
        project.write(test_it=TEST.format(limits=limits))
        return project

    return make


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ("max_kld=0.1", "has an unknown argument 'max_kld'; did you mean 'max_kl'?"),
        ("0.1", "takes its limits by name: quality(max_kl=0.1)"),
        ("", "needs a limit: quality(max_kl=0.02)"),
        ("max_kl=0", "max_kl: expected nats above 0 such as 0.02, got 0"),
        ("max_kl='2%'", "max_kl: expected nats above 0 such as 0.02, got '2%'"),
        ("min_top1=95", "min_top1: expected a percentage such as 5% or a fraction below 1"),
    ],
)
def test_a_wrong_marker_is_refused_by_name(tiny, limits: str, problem: str) -> None:
    result = tiny(limits).perf()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"test_it.py::test_answer: marker 'quality' {problem}" in all_output(result)


def test_a_missing_reference_is_refused_before_anything_loads(tiny) -> None:
    result = tiny("max_kl=0.02", reference="{}").perf()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "marker 'quality': quality is compared with a reference, and the configuration" in (
        all_output(result)
    )
    result = tiny("max_kl=0.02", reference="{model_path: none.gguf}").perf()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "quality.reference.model_path: " in all_output(result)
    assert "no such file" in all_output(result)


def test_kept_quality_passes_and_is_reported(tiny) -> None:
    project = tiny("max_kl=50.0, min_top1='1%', max_perplexity_increase='99%'")
    result = project.perf("--junitxml=junit.xml", "-W", "error", "-v")
    result.assert_outcomes(passed=1)
    (test,) = project.session()["tests"]
    checks = {check["name"]: check for check in test["quality"]["checks"]}
    assert {check["verdict"] for check in checks.values()} == {"pass"}
    kl = checks["kl_divergence"]
    assert 0 < kl["low"] < kl["value"] < kl["high"] < kl["limit"] == 50.0
    assert kl["unit"] == "nats"
    figures = test["quality"]["figures"]
    assert figures["kl"] == kl["value"]
    assert figures["tokens"] > 100
    assert "kl_divergence" not in {metric["name"] for metric in test["metrics"]}
    junit = (project.path / "junit.xml").read_text()
    assert 'name="llmperf.kl_divergence.verdict" value="pass"' in junit
    text = all_output(result)
    assert "KL divergence" in text
    assert "quality kept: " in text
    assert "greedy answers agree for" in text


def test_lost_quality_fails_and_an_undecided_one_warns(tiny) -> None:
    project = tiny("max_kl=0.000001")
    result = project.perf()
    result.assert_outcomes(failed=1)
    assert "missed: KL divergence: quality lost: " in all_output(result)
    assert project.verdicts() == {"test_answer": "missed"}
    value = json.loads((project.path / "out.json").read_text())["tests"][0]["quality"]
    limit = value["checks"][0]["value"] * 1.001
    # The scores are stored: nothing is scored again.
    result = tiny(f"max_kl={limit!r}").perf()
    assert "scoring" not in all_output(result)
    result.assert_outcomes(passed=1, warnings=1)
    assert "inconclusive, KL divergence: " in all_output(result)
    result = tiny(f"max_kl={limit!r}").perf("--llmperf-strict")
    result.assert_outcomes(failed=1)
    assert "another run gives the same quality" in all_output(result)


def test_the_same_settings_lose_nothing(tiny) -> None:
    project = tiny("max_kl=0.000001", cache="f16")
    project.perf().assert_outcomes(passed=1)
    (test,) = project.session()["tests"]
    assert test["quality"]["figures"]["kl"] == 0.0
    assert test["quality"]["figures"]["top1"] == 1.0


def test_each_cell_of_a_sweep_is_scored_with_its_own_settings_against_one_reference(tiny) -> None:
    # The session's own quantized cache is neither scored nor used as the reference.
    project = tiny("max_kl=50.0", reference="{type_k: f16, type_v: f16}")
    sweep = 'perf_sweep(type_k=["f16", "q4_0"], type_v=["f16"], n_ctx=[512])'
    test = project.path / "test_it.py"
    test.write_text(
        test.read_text().replace(
            "@pytest.mark.quality", f"@pytest.mark.{sweep}\n@pytest.mark.quality"
        )
    )
    # More than the session's own context holds.
    test.write_text(test.read_text().replace("Tell me", "Tell me, " + "please, " * 35))
    project.perf().assert_outcomes(passed=2)
    quality = {cell["settings"]["type_k"]: cell["quality"] for cell in project.session()["tests"]}
    assert quality["f16"]["figures"]["kl"] == 0.0
    assert quality["q4_0"]["figures"]["kl"] > 0.0


def test_a_text_of_the_configuration_is_scored_instead_of_prompts(tiny) -> None:
    project = tiny("max_kl=50.0")
    config = project.path / "config.yaml"
    config.write_text(f"{config.read_text()}  text: words.txt\n")
    project.path.joinpath("words.txt").write_text("Green bottles, blue bottles. " * 20)
    project.perf().assert_outcomes(passed=1)
    (test,) = project.session()["tests"]
    # Two chunks of 256 bytes, of which positions 128 to 254 are scored.
    assert test["quality"]["figures"]["tokens"] == 2 * 127


def test_a_reference_that_cannot_be_compared_is_an_error(tiny) -> None:
    broken = tiny("max_kl=0.02").path / "broken.gguf"
    broken.write_bytes(tiny_llama(seed=1).read_bytes()[:5000])
    project = tiny("max_kl=0.02", reference=f"{{model_path: {broken.name}}}")
    result = project.perf()
    result.assert_outcomes(failed=1)
    assert "error: KL divergence: quality could not be measured: llama.cpp could not load" in (
        all_output(result)
    )


def test_another_projects_marker_of_this_name_is_none_of_ours(project) -> None:
    project.ini("markers = quality: of this project")
    project.write(
        test_it="""
        @pytest.mark.quality("high")
        def test_other():
            pass
        """
    )
    project.here().assert_outcomes(passed=1)
