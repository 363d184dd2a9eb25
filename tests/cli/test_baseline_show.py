"""``llmperf baseline show``: sessions, levels, anchors, and the changes they can decide."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from baseline_folders import KEY, LONG, SHORT, name_of

from pytest_llmperf.gate.words import change_words
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.stats.prediction import decides_from, passes_up_to, predict
from pytest_llmperf.text import display_width


def row(out: str, label: str) -> list[str]:
    """Return the cells of the metric's first row, without the label."""
    line = next(line for line in out.splitlines() if line.startswith(f"  {label}  "))
    return line.split(label)[1].split()


def test_each_session_says_where_it_comes_from(folder: Any, baseline: Any) -> None:
    folder.record(1, provenance={"dirty": True, "branch": "feature"})
    out = " ".join(baseline("show").out.split())
    assert f"#1 {name_of(1).removesuffix('.json')}-dirty.json" in out
    assert (
        "2026-11-01 12:00:00 UTC, commit 0123456789ab with uncommitted changes on feature, "
        "plugin 0.1.0, llama_cpp 0.3.36 (cpu), smollm2-135m"
    ) in out


def test_a_session_outside_a_repository_says_so(folder: Any, baseline: Any) -> None:
    folder.record(1, provenance={"commit": None, "branch": None})
    assert "no commit, plugin" in " ".join(baseline("show").out.split())


def test_window_and_anchor_are_named_by_number(folder: Any, baseline: Any) -> None:
    for day in range(1, 15):
        folder.record(day)
    out = baseline("show").out
    assert "  window, which judges: #5-#14\n" in out
    assert "  anchor: #1-#3 (the oldest)\n" in out


def test_an_invalid_session_is_named_with_its_reason(folder: Any, baseline: Any) -> None:
    for day in (1, 2, 3):
        folder.record(day, invalid=("throttled at 40 s",) if day == 2 else ())
    out = baseline("show", SHORT).out
    assert "  invalid: #2 (throttled at 40 s)\n" in out
    assert "  window, which judges: #1, #3\n" in out


def test_an_accepted_level_is_named_with_its_reason(folder: Any, baseline: Any) -> None:
    for day in (1, 2, 3):
        folder.record(day, accepted="a better sampler" if day == 2 else None)
    out = baseline("show", SHORT).out
    assert "  accepted 2026-11-02: #2 (a better sampler)\n" in out
    assert "  before the accepted level: #1\n" in out


def test_a_chosen_anchor_is_named_with_its_reason(folder: Any, baseline: Any) -> None:
    for day in (1, 2, 3):
        folder.record(day)
    baseline("anchor", "--reason", "release 1.0", "--session", name_of(2))
    assert ": release 1.0)\n" in baseline("show", SHORT).out.split("anchor: #2 (chosen ")[1]


def test_sessions_of_another_workload_are_named(folder: Any, baseline: Any) -> None:
    for day in (1, 2, 3):
        folder.record(day, workload="w0" if day == 1 else "w1")
    assert "  measured another workload: #1\n" in baseline("show", SHORT).out


def test_a_test_that_was_never_valid_is_shown_without_numbers(folder: Any, baseline: Any) -> None:
    folder.record(1, invalid=("swapping",))
    out = baseline("show", SHORT).out
    assert "invalid: #1 (swapping)" in out
    assert "level:" not in out  # nor the legend of a table
    assert "tokens/s" not in out


def test_the_level_is_the_median_session_with_its_unit(folder: Any, baseline: Any) -> None:
    for day, rate in ((1, 80.0), (2, 85.0), (3, 100.0)):
        folder.record(day, rate)
    assert row(baseline("show", SHORT).out, "tokens/s")[:3] == ["85.0", "tok/s", "3"]


def test_the_spread_is_that_of_log_levels_between_sessions(folder: Any, baseline: Any) -> None:
    for day, rate in ((1, 80.0), (2, 80.0 * math.exp(0.04))):
        folder.record(day, rate)
    assert row(baseline("show", SHORT).out, "tokens/s")[3] == "2.8%"  # 0.04 / sqrt(2)


def test_one_session_knows_no_spread(folder: Any, baseline: Any) -> None:
    folder.record(1)
    assert row(baseline("show", SHORT).out, "tokens/s")[3] == "-"


