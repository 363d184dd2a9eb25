"""One test of the page: a summary line with its verdict and reason, and the details below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import count, percent, plural
from pytest_llmperf.metric_types import Unit
from pytest_llmperf.report.forms.headline import NOT_MEASURED
from pytest_llmperf.report.forms.outcome import Outcome, outcome_of
from pytest_llmperf.report.html.intervals import badge, metrics_table
from pytest_llmperf.report.html.values import GPU_COUNTERS, text
from pytest_llmperf.session.recorded import UnmeasuredTest
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_llmperf.report.reported import ReportedSession, ShownTest
    from pytest_llmperf.report.reported_details import ReportedGpuTelemetry, ReportedRoofline

SKIPPED, SHOWN_ONLY = "skipped", "shown only"
#: Kinds of test by verdict, or by why there is none, in the order of the page: worst first.
_KINDS = [kind.value for kind in VerdictKind]
_AT = _KINDS.index(VerdictKind.MISSED.value) + 1
KINDS = (*_KINDS[:_AT], NOT_MEASURED, *_KINDS[_AT:], SHOWN_ONLY, SKIPPED)


def kind_of(test: ShownTest | UnmeasuredTest) -> str:
    """Return a test's kind, one of ``KINDS``: its verdict, or why it has none."""
    if isinstance(test, UnmeasuredTest):
        return NOT_MEASURED if test.failed else SKIPPED
    return SHOWN_ONLY if test.worst is None else test.worst.value


def unmeasured_section(test: UnmeasuredTest, number: int) -> str:
    """Return the section of a test that ran but was not measured."""
    kind = kind_of(test)
    where = "" if test.location is None else f"{test.location.file}:{test.location.line}"
    happened = "failed" if test.failed else f"was {test.outcome}"
    return (
        f'<details class="test" id="u{number}" data-v="{kind}"{" open" if test.failed else ""}>'
        f'<summary>{badge(kind)} <span class="name">{text(test.nodeid)}</span> '
        f'<span class="why">{text(test.reason)}</span></summary><div class="body">'
        f"<p>The test {text(happened)}, so its speed is unknown. {text(where)}"
        "</p></div></details>\n"
    )


def test_section(test: ShownTest, number: int, report: ReportedSession) -> str:
    """Return a test's section of the page, which is open if the test fails.

    ``number``: the test's index in the chart data.
    """
    kind = kind_of(test)
    fails = outcome_of(report, test) in (Outcome.BROKEN, Outcome.FAILED)
    is_open = " open" if fails else ""
    has_numbers = any(row.samples or row.progress or row.history for row in test.metrics)
    has_charts = has_numbers or test.timelines or test.telemetry
    charts = f'<div class="charts" data-i="{number}"></div>' if has_charts else ""
    return (
        f'<details class="test" id="t{number}" data-v="{text(kind)}"{is_open}>'
        f'<summary>{badge(kind)} <span class="name">{text(test.nodeid)}</span> '
        f'<span class="why">{text(_reason(test))}</span></summary><div class="body">'
        f"{metrics_table(test.checks)}{_causes(test)}{charts}{_roofline(test.roofline)}"
        f"{_telemetry(test, report)}{_work(test, report)}</div></details>\n"
    )


def _reason(test: ShownTest) -> str:
    """Return the reason for the test's verdict: the first metric with it, and how many others.

    The facts behind it are in the table.
    """
    rows = [row for row in test.checks if row.verdict is not None and row.verdict is test.worst]
    if not rows:
        return "no metric was judged"
    more = f" (and {len(rows) - 1} more of its metrics)" if len(rows) > 1 else ""
    return f"{rows[0].label}: {rows[0].finding}{more}"


def _causes(test: ShownTest) -> str:
    diagnosed = {cause.evidence for cause in test.diagnosis}
    causes = [cause for cause in test.causes if cause not in diagnosed]
    lists = [
        listing("Likely caused by the configuration or the build", causes),
        _diagnosis(test),
        listing(
            f"What differs from {test.against or 'the baseline'} besides speed",
            test.other_differences,
        ),
        listing("Found while measuring", test.findings),
        listing(
            "The machine while measuring",
            [f"{item.severity}: {item.text}" for item in test.fitness if item.severity != "note"],
        ),
    ]
    return "".join(lists)


def _diagnosis(test: ShownTest) -> str:
    if not test.diagnosis:
        return ""
    items = "".join(
        f"<li><b>{text(cause.title)}</b>{'' if cause.certain else ' (worth a try)'}: "
        f"{text(cause.evidence)}<br>Change: {text(cause.change)}"
        for cause in test.diagnosis
    )
    measured = f"<p>Try each change: <code>{text(test.doctor_command)}</code></p>"
    return (
        f"<section><h3>Possible causes (llmperf doctor)</h3><ol>{items}</ol>"
        f"{measured if test.doctor_command else ''}</section>"
    )


