"""``llmperf baseline prune``: a dry run without ``--yes``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from baseline_folders import KEY, name_of


@pytest.fixture
def month(folder: Any) -> Any:
    """25 sessions, and a file that does not belong to the plugin."""
    for day in range(1, 26):
        folder.record(day)
    (folder.store.root / KEY / "README.md").write_text("ours")
    return folder


def files(folder: Any) -> set[str]:
    return {str(path.relative_to(folder.store.root)) for path in folder.store.root.rglob("*")}


def test_a_dry_run_lists_with_sizes_and_removes_nothing(month: Any, baseline: Any) -> None:
    before = files(month)
    status, out, _ = baseline("prune")
    assert status == 0
    assert "2 of 25 sessions are no longer needed" in out
    assert [line.split()[0] for line in out.splitlines() if "iB" in line] == [
        name_of(4),
        name_of(5),
    ]
    assert out.endswith("\n  llmperf baseline prune --yes\n")
    assert files(month) == before


def test_told_to_it_removes_exactly_those(month: Any, baseline: Any) -> None:
    before = files(month)
    status, out, _ = baseline("prune", "--yes")
    assert status == 0
    assert before - files(month) == {f"{KEY}/{name_of(4)}", f"{KEY}/{name_of(5)}"}
    assert out.splitlines()[:2] == [
        f"removed perf_baselines/{KEY}/{name_of(day)}" for day in (4, 5)
    ]
    assert f"git add -A perf_baselines/{KEY} && git commit" in out


def test_the_suggested_command_repeats_the_options(month: Any, baseline: Any) -> None:
    words = ["prune", "--dir", "perf_baselines", "--machine", KEY, "--keep", "12"]
    out = baseline(*words).out
    assert f"llmperf baseline {' '.join(words)} --yes" in out


def test_keep_says_how_many_stay(month: Any, baseline: Any) -> None:
    assert "10 of 25 sessions are no longer needed" in baseline("prune", "--keep", "12").out


@pytest.mark.parametrize("number", ["9", "0", "-1", "many", "1e3", "²"])
def test_keep_below_the_window_is_refused(month: Any, baseline: Any, number: str) -> None:
    status, _, err = baseline("prune", f"--keep={number}")
    assert status == 2
    assert "expected an integer >= 10" in err


def test_a_session_named_by_a_decision_stays(month: Any, baseline: Any) -> None:
    baseline("anchor", "--reason", "release 1.0", "--session", name_of(4))
    baseline("prune", "--yes")
    assert (month.store.root / KEY / name_of(4)).exists()
    month.store.check_all()


def test_with_nothing_to_remove_it_says_so(folder: Any, baseline: Any) -> None:
    folder.record(1)
    status, out, _ = baseline("prune", "--yes")
    assert status == 0
    assert "nothing to remove" in out


def test_pruned_twice_there_is_nothing_left_to_do(month: Any, baseline: Any) -> None:
    baseline("prune", "--yes")
    before = files(month)
    assert "nothing to remove" in baseline("prune", "--yes").out
    assert files(month) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_killed_half_way_it_leaves_a_valid_store(month: Any, baseline: Any) -> None:
    code = (
        "import os, signal\nfrom pathlib import Path\n"
        "real = Path.unlink\n"
        "def strike(self, *args, **kwargs):\n"
        "    real(self, *args, **kwargs)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "Path.unlink = strike\n"
        "from pytest_llmperf.cli import main\n"
        "main(['baseline', 'prune', '--yes'])\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode < 0
    month.store.check_all()
    assert "1 of 24 sessions is no longer needed" in baseline("prune").out
