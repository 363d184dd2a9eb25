"""Metrics of a project or a package, added to the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import outside_packages
import pytest

from pytest_llmperf.config.load import load_config
from pytest_llmperf.measure.kept_pairs import KeptPairs
from pytest_llmperf.measure.samples import BASE, CANDIDATE, ProcessSample
from pytest_llmperf.metrics import (
    GROUP,
    METRICS,
    Metric,
    MetricError,
    Unit,
    UnknownMetricError,
    between_chunks,
    compute_all,
    get_metric,
    load_installed_metrics,
    register_metric,
)
from pytest_llmperf.run import Run
from pytest_llmperf.timeline import Timeline

pytestmark = pytest.mark.usefixtures("restored_metrics")

ONE = [Timeline(0.0, (1.0, 1.5, 3.0))]
BROKEN = "acme_sick:SLOWEST"


def slowest_gap(timelines: Sequence[Timeline]) -> float | None:
    return max((gap for timeline in timelines for gap in timeline.gaps()), default=None)


def register(**changes: Any) -> Metric:
    """Register the slowest gap, with these changes."""
    arguments: dict[str, Any] = {
        "name": "slowest_gap",
        "label": "slowest gap",
        "unit": "s",
        "direction": "lower",
        "formula": "largest gap t_{i+1} - t_i over all requests",
        "compute": slowest_gap,
        **changes,
    }
    return register_metric(arguments.pop("name"), **arguments)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that installs a package with metrics."""

    def put(name: str, entries: dict[str, str], **modules: str) -> None:
        site = tmp_path / name
        outside_packages.install(monkeypatch, site, name, GROUP, entries, **modules)

    return put


def test_is_computed_with_the_others() -> None:
    metric = register()
    assert get_metric("slowest_gap") is metric
    assert (metric.unit, metric.limit_kind, metric.quantity) == (Unit.SECONDS, "max", "slowest_gap")
    assert compute_all(Run.in_order(ONE))["slowest_gap"] == 1.5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "Slowest gap"}, "a name has small letters, digits and underscores"),
        ({"name": "gap_p95"}, "does not end as a percentile does"),
        ({"label": " "}, "label: expected text, got ' '"),
        ({"formula": None}, "formula: expected text, got None"),
        (
            {"unit": "ms"},
            "unit: expected one of 'tok/s', '/s', 's', 'B', 'J', 'W', '%', 'nats', got 'ms'",
        ),
        ({"direction": "down"}, "direction: expected one of 'higher', 'lower', got 'down'"),
        ({"compute": 3}, "compute: expected a function, got 3"),
        ({"resolution": 0}, "resolution: expected a number above 0, or None, got 0"),
        ({"resolution": "1"}, "resolution: expected a number above 0, or None, got '1'"),
        ({"resolution": True}, "resolution: expected a number above 0, or None, got True"),
        ({"name": 5}, "metric 5: a name has small letters, digits and underscores"),
        ({"quantity": 5}, "quantity: expected text, got 5"),
        ({"source": None}, "source: expected text, got None"),
        ({"compared": "no"}, "compared: expected True or False, got 'no'"),
    ],
)
def test_a_wrong_argument_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(MetricError) as caught:
        register(**changes)
    assert says in str(caught.value)


def test_a_name_stands_for_one_metric() -> None:
    first = register()
    assert register() is first
    with pytest.raises(MetricError, match="'slowest_gap' is registered already, with another def"):
        register(label="gap")
    with pytest.raises(MetricError, match="'slowest_gap' is registered twice: by test_reg"):
        register(compute=lambda _: 1.0)
    with pytest.raises(MetricError, match="and before by pytest-llmperf's own; give one of them"):
        register(name="first_token")


