from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from package_projects import make_release, run_python, write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")


@pytest.fixture
def trees(tmp_path, here):
    """Two trees; the second one requires a package that has to be built first."""
    make_release(here.wheels, "slow", "1")
    return [
        write(tmp_path / name, {"requirements.txt": text})
        for name, text in (("here", "toy"), ("there", "toy\nslow==1"))
    ]


def wait_for(mark: Path, *processes) -> psutil.Process:
    """Wait until a build has begun, and return its process."""
    deadline = time.monotonic() + 60
    while not (mark.exists() and mark.read_text()):
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return psutil.Process(int(mark.read_text()))


def stamps(cache: Path) -> list[Path]:
    return list((cache / "environments").glob("*.json"))


def folders(cache: Path) -> list[Path]:
    return [path for path in (cache / "environments").iterdir() if path.is_dir()]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_an_ended_session_leaves_no_build_behind_and_nothing_half_made(here, trees, tmp_path, sent):
    cache, mark = tmp_path / "cache", tmp_path / "building"
    session = here.start(*trees, cache, SLOW_BUILD=str(mark))
    building = wait_for(mark, session)
    session.send_signal(sent)
    session.communicate(timeout=30)
    assert session.returncode != 0
    gone, _ = psutil.wait_procs([building], timeout=10)
    assert gone
    assert not any("folder" in path.read_text() for path in stamps(cache))
    assert len(folders(cache)) == (1 if sent == signal.SIGKILL else 0)

    outcome = here.ask(*trees, cache)
    assert run_python(outcome["python"], "import slow; print(slow.VERSION)") == "1"
    assert [str(path) for path in folders(cache)] == [str(Path(outcome["python"]).parents[1])]


def test_leftovers_of_other_environments_are_removed_too(here, trees, tmp_path):
    cache, mark = tmp_path / "cache", tmp_path / "building"
    session = here.start(*trees, cache, SLOW_BUILD=str(mark))
    wait_for(mark, session)
    session.kill()
    session.communicate(timeout=30)
    write(trees[1], {"requirements.txt": "toy==1.0"})
    outcome = here.ask(*trees, cache)
    assert [str(path) for path in folders(cache)] == [str(Path(outcome["python"]).parents[1])]


def test_what_another_session_is_making_is_left_alone(here, trees, tmp_path):
    cache, mark = tmp_path / "cache", tmp_path / "building"
    session = here.start(*trees, cache, SLOW_BUILD=str(mark))
    try:
        building = wait_for(mark, session)
        other = write(tmp_path / "third", {"requirements.txt": "toy==1.0"})
        here.ask(trees[0], other, cache)
        assert building.is_running()
        assert len(folders(cache)) == 2
    finally:
        session.kill()
        session.communicate(timeout=30)


def test_two_sessions_at_once_make_one_environment(here, trees, tmp_path):
    cache, mark = tmp_path / "cache", tmp_path / "building"
    first = here.start(*trees, cache, SLOW_BUILD=str(mark))
    building = wait_for(mark, first)
    second = here.start(*trees, cache)
    assert second.stderr.readline() == (
        "SAID another session is building the same environment; waiting for it\n"
    )
    building.kill()
    outputs = first.communicate(timeout=60)[0], second.communicate(timeout=60)[0]
    # The first session's build was killed, so the second session creates the environment.
    assert "installing slow==1 with uv failed" in outputs[0]
    assert '"shared": false' in outputs[1]
    assert len(folders(cache)) == 1


def test_an_environment_that_nobody_used_for_long_is_removed(here, trees, tmp_path):
    cache = tmp_path / "cache"
    write(trees[1], {"requirements.txt": "toy==1.0"})
    first = here.ask(*trees, cache)
    for stamp in stamps(cache):
        os.utime(stamp, (0, 0))
    write(trees[1], {"requirements.txt": "toy\ndep==1.5"})
    here.ask(*trees, cache)
    assert not Path(first["python"]).exists()


def test_asking_for_an_environment_counts_as_using_it(here, trees, tmp_path):
    cache = tmp_path / "cache"
    write(trees[1], {"requirements.txt": "toy==1.0"})
    here.ask(*trees, cache)
    for stamp in stamps(cache):
        os.utime(stamp, (0, 0))
    here.ask(*trees, cache)
    assert all(stamp.stat().st_mtime > 0 for stamp in stamps(cache))
