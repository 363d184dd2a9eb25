"""The quality of a configuration's answers as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.metrics import Unit
from pytest_llmperf.text import columns, wrap_words
from pytest_llmperf.units import format_quantity, format_with_interval

if TYPE_CHECKING:
    from pytest_llmperf.quality.figures import Interval, QualityResult


def render_quality(
    result: QualityResult, text: str, differences: Sequence[str], width: int
) -> list[str]:
    """Draw all figures as lines; sentences are wrapped at ``width`` columns.

    Args:
        result: the figures.
        text: name of the scored text.
        differences: settings in which the reference differs, ``type_k: f16, candidate q4_0``.
        width: columns of the terminal.
    """
    lead = (
        f"{result.candidate} compared with the reference {result.reference}: "
        f"{result.tokens:,} positions of {text}, in {result.blocks} blocks"
    )
    lines = wrap_words(lead, width)
    for difference in differences:
        lines += wrap_words(difference, width, first="  ", indent="    ")
    if not differences and result.candidate == result.reference:
        lines += wrap_words("both have the same settings", width, first="  ")
    rows = (
        ("figure", "value [95% interval]"),
        ("KL divergence", _with(result.kl, result.kl_interval, Unit.NATS)),
        ("perplexity", f"{result.perplexity:.4g} (reference {result.reference_perplexity:.4g})"),
        (
            "perplexity increase",
            _with(result.perplexity_increase, result.perplexity_interval, Unit.RATIO),
        ),
        ("same top token", _with(result.top1, result.top1_interval, Unit.RATIO)),
        (
            "greedy agreement",
            f"{result.greedy_agreement:.1f} of {result.greedy_tokens:.1f} tokens on average",
        ),
    )
    lines += ["", *columns(rows, 3), ""]
    if result.from_cache:
        lines += wrap_words("measured before with the same model, build and settings", width)
    for note in result.notes:
        lines += wrap_words(note, width, first="note: ", indent="      ")
    return lines


def _with(value: float, interval: Interval, unit: Unit) -> str:
    if interval is None:
        return format_quantity(value, unit)
    return format_with_interval(value, *interval, unit)