def listing(title: str, lines: Iterable[str]) -> str:
    """Return a list under a heading; empty text without items."""
    items = "".join(f"<li>{text(line)}" for line in lines)
    return f"<section><h3>{text(title)}</h3><ul>{items}</ul></section>" if items else ""


def _roofline(roofline: ReportedRoofline | None) -> str:
    if roofline is None:
        return ""
    if roofline.limit_tokens_per_sec is None:
        return listing("Roofline", [f"unknown: {roofline.problem or 'no limit was found'}"])
    rate = format_quantity(roofline.limit_tokens_per_sec, Unit.TOKENS_PER_SECOND)
    read = "; ".join(
        f"from {name} {_mega(dev.weight_bytes)} of weights and {_mega(dev.cache_bytes)} of KV cache"
        f"{'' if dev.bandwidth is None else f' at {dev.bandwidth / 1e9:.4g} GB/s'}"
        f"{f' ({dev.how})' if dev.how else ''}"
        for name, dev in roofline.devices.items()
    )
    share, bar = "", ""
    if roofline.share is not None:
        share = f"{roofline.share:.1%} of "
        bar = f"<meter value={roofline.share:.3g}></meter>"
    return (
        f"<section><h3>Roofline</h3><p>Decode reaches {share}the limit of this machine's memory, "
        f"{text(rate)}. {bar}<p>A token reads {text(read)}.</section>"
    )


def _mega(count: float) -> str:
    return f"{count / 1e6:.4g} MB" if count < 1e9 else f"{count / 1e9:.4g} GB"


def _telemetry(test: ShownTest, report: ReportedSession) -> str:
    if test.telemetry is None:
        return ""
    return "".join(_gpu(gpu, report) for gpu in test.telemetry.gpus)


def _gpu(gpu: ReportedGpuTelemetry, report: ReportedSession) -> str:
    name = next((device.name for device in report.session.gpus if device.index == gpu.gpu), "")
    levels = "; ".join(
        f"{label} {spread.mean / size:.4g} {unit} ({spread.min / size:.4g} to "
        f"{spread.max / size:.4g})"
        for counter, (label, unit, size) in GPU_COUNTERS.items()
        if (spread := gpu.counters.get(counter)) is not None
    )
    remarks = [
        f"clocks lowered {reason} in {count} of {gpu.samples} samples"
        for reason, count in gpu.lowered_clocks.items()
    ]
    remarks += [f"critical error of the driver: Xid {code}" for code in gpu.xids]
    remarks += ["the card stopped answering"] if gpu.lost else []
    used = "" if gpu.used else ", not used by the engine"
    title = f"GPU {'' if gpu.gpu is None else gpu.gpu}: {name or 'unknown'}{used}"
    return (
        f"<section><h3>{text(title)}</h3><p>While decoding, mean and range: {levels or 'unknown'}."
        f"{''.join(f'<p>{text(remark)}' for remark in remarks)}</section>"
    )


def _work(test: ShownTest, report: ReportedSession) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in test.settings.items())
    unit = report.session.unit
    measured = count(test.processes, unit)
    if test.pairs:
        measured = count(test.pairs, f"pair of {plural(unit)}")
    if test.earlier_pairs:
        measured += f", {test.earlier_pairs} of them measured by earlier sessions"
    sources = dict.fromkeys(
        source for metric in test.metrics if metric.baseline for source in metric.baseline.sources
    )
    stored = [*sources]
    compared = f"{len(stored)} stored sessions, the last {stored[-1]}" if len(stored) > 1 else ""
    facts = {
        "workload": f"{test.workload.summary} ({test.workload.hash})",
        "settings of this cell": settings,
        "measured in": measured,
        "tolerance": _tolerances(test),
        "compared with": test.against or compared or "".join(stored),
    }
    again = f"<p>Measure it again: <code>{text(test.command)}</code></p>" if test.command else ""
    return f"<section><h3>Origin</h3>{facts_table(facts)}{again}</section>"


def _tolerances(test: ShownTest) -> str:
    """Return the tolerances of the gated metrics; a single one if all are the same."""
    shares = {row.label: percent(row.tolerance) for row in test.metrics if row.gated}
    unique = dict.fromkeys(shares.values())
    return "".join(unique) if len(unique) < 2 else ", ".join(f"{k} {v}" for k, v in shares.items())


def facts_table(facts: dict[str, str]) -> str:
    """Return names and values as a description list, leaving out empty values."""
    items = "".join(f"<dt>{text(k)}<dd>{text(v)}" for k, v in facts.items() if v)
    return f"<dl>{items}</dl>"
