"""Formulas of registered metrics that fail: a target on one makes the verdict ``error``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tiny_models import tiny_llama

import pytest_llmperf as perf
from pytest_llmperf.timeline import Timeline

pytestmark = pytest.mark.usefixtures("quiet_machine", "restored_metrics")


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def no_value(_: Sequence[Timeline]) -> float | None:
    return None


def divides(_: Sequence[Timeline]) -> float:
    return 1 / 0


def exits(_: Sequence[Timeline]) -> float:
    sys.exit(3)


FORMULAS: dict[str, tuple[Callable[[Sequence[Timeline]], object], str]] = {
    "divides": (divides, "its formula raised ZeroDivisionError: division by zero"),
    "exits": (exits, "its formula raised SystemExit: 3"),
    "not_finite": (lambda _: float("nan"), "its formula returned nan; expected a number above 0"),
    "word": (lambda _: "fast", "its formula returned a value of type str; expected a number"),
    "huge": (lambda _: 10**400, "its formula raised OverflowError: int too large"),
}


def test_a_target_on_a_formula_that_fails_is_an_error() -> None:
    from pytest_llmperf.extension import register_metric

    for name, formula in {**{n: f for n, (f, _) in FORMULAS.items()}, "none": no_value}.items():
        register_metric(
            name,
            label=name,
            unit="s",
            direction="lower",
            formula="none",
            compute=formula,  # type: ignore[arg-type]
        )
    config = perf.configuration(
        llm={"model_path": tiny_llama(), "n_ctx": 512, "n_threads": 1},
        perf={
            "processes": 1,
            "max_processes": 2,
            "iterations": 3,
            "targets": {"end_to_end": "9s", "none": "1s", **dict.fromkeys(FORMULAS, "1s")},
        },
    )
    (test,) = perf.measure_workload(config, "a", max_tokens=4).tests
    rows = {row.check.metric.name: row for row in test.rows}
    for name, (_, says) in FORMULAS.items():
        verdict = rows[name].verdict
        assert verdict is not None
        assert verdict.kind.value == "error"
        assert f"{name} could not be measured: {says}" in verdict.explanation
    # A workload may leave a metric undefined, and the other metrics are judged.
    assert "none" not in rows
    assert rows["end_to_end"].verdict is not None
    assert rows["end_to_end"].verdict.kind.value != "error"
