"""Writing records: names, many writers at once, kill -9 at any point, and failing disks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from missing_rights import without_rights

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.record import to_text
from pytest_llmperf.baselines.store import BaselineStore

ROOT = Path(__file__).parents[2]
FIRST = "20261122T235926Z_0123456789ab"

#: Makes os.link fail as it does on a file system that has no links.
NO_LINKS = """
import errno, os
def refuse(*args, **kwargs):
    raise OSError(errno.EPERM, 'Operation not permitted')
os.link = refuse
"""


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def visible(store: Any) -> list[Path]:
    return sorted(store.root.glob("*/*.json"))


def hidden(store: Any) -> list[Path]:
    return sorted(path for path in store.root.glob("*/*") if path.name.startswith("."))


def test_a_record_lies_under_its_machine_date_and_commit(store: Any, make_record: Any) -> None:
    path = store.write(make_record())
    assert path == store.root / "xeon-sapphire-rapids-2c_cpu" / f"{FIRST}.json"
    assert path.read_text(encoding="utf-8") == to_text(make_record())
    assert hidden(store) == []


@pytest.mark.parametrize(
    ("commit", "dirty", "name"),
    [
        (None, False, "20261122T235926Z_nocommit.json"),
        ("a" * 40, True, "20261122T235926Z_aaaaaaaaaaaa-dirty.json"),
    ],
)
def test_the_name_says_what_was_measured(
    store: Any, make_record: Any, commit: str | None, dirty: bool, name: str
) -> None:
    provenance = make_record().provenance
    changed = type(provenance)(**{**vars(provenance), "commit": commit, "dirty": dirty})
    assert store.write(make_record(provenance=changed)).name == name


def test_a_name_that_is_taken_is_never_overwritten(store: Any, make_record: Any) -> None:
    taken = store.write(make_record())
    taken.write_text("somebody's work")
    assert store.write(make_record()).name == f"{FIRST}-2.json"
    assert store.write(make_record()).name == f"{FIRST}-3.json"
    assert taken.read_text() == "somebody's work"


def test_records_come_back_oldest_first(store: Any, make_record: Any) -> None:
    for recorded in ["2026-11-23T00:00:00Z", *["2026-11-22T00:00:00Z"] * 11]:
        store.write(make_record(recorded=recorded))
    names = [stored.path.name for stored in store.read_machine(make_record().machine.key)]
    assert names[1:11] == [f"20261122T000000Z_0123456789ab-{n}.json" for n in range(2, 12)]
    assert names[0] == "20261122T000000Z_0123456789ab.json"
    assert names[11] == "20261123T000000Z_0123456789ab.json"


def test_an_empty_store_has_no_machines_and_no_records(store: Any) -> None:
    assert store.machines() == []
    assert store.read_machine("nobody-2c_cpu") == []
    store.check_all()


@pytest.mark.parametrize("prelude", ["", NO_LINKS], ids=["links", "no-links"])
def test_writers_at_once_lose_nothing(store: Any, writer: Any, prelude: str) -> None:
    writers = [start(writer(8, prelude)) for _ in range(4)]
    names = []
    for process in writers:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        names += output.split()[1:]
    assert len(set(names)) == 32
    assert {path.name for path in visible(store)} == set(names)
    assert hidden(store) == []
    store.check_all()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.parametrize("prelude", ["", NO_LINKS], ids=["links", "no-links"])
def test_a_writer_killed_at_any_point_leaves_only_whole_records(
    store: Any, make_record: Any, writer: Any, prelude: str
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moment = random.Random(seed)
    for _ in range(6):
        process = start(writer(100_000, prelude))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(moment.uniform(0, 0.03))
        process.kill()
        announced = process.stdout.read().split("\n")[:-1]
        process.wait()
        process.stdout.close()
        # Every file announced exists, and every file that exists is complete.
        assert set(announced) <= {path.name for path in visible(store)}
        store.check_all()
    store.write(make_record())
    assert [path for path in hidden(store) if path.suffix == ".tmp"] == []


#: Every step of a write that a kill could interrupt: a function, and its calls to skip.
STEPS = [
    ("os.open", 0), ("os.write", 0), ("os.fsync", 0), ("os.link", 0), ("os.fsync", 1),
    ("Path.unlink", 0),
]  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("step", "skipped"), STEPS)
def test_a_kill_at_each_step_leaves_a_whole_record_or_none(
    store: Any, make_record: Any, writer: Any, step: str, skipped: int, when: str
) -> None:
    owner, name = step.split(".")
    prelude = f"""
