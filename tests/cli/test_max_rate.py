"""The search for the highest rate, by itself and with a simulated server of known capacity."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from quick_sessions import OUR_PLUGIN_ALONE
from running_servers import simulated_servers

from pytest_llmperf.rate_search import RateSearch

#: Other load on this machine invalidates nothing here, and a simulated server needs no long pause
#: before a block.
CONFTEST = """
import pytest_llmperf.session.machine_watch as machine_watch
from pytest_llmperf.measure.replication import BLOCK

machine_watch.judge = machine_watch.judge_host = lambda *_: []
vars(BLOCK)["pause_seconds"] = 0.02
"""


def run_search(holds: Callable[[float], str], **settings: float) -> RateSearch:
    search = RateSearch(**{"start": 1.0, **settings})
    while (rate := search.next) is not None:
        search.answer(rate, holds(rate))  # type: ignore[arg-type]
        assert len(search.answers) < 40
    return search


@pytest.mark.parametrize("edge", [0.07, 0.9, 1.0, 5.3, 740.0])
def test_the_edge_is_found_to_the_precision(edge: float) -> None:
    search = run_search(lambda rate: "kept" if rate <= edge else "missed")
    assert search.kept is not None
    assert search.missed is not None
    assert search.kept <= edge < search.missed <= 1.11 * search.kept


def test_rates_that_are_not_decided_lie_between_kept_and_missed() -> None:
    def holds(rate: float) -> str:
        return "kept" if rate < 5 else "undecided" if rate < 7 else "missed"

    search = run_search(holds)
    assert search.kept is not None
    assert search.missed is not None
    assert 4.5 < search.kept < 5
    assert 7 <= search.missed < 7.7


def test_the_search_ends_where_nothing_holds_and_where_everything_does() -> None:
    assert run_search(lambda _: "missed", lowest=0.2).kept is None
    assert run_search(lambda _: "kept", highest=50.0).missed is None


@pytest.fixture
def folder(tmp_path: Path):
    """A project whose simulated server serves one request of 4 ms at a time."""
    with simulated_servers(first=0.003, gap=0.001, cached=0) as start:
        llm = {"engine": "server", "api": "completions", "url": start("--slots", "1")}
        fitness = dict.fromkeys(("client_busy", "client_slip", "rate_not_reached"), "note")
        perf = {"processes": 3, "max_processes": 3, "fitness": fitness}
        (tmp_path / "config.yaml").write_text(json.dumps({"llm": llm, "perf": perf}))
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        yield tmp_path


def write(folder: Path, *markers: str) -> None:
    lines = ["import pytest", *(f"@pytest.mark.{marker}" for marker in markers)]
    lines += ["def test_it(llm_engine):", "    llm_engine.generate('Hi', max_tokens=2)"]
    (folder / "test_it.py").write_text("\n".join(lines))


def max_rate(
    folder: Path, *arguments: str, plugins: Mapping[str, str] = OUR_PLUGIN_ALONE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest_llmperf.cli", "max-rate", *arguments],
        cwd=folder,
        env={**os.environ, **plugins},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_the_rate_that_a_server_can_serve_is_found(folder: Path) -> None:
    write(folder, "load(rate=1, arrivals='constant', duration='600ms')",
          "goodput(first_token='50ms', min='90%')")  # fmt: skip
    done = max_rate(folder, "--start", "200/s", "--precision", "99%", "--json", "out.json")
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "out.json").read_text())
    # One request of 4 ms at a time: at most 250 per second; a busy machine serves fewer.
    assert report["kept"] < 400
    assert report["kept"] < report["missed"] <= 1600
    assert f"the goodput is kept at {report['kept']:g} requests/s, and missed at" in done.stdout
    assert "requests/s  goodput" in done.stdout
    assert report["false_kept"] == 0.05
    assert {session["false_missed"] for session in report["sessions"]} == {0.01}
    assert done.stdout.splitlines()[-1] == (
        "each rate is judged by itself: one that misses the goodput is called kept in at most 5% "
        "of sessions, one that keeps it missed in at most 1%"
    )


def test_a_test_without_a_goodput_is_refused(folder: Path) -> None:
    write(folder, "load(rate=20, duration='500ms')", "first_token(max='5s')")
    # With every plugin that is installed, as a user has them.
    done = max_rate(folder, plugins={})
    assert done.returncode == 1
    assert "has no target for its goodput; add the marker goodput(" in done.stderr


def test_a_session_that_fails_shows_its_last_lines(folder: Path) -> None:
    write(folder, "load(rate=20)", "goodput(first_token='5s', min='95%')")
    done = max_rate(folder)
    assert done.returncode == 1
    assert "ended with status 4 and no verdicts:" in done.stderr
    assert "a load needs an end" in done.stderr
