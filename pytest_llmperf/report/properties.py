"""A test's metrics as properties, stored with its test case by ``--junitxml``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from pytest_llmperf.session.result import TestResult


def junit_properties(test: TestResult) -> list[tuple[str, str]]:
    """Return the name and value of each property, values in base units.

    ``llmperf.verdict`` and ``llmperf.workload`` for the test; for each metric
    ``llmperf.<metric>`` (the median) and ``.unit``, ``.low``, ``.high``,
    ``.limit``, ``.baseline``, ``.change``, ``.bound`` (the largest slowdown that is not
    ruled out), ``.verdict`` and ``.explanation`` if known, and ``.also`` for further
    findings, such as a missed target next to a regression.
    """
    properties: list[tuple[str, str]] = []
    if test.worst is not None:
        properties.append(("llmperf.verdict", test.worst.kind.value))
    if test.workload:
        properties.append(("llmperf.workload", printable(test.workload)))
    for row in test.all_rows:
        name = f"llmperf.{row.check.metric.name}"
        numbers = {
            "": row.summary.value if row.summary else None,
            ".low": row.summary.low if row.summary else None,
            ".high": row.summary.high if row.summary else None,
            ".limit": row.check.limit,
            ".baseline": row.baseline.value if row.baseline else None,
            ".change": row.change,
            ".bound": row.verdict.proof.bound if row.verdict and row.verdict.proof else None,
        }
        known = [(name + key, f"{v:.9g}") for key, v in numbers.items() if v is not None]
        properties += known
        if known:
            properties.append((f"{name}.unit", row.check.metric.unit.value))
        if row.verdict is not None:
            properties.append((f"{name}.verdict", row.verdict.kind.value))
            properties.append((f"{name}.explanation", printable(row.verdict.explanation)))
            if row.verdict.notes:
                properties.append((f"{name}.also", printable("; ".join(row.verdict.notes))))
    return properties
