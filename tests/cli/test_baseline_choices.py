"""Naming the folder, machine, session and tests a baseline command is about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from baseline_folders import KEY, LONG, SHORT, name_of


def test_a_missing_folder_says_how_to_record(folder: Any, baseline: Any) -> None:
    status, _, err = baseline("show")
    assert status == 1
    assert err.startswith("llmperf: perf_baselines: there is no such folder")
    assert "pytest -m perf --llmperf-record" in err


def test_an_empty_folder_says_so(folder: Any, baseline: Any) -> None:
    folder.store.root.mkdir()
    status, _, err = baseline("show")
    assert (status, err.splitlines()[0]) == (
        1,
        "llmperf: perf_baselines: no session is recorded there",
    )


def test_the_configuration_names_the_folder(folder: Any, baseline: Any) -> None:
    folder.record(1)
    folder.store.root.rename("elsewhere")
    Path("config.yaml").write_text("perf: {baselines: elsewhere}\n")
    assert f"elsewhere/{KEY}: 1 session" in baseline("show").out


def test_an_option_names_the_folder_whatever_the_configuration_says(
    folder: Any, baseline: Any
) -> None:
    folder.record(1)
    Path("config.yaml").write_text("perf: {baselines: 5}\n")
    assert f"perf_baselines/{KEY}: 1 session" in baseline("show", "--dir", "perf_baselines").out


def test_a_wrong_configuration_is_a_problem(folder: Any, baseline: Any) -> None:
    Path("config.yaml").write_text("perf: {baselines: 5}\n")
    status, _, err = baseline("show")
    assert status == 1
    assert "config.yaml:1: perf.baselines" in err


def test_a_bad_file_is_a_problem_with_its_path(folder: Any, baseline: Any) -> None:
    path = folder.record(1)
    path.write_text("{")
    status, _, err = baseline("show")
    assert status == 1
    assert err.startswith(f"llmperf: {path}:1: not JSON")


@pytest.mark.parametrize("verb", ["accept", "anchor", "prune"])
def test_among_several_machines_one_must_be_named(folder: Any, baseline: Any, verb: str) -> None:
    folder.record(1)
    folder.record(1, key="ryzen-8c_cpu")
    status, _, err = baseline(verb, *(() if verb == "prune" else ("--reason", "why")))
    assert status == 2
    assert err == (
        "llmperf: perf_baselines holds several machines; name one:\n"
        f"  --machine ryzen-8c_cpu\n  --machine {KEY}\n"
    )


def test_a_machine_without_sessions_is_no_choice(folder: Any, baseline: Any) -> None:
    folder.record(1)
    (folder.store.root / "ryzen-8c_cpu" / "calibrations").mkdir(parents=True)
    assert baseline("accept", "--reason", "why").status == 0


def test_a_named_machine_is_the_one_decided_about(folder: Any, baseline: Any) -> None:
    folder.record(1)
    folder.record(1, key="ryzen-8c_cpu")
    assert baseline("accept", "--reason", "why", "--machine", KEY).status == 0
    assert len(folder.shelf().decisions) == 1
    assert folder.shelf("ryzen-8c_cpu").decisions == ()


def test_an_unknown_machine_is_told_the_nearest(folder: Any, baseline: Any) -> None:
    folder.record(1)
    status, _, err = baseline("show", "--machine", "xeon-2c_cpus")
    assert (status, err) == (
        2,
        f"llmperf: perf_baselines has no machine 'xeon-2c_cpus'; did you mean '{KEY}'?\n",
    )


@pytest.mark.parametrize("name", ["../elsewhere", ".", ""])
def test_a_machine_is_no_path(folder: Any, baseline: Any, name: str) -> None:
    folder.record(1)
    assert baseline("show", "--machine", name).status == 2


def test_an_unknown_test_is_told_the_nearest(folder: Any, baseline: Any) -> None:
    folder.record(1)
    status, _, err = baseline("show", "tests/perf/test_chat.py::test_shrt")
    assert status == 2
    assert "has no test 'tests/perf/test_chat.py::test_shrt'; did you mean" in err
    assert repr(SHORT) in err


def test_a_test_is_known_by_its_end_from_the_file_name_on(folder: Any, baseline: Any) -> None:
    folder.record(1)
    out = baseline("show", "test_chat.py::test_short").out
    assert SHORT in out
    assert LONG not in out


def test_an_end_is_whole_names(folder: Any, baseline: Any) -> None:
    folder.record(1)
    assert baseline("show", "chat.py::test_short").status == 2


def test_an_end_that_fits_several_tests_lists_them(folder: Any, baseline: Any) -> None:
    twin = "tests/other/test_chat.py::test_short"
    folder.record(1, tests=(SHORT, twin))
    status, _, err = baseline("show", "test_chat.py::test_short")
    assert status == 2
    assert f"fits several tests; name one:\n  {twin!r}\n  {SHORT!r}" in err


def test_every_unknown_test_is_named_at_once(folder: Any, baseline: Any) -> None:
    folder.record(1)
    err = baseline("show", "test_x.py::a", "test_y.py::b").err
    assert "'test_x.py::a'" in err
    assert "'test_y.py::b'" in err


@pytest.mark.parametrize("spelling", ["{name}", "perf_baselines/{key}/{name}"])
def test_a_session_is_named_by_file_name_or_path(folder: Any, baseline: Any, spelling: str) -> None:
    for day in (1, 2):
        folder.record(day)
    given = spelling.format(name=name_of(1), key=KEY)
    assert baseline("accept", "--reason", "why", "--session", given).status == 0
    assert folder.shelf().decisions[0].decision.session == name_of(1)


def test_an_unknown_session_is_told_the_nearest(folder: Any, baseline: Any) -> None:
    folder.record(1)
    given = name_of(2)
    status, _, err = baseline("accept", "--reason", "why", "--session", given)
    assert status == 2
    assert f"has no session '{given}'; did you mean '{name_of(1)}'?" in err


@pytest.mark.parametrize(
    "given", ["../../config.yaml", "/etc/passwd", f"elsewhere/{name_of(1)}", "..", ""]
)
def test_a_session_outside_the_folder_is_refused(folder: Any, baseline: Any, given: str) -> None:
    folder.record(1)
    assert baseline("accept", "--reason", "why", "--session", given).status == 2
    assert folder.shelf().decisions == ()


def test_ctrl_c_is_told_in_one_line(
    folder: Any, baseline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    folder.record(1)
    monkeypatch.setattr("pytest_llmperf.baselines.store.read_record", interrupt)
    assert baseline("show") == (130, "", "llmperf: interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="no such pipes there")
def test_a_reader_that_leaves_early_causes_no_traceback(folder: Any) -> None:
    import subprocess
    import sys

    folder.record(1)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "pytest_llmperf.cli", "baseline", "show"],
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