@pytest.mark.parametrize("label", ["tokens/s", "first token"])
def test_drift_is_a_slowdown_where_the_window_is_slower_than_the_anchor(
    folder: Any, baseline: Any, label: str
) -> None:
    for day in range(1, 14):
        folder.record(day, 100.0 if day < 4 else 80.0)
    cells = row(baseline("show", SHORT).out, label)
    assert cells[cells.index("10") + 2 :][:2] == ["25.0%", "slower"]


def test_it_says_what_these_sessions_can_decide(folder: Any, baseline: Any) -> None:
    rates = (80.0, 81.0, 79.5)
    for day, rate in enumerate(rates, start=1):
        folder.record(day, rate)
    prediction = predict(-np.log(rates))
    # The fastest process is judged, which leads the median of its session by this much.
    lead = 1.0005 / ((1.0005 + 0.999) / 2)
    calls_from = (1 + float(decides_from(prediction, 0.05, 0.01))) * lead - 1
    passes = float(passes_up_to(prediction, 0.05, 0.95))
    line = " ".join(row(baseline("show", SHORT).out, "tokens/s"))
    metric = get_metric("tokens_per_sec")
    assert line.endswith(f"{change_words(metric, calls_from)} {change_words(metric, passes)}")


def test_a_metric_of_a_newer_plugin_is_shown_as_it_is_stored(folder: Any, baseline: Any) -> None:
    path = folder.record(1)
    path.write_text(path.read_text().replace("first_token", "co2_per_token"))
    assert row(baseline("show", SHORT).out, "co2_per_token") == [
        "0.4", "s", "1", "-", "-", "-", "-",
    ]  # fmt: skip


def test_every_machine_is_shown(folder: Any, baseline: Any) -> None:
    folder.record(1)
    folder.record(1, key="ryzen-8c_cpu")
    out = baseline("show").out
    assert f"perf_baselines/{KEY}: 1 session" in out
    assert "perf_baselines/ryzen-8c_cpu: 1 session" in out


def test_a_machine_that_does_not_know_the_named_test_is_left_out(
    folder: Any, baseline: Any
) -> None:
    folder.record(1)
    folder.record(1, key="ryzen-8c_cpu", tests=(LONG,))
    assert "ryzen" not in baseline("show", SHORT).out


@pytest.mark.parametrize("columns", [80, 60])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(
    folder: Any, baseline: Any, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    nodeid = "tests/" + "deeply/" * 9 + "test_wide.py::test_x[" + "param-" * 20 + "ü]"
    reason = "a neighbour used the machine while it was measured " * 3
    for day in range(1, 4):
        folder.record(day, tests=(nodeid,), invalid=(reason,) if day == 2 else ())
    out = baseline("show").out
    assert max(map(display_width, out.splitlines())) <= columns
    joined = "".join(out.split())
    assert nodeid in joined
    assert reason.replace(" ", "") in joined


def test_control_characters_are_shown_escaped(folder: Any, baseline: Any) -> None:
    folder.record(1, tests=("test_x.py::test[\x1b[2J]",), accepted="why\x07")
    out = baseline("show").out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_json_holds_the_same(folder: Any, baseline: Any) -> None:
    for day in range(1, 14):
        folder.record(day, 100.0 if day < 4 else 80.0, invalid=("busy",) if day == 5 else ())
    baseline("anchor", "--reason", "release 1.0", "--session", name_of(2), SHORT)
    shown = json.loads(baseline("show", "--json", SHORT).out)
    (machine,) = shown["machines"]
    assert [session["file"] for session in machine["sessions"]] == [
        name_of(day) for day in range(1, 14)
    ]
    assert machine["decisions"][0]["reason"] == "release 1.0"
    (test,) = machine["tests"]
    assert test["nodeid"] == SHORT
    assert test["anchor"] == [name_of(2)]
    assert test["anchoring"]["reason"] == "release 1.0"
    assert test["window"] == [name_of(day) for day in (3, 4, *range(6, 14))]
    assert test["invalid"] == [{"file": name_of(5), "reasons": ["busy"]}]
    rate = test["metrics"]["tokens_per_sec"]
    assert (rate["unit"], rate["sessions"]) == ("tok/s", 10)
    assert rate["level"] == pytest.approx(80.0, rel=1e-3)
    assert rate["drift"] == pytest.approx(0.25, rel=1e-3)


def test_a_terminal_without_unicode_gets_escapes(folder: Any) -> None:
    import os
    import subprocess
    import sys

    folder.record(1, tests=("test_x.py::test[ü]",))
    done = subprocess.run(
        [sys.executable, "-m", "pytest_llmperf.cli", "baseline", "show"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"test[\\xfc]" in done.stdout
