"""Verdicts on quality: the interval decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.gate.verdict import VerdictKind, verdict_fails
from pytest_llmperf.quality.figures import QualityResult
from pytest_llmperf.quality.limits import QualityLimits, failed, figure_lines, judge, summary_of

RESULT = QualityResult(
    tokens=1020,
    blocks=32,
    perplexity=12.5,
    reference_perplexity=12.0,
    perplexity_increase=0.0417,
    perplexity_interval=(0.03, 0.053),
    kl=0.02,
    kl_interval=(0.018, 0.022),
    kl_bound=0.019,
    kl_error=0.001,
    top1=0.93,
    top1_interval=(0.91, 0.947),
    greedy_agreement=10.5,
    greedy_tokens=32.0,
    reference="f16.gguf",
    candidate="q4.gguf",
)


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({"max_kl": 0.022}, VerdictKind.PASS),
        ({"max_kl": 0.03}, VerdictKind.PASS),
        ({"max_kl": 0.021}, VerdictKind.INCONCLUSIVE),
        ({"max_kl": 0.018}, VerdictKind.INCONCLUSIVE),
        ({"max_kl": 0.017}, VerdictKind.MISSED),
        ({"max_perplexity_increase": 0.06}, VerdictKind.PASS),
        ({"max_perplexity_increase": 0.05}, VerdictKind.INCONCLUSIVE),
        ({"max_perplexity_increase": 0.01}, VerdictKind.MISSED),
        ({"min_top1": 0.9}, VerdictKind.PASS),
        ({"min_top1": 0.94}, VerdictKind.INCONCLUSIVE),
        ({"min_top1": 0.95}, VerdictKind.MISSED),
    ],
)
def test_the_interval_decides(limits: dict[str, float], kind: VerdictKind) -> None:
    (check,) = QualityLimits(**limits).checks
    verdict = judge(check, RESULT)
    assert verdict.kind is kind
    assert verdict_fails(verdict) is (kind is VerdictKind.MISSED)
    assert verdict.reasons[0].kind is kind


def test_every_limit_is_a_check_of_its_own() -> None:
    limits = QualityLimits(max_kl=0.03, max_perplexity_increase=0.06, min_top1=0.9)
    assert [check.metric.name for check in limits.checks] == [
        "kl_divergence",
        "perplexity_increase",
        "top1_agreement",
    ]
    assert len({check.metric.quantity for check in limits.checks}) == 3


def test_a_verdict_names_the_figure_its_interval_and_the_limit() -> None:
    (check,) = QualityLimits(max_kl=0.017).checks
    assert judge(check, RESULT).explanation == (
        "quality lost: 0.0200 [0.0180, 0.0220] nats, must be at most 0.017 nats; "
        "1,020 positions, compared with f16.gguf"
    )
    (check,) = QualityLimits(min_top1=0.9).checks
    assert judge(check, RESULT).claim == "quality kept: 93.0 [91.0, 94.7] %, must be at least 90%"
    summary = summary_of(check, RESULT)
    assert (summary.value, summary.low, summary.iterations) == (0.93, 0.91, 1020)


def test_an_undecided_verdict_says_what_it_takes() -> None:
    (check,) = QualityLimits(max_kl=0.021).checks
    # Half the interval is 0.002, the limit 0.001 away: four times the text, and half as much again.
    assert "about 6,200 positions instead of 1,020 would decide" in judge(check, RESULT).claim
    (check,) = QualityLimits(max_kl=0.02).checks
    assert "which no amount of text decides" in judge(check, RESULT).claim
    few = replace(RESULT, tokens=40, blocks=1, kl_interval=None)
    assert "0.0200 nats, must be at most 0.02 nats; 40 positions are too few" in (
        judge(check, few).claim
    )
    assert judge(check, few).kind is VerdictKind.INCONCLUSIVE


def test_what_could_not_be_measured_fails() -> None:
    (check,) = QualityLimits(max_kl=0.02).checks
    verdict = failed(check, "the model does not fit")
    assert verdict.kind is VerdictKind.ERROR
    assert verdict.explanation == "quality could not be measured: the model does not fit"


def test_all_figures_are_told_in_one_line() -> None:
    (line,) = figure_lines(RESULT)
    assert line == (
        "quality of q4.gguf compared with f16.gguf, 1,020 positions: perplexity 12.5 (reference "
        "12), KL divergence 0.0200 [0.0180, 0.0220] nats, perplexity increase 4.2 [3.0, 5.3] %, "
        "same top token 93.0 [91.0, 94.7] %, greedy answers agree for 10.5 of 32 tokens"
    )