def test_a_changed_formula_never_keeps_the_old_one_silently() -> None:
    """As in a notebook, whose cells run again after a change."""

    def run(cell: str) -> Any:
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(cell, names)
        return names["formula"]

    cell = "formula = lambda timelines: max(t.gaps()[0] for t in timelines)"
    metric = register(compute=run(cell))
    assert register(compute=run(f"# A comment.\n{cell}")) is metric
    for changed in (cell.replace("[0]", "[1]"), cell.replace("max", "min")):
        with pytest.raises(MetricError) as caught:
            register(compute=run(changed))
        assert str(caught.value) == (
            "metric 'slowest_gap' is registered already, with another definition; give the changed "
            "one another name, or start Python again"
        )


def test_a_failing_formula_is_told_and_ends_nothing() -> None:
    def divide(_: Sequence[Timeline]) -> float:
        return 1 / 0

    register(name="divided", compute=divide)
    register(name="worded", compute=lambda _: "3")
    register(name="negative", compute=lambda _: -1)
    register(name="zero", compute=lambda _: 0.0)
    register(name="idle", compute=lambda _: 0, resolution=0.01)
    register(name="nowhere", compute=lambda _: float("nan"), resolution=0.01)
    problems: dict[str, str] = {}
    values = compute_all(Run.in_order(ONE), problems)
    assert values["first_token"] == 1.0
    assert values["idle"] == 0.0
    assert problems == {
        "divided": "its formula raised ZeroDivisionError: division by zero",
        "worded": "its formula returned a value of type str; expected a number or None",
        "negative": "its formula returned -1; expected a number above 0 (0 takes a resolution)",
        "zero": "its formula returned 0; expected a number above 0 (0 takes a resolution)",
        "nowhere": "its formula returned nan; expected a number of 0 or more",
    }


def test_a_broken_package_is_named_where_its_metric_is_asked_for(
    install: Callable[..., None], tmp_path: Path
) -> None:
    install("acme", {"slow": BROKEN, "first_token": BROKEN}, acme_sick="import no_such_library")
    assert get_metric("first_token").source
    with pytest.raises(UnknownMetricError, match="unknown metric 'slow': the metric 'slow' of the"):
        get_metric("slow")
    own, broken = load_installed_metrics()
    assert load_config(None, tmp_path, {}).warnings == (own, broken)
    assert "acme provides a metric 'first_token', but that name belongs to pytest-ll" in own
    assert f"package acme can't be loaded ({BROKEN}): ModuleNotFoundError" in broken


def test_what_is_no_metric_is_told(install: Callable[..., None]) -> None:
    install("acme", {"odd": "acme_odd:ODD", "other": "acme_odd:TOKENS"}, acme_odd=ODD)
    with pytest.raises(UnknownMetricError, match="expected a Metric, got str; name what register_"):
        get_metric("odd")
    with pytest.raises(UnknownMetricError, match="its Metric is called 'tokens_per_sec'"):
        get_metric("other")


ODD = """
from pytest_llmperf.metrics import METRICS

ODD = "odd"
TOKENS = METRICS["tokens_per_sec"]
"""


@pytest.mark.parametrize(("value", "counts"), [(0.0, True), (float("nan"), False)])
def test_evidence_with_a_metric_nobody_knows_any_more_still_counts(
    tmp_path: Path, value: float, counts: bool
) -> None:
    pairs = KeptPairs(tmp_path)
    halves = [
        ProcessSample(0, ({"gone": value, "first_token": 0.5},), side=side, pair=0)
        for side in (CANDIDATE, BASE)
    ]
    pairs.add({"test": "t"}, halves)
    assert [half.row("first_token") for half in pairs.load({"test": "t"})] == [(0.5,)] * 2 * counts
    assert len(pairs.problems) == (not counts)


def test_gaps_between_chunks_are_not_called_gaps_between_tokens() -> None:
    whole, percentile = between_chunks(METRICS["inter_token"]), get_metric("inter_token_p95")
    assert (whole.name, whole.label) == ("inter_token", "chunk gap")
    assert whole.formula == "median of the gaps between chunks over all requests"
    assert between_chunks(percentile).label == "chunk gap p95"
    assert "of the gaps between chunks, pooled" in between_chunks(percentile).formula
    assert between_chunks(METRICS["first_token"]) == METRICS["first_token"]
