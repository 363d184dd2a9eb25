"""Results of searches, as `llmperf tune` returns them, with realistic values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.tune.result import (
    Configuration,
    Confirmation,
    Gain,
    Level,
    MetricChange,
    Point,
    Target,
    TuneResult,
)

TEST = "tests/perf/test_chat.py::test_short_answer"
CHANGED = {"n_batch": 512, "flash_attn": True, "type_k": "q8_0"}


def level(metric: str, value: float) -> Level:
    return Level(metric, value, TEST)


def change(
    metric: str, now: float, new: float, effect: float, width: float | None = 0.01
) -> MetricChange:
    low, high = (None, None) if width is None else (effect - width, effect + width)
    return MetricChange(metric, new, now, effect, low, high, TEST)


def result(**others: Any) -> TuneResult:
    """Return the result of a three-phase search whose settings meet one of two targets."""
    settings = LlamaCppConfig(n_threads=8, n_threads_batch=8).resolved()
    settings["extra"] = {"api_key": "secret", "rope_freq_base": 0.0}
    before = Configuration(
        settings, levels=(level("tokens_per_sec", 41.2), level("first_token", 0.812))
    )
    winner = Configuration(
        {**settings, **CHANGED},
        CHANGED,
        (level("tokens_per_sec", 63.9), level("first_token", 0.604)),
        point=5,
        model_file="/home/me/models/a.gguf",
    )
    gains = (
        Gain(
            change("tokens_per_sec", 41.2, 63.9, -0.355),
            True,
            "improved",
            log_evidence=12.1,
            log_threshold=5.3,
            objective=True,
        ),
        Gain(change("first_token", 0.812, 0.604, -0.256, 0.031), True, "improved"),
        Gain(change("gpu_memory", 5.1e9, 5.4e9, 0.06, None), False, "no proven improvement"),
    )
    points = (
        Point(1, 1, {"flash_attn": True}, "measured", "", (
            change("tokens_per_sec", 41.2, 49.6, -0.17), change("first_token", 0.81, 0.77, -0.05),
        ), 0, 4, 31.0, True, "flash_attention_off", -0.18,
            (level("tokens_per_sec", 49.6), level("first_token", 0.771))),
        Point(2, 1, {"flash_attn": True, "n_threads": 16}, "lost", "tokens/s is far slower",
              (change("tokens_per_sec", 49.6, 11.3, 3.39, None),), 1, 1, 22.0),
        Point(3, 1, {"flash_attn": True, "n_ctx": 131072}, "does not fit",
              "needs 21.4 GiB of GPU memory, 15.2 GiB are free"),
        Point(4, 2, {"flash_attn": True, "model_path": "models/a|b `x` <i>_Q8_.gguf"}, "failed",
              "the engine crashed with SIGSEGV"),
        Point(5, 3, CHANGED, "measured", "", (change("tokens_per_sec", 49.6, 64.1, -0.23),),
              1, 9, 101.0, True, "neighbour", -0.44,
              (level("tokens_per_sec", 64.1), level("first_token", 0.602))),
        Point(6, 3, {**CHANGED, "n_batch": 2048}, "measured", "",
              (change("tokens_per_sec", 64.1, 64.0, 0.002),), 5, 6, 80.0),
    )  # fmt: skip
    whole = TuneResult(
        before=before,
        winner=winner,
        confirmed=Confirmation(
            True, gains, 12, 190.5, 0.01,
            "improved: tokens/s 35.5% faster [34.5% to 36.5%]",
        ),
        conclusion="improved: tokens/s 35.5% faster [34.5% to 36.5%]; 1 of 2 targets is met",
        targets=(
            Target("tokens_per_sec", 60.0, "missed", "met", 41.2, 63.9, TEST),
            Target("first_token", 0.5, "missed", "missed", 0.812, 0.604, TEST),
        ),
        points=points,
        phases=(1, 2, 3),
        pareto=(0, 1, 5),
        pareto_metrics=("tokens_per_sec", "first_token"),
        objective=("tokens_per_sec",),
        seconds=432.0,
        budget=600.0,
        study="chat",
        storage="postgresql://me:hunter2@db/optuna",
        seed=7,
        machine="epyc-7763_rtx-4090",
        model="Llama-3.1-8B-Instruct Q4_K_M",
        engine="llama_cpp 0.3.36",
        workload=("tests/perf/test_chat.py::test_short_answer: 1 request, 256 output tokens",),
        notes=("the GPU was at 78 °C | <b>once</b>",),
    )  # fmt: skip
    return replace(whole, **others)


def nothing_found() -> TuneResult:
    """Return the result of a search whose best point was not confirmed."""
    improved = result()
    gains = (Gain(change("tokens_per_sec", 41.2, 41.5, -0.008, 0.012), False, "no proven"),)
    confirmed = Confirmation(False, gains, 20, 300.0, 0.01, "no proven improvement: too small")
    targets = tuple(replace(t, after="unknown", value_after=None) for t in improved.targets)
    return replace(
        improved, winner=None, confirmed=confirmed, targets=targets, pareto=(0,), notes=(),
        conclusion="no proven improvement: today's settings stay",
    )  # fmt: skip