import os, signal
real, calls = {owner}.{name}, []
def strike(*args, **kwargs):
    calls.append(args)
    if len(calls) <= {skipped}:
        return real(*args, **kwargs)
    if {when == "after"}:
        real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
{owner}.{name} = strike
"""
    assert run(writer(1, prelude)).returncode == -signal.SIGKILL
    store.check_all()
    assert len(visible(store)) <= 1
    store.write(make_record())
    assert hidden(store) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_full_disk_loses_nothing_and_leaves_nothing(
    store: Any, make_record: Any, writer: Any
) -> None:
    before = store.write(make_record())
    content = before.read_bytes()
    prelude = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))"
    done = run(writer(1, prelude))
    assert "BaselineError" in done.stderr
    assert f"{before.parent}: the session could not be recorded: file too large" in done.stderr
    assert "make room and record again" in done.stderr
    assert visible(store) == [before]
    assert before.read_bytes() == content
    assert hidden(store) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_folder_that_cannot_be_made_is_named(make_record: Any) -> None:
    with pytest.raises(BaselineError, match=r"^/proc/llmperf/xeon.*could not be recorded") as info:
        BaselineStore(Path("/proc/llmperf")).write(make_record())
    assert "perf.baselines" in str(info.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions there")
def test_a_read_only_folder_is_named(make_record: Any) -> None:
    record = make_record()
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        store = BaselineStore(Path(root) / "perf_baselines")
        folder = store.write(record).parent
        with without_rights(folder):
            with pytest.raises(BaselineError, match="permission denied\n  make the folder writab"):
                store.write(record)


def test_a_file_in_the_folders_place_is_named(store: Any, make_record: Any) -> None:
    store.root.write_text("precious")
    with pytest.raises(BaselineError, match="a file is where a folder is needed"):
        store.write(make_record())
    assert store.root.read_text() == "precious"


def test_a_session_that_cannot_be_stored_names_the_item(store: Any, make_record: Any) -> None:
    with pytest.raises(BaselineError, match=r"cannot be recorded: config\.kind"):
        store.write(make_record(config={"kind": {1, 2}}))
    assert visible(store) == []


def test_without_links_a_name_that_a_killed_writer_reserved_is_passed_over(
    store: Any, make_record: Any, writer: Any
) -> None:
    taken = store.write(make_record())
    reserved = taken.with_name(f".llmperf-reserved-{FIRST}-2.json")
    reserved.write_text("")
    assert run(writer(1, NO_LINKS)).stdout.split() == ["ready", f"{FIRST}-3.json"]
    assert hidden(store) == [reserved]


def test_a_living_writers_temporary_file_is_left_alone(
    store: Any, make_record: Any, writer: Any
) -> None:
    prelude = (
        "import time; folder._claim = lambda *_: (print('waiting', flush=True), time.sleep(600))"
    )
    writing = start(writer(1, prelude))
    try:
        assert writing.stdout is not None
        assert [writing.stdout.readline() for _ in range(2)] == ["ready\n", "waiting\n"]
        store.write(make_record())
        assert len(hidden(store)) == 1
    finally:
        writing.kill()
        writing.wait()
        assert writing.stdout is not None
        writing.stdout.close()


def test_an_abandoned_file_of_an_unknown_writer_is_removed_after_a_day(
    store: Any, make_record: Any
) -> None:
    folder = store.write(make_record()).parent
    old, new, foreign = (
        folder / ".llmperf-00000000-1-aa.tmp",
        folder / ".llmperf-00000000-1-bb.tmp",
        folder / ".somebody-elses.tmp",
    )
    for path in (old, new, foreign):
        path.write_text("")
    for path in (old, foreign):
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    store.write(make_record())
    assert hidden(store) == [new, foreign]


def test_what_is_written_is_what_git_can_show(store: Any, make_record: Any) -> None:
    content = store.write(make_record()).read_bytes()
    assert content.endswith(b"\n")
    assert b"\r" not in content
    assert json.loads(content)["schema"] == 1
