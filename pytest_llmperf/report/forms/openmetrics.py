"""The measurements of a session as OpenMetrics text, for Prometheus and for GitLab."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmperf.metric_types import Unit
from pytest_llmperf.report.forms.measurements import measurements
from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmperf.report.reported import ReportedSession
    from pytest_llmperf.report.reported_checks import ReportedCheck

_UNITS = {
    Unit.TOKENS_PER_SECOND: "tokens_per_second",
    Unit.PER_SECOND: "per_second",
    Unit.SECONDS: "seconds",
    Unit.BYTES: "bytes",
    Unit.JOULES: "joules",
    Unit.WATTS: "watts",
    Unit.RATIO: "ratio",
    Unit.NATS: "nats",
}
_NO_NAME = re.compile(r"[^a-zA-Z0-9_]")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass
class _Family:
    """A metric family: its description, and its samples, which follow it."""

    kind: str
    unit: str
    help: str
    samples: list[str] = field(default_factory=list)


def openmetrics(session: ReportedSession) -> str:
    """Return a session as OpenMetrics text.

    It has gauges of each metric's median and interval ends, in base units;
    ``llmperf_slowdown_ratio`` (above 0 is slower than the baseline); ``llmperf_check_info`` with
    the verdict; and ``llmperf_session_info``. Void values are left out; their verdicts are not.
    See https://prometheus.io/docs/specs/om/open_metrics_spec/.
    """
    facts = session.session
    origin = {"machine": facts.machine, "model": facts.model}
    families: dict[str, _Family] = {}

    def add(name: str, family: _Family, labels: Mapping[str, str], value: float) -> None:
        suffix = "_info" if family.kind == "info" else ""
        text = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        # Two metrics may get the same name; the label distinguishes them.
        added = families.setdefault(name, family)
        added.samples.append(f"{name}{suffix}{{{text}}} {value!r}")

    about = {**origin, "engine": facts.engine}
    if facts.against is not None:
        about["against"] = facts.against
    add("llmperf_session", _Family("info", "", "The session that was measured."), about, 1)
    for figure in measurements(session):
        check = figure.check
        labels = {"test": figure.test.nodeid, "metric": check.name, **origin}
        ends = (("", figure.value), ("_low", check.low), ("_high", check.high))
        for end, value in ends:
            if value is not None:
                name, unit = _name(check, end)
                text = _help(check, end)
                add(name, _Family("gauge", unit, text), labels, float(value))
        if check.change is not None:
            text = "Change against the baseline, as a fraction; above 0 is slower."
            add("llmperf_slowdown_ratio", _Family("gauge", "ratio", text), labels, check.change)
    for test in session.tests:
        for check in test.checks:
            if check.verdict is not None:
                labels = {"test": test.nodeid, "metric": check.name, **origin}
                labels["verdict"] = check.verdict.value
                add("llmperf_check", _Family("info", "", "The session's verdict."), labels, 1)
    for unmeasured in session.unmeasured:
        labels = {"test": unmeasured.nodeid, **origin, "outcome": unmeasured.outcome}
        family = _Family("info", "", "A test that ran and could not be measured.")
        add("llmperf_unmeasured", family, labels, 1)
    lines = [line for name, family in families.items() for line in _lines(name, family)]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _lines(name: str, family: _Family) -> list[str]:
    about = [f"# TYPE {name} {family.kind}"]
    if family.unit:
        about.append(f"# UNIT {name} {family.unit}")
    return [*about, f"# HELP {name} {_escaped(family.help)}", *family.samples]


def _name(check: ReportedCheck, end: str) -> tuple[str, str]:
    """Return the name of a metric's family, which ends with its unit, and the unit."""
    unit = _UNITS[check.unit]
    stem = _NO_NAME.sub("_", check.name).removesuffix(unit).removesuffix("tokens_per_sec")
    words = ("llmperf", stem.strip("_"), end.strip("_"), unit)
    return "_".join(filter(None, words)), unit


def _help(check: ReportedCheck, end: str) -> str:
    ends = {"": "Median", "_low": "Lower end of the interval", "_high": "Upper end of the interval"}
    better = f"{check.direction.value} is better"
    return f"{ends[end]} of {check.label}; {better}."


def _escaped(text: str) -> str:
    return printable(text).translate(_ESCAPES)
