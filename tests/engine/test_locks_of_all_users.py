"""Sessions of all users exclude each other on the same GPU and on the CPU, and only there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_llmperf.engine import lock_files
from pytest_llmperf.engine.device_lock import DeviceBusyError, DeviceLock

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks are shared on POSIX only")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user"
)

#: A user id that owns nothing on this machine.
STRANGER = 54321
HOLD = """
import os, sys, time
from pathlib import Path
user, shared, *cards = sys.argv[1:]
import psutil  # while its files can still be read
from pytest_llmperf.engine import device_lock, lock_files
os.umask(0o077)
if int(user):
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
lock_files.SHARED = Path(shared)
lock = device_lock.DeviceLock(cards=lambda: cards)
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock folder of all users, not created yet; this user's own folder is beside it."""
    monkeypatch.delenv("LLMPERF_DEVICE_LOCK", raising=False)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
        if folder.name.startswith("pytest-of"):
            break
    everywhere = tmp_path / "tmp"
    everywhere.mkdir()
    everywhere.chmod(0o1777)
    monkeypatch.setattr(lock_files, "SHARED", everywhere / "all")
    monkeypatch.setattr(lock_files, "OWN", everywhere / "own")
    return everywhere / "all"


@contextmanager
def session(shared: Path, *cards: str, user: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Run another session that holds these GPUs, or the whole machine if none is named."""
    command = [sys.executable, "-c", HOLD, str(user), str(shared), *cards]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def free(*cards: str) -> bool:
    """Return whether this process could hold these GPUs, or the whole machine, at once."""
    lock = DeviceLock(timeout=0, cards=lambda: cards)
    try:
        lock.acquire()
    except DeviceBusyError:
        return False
    lock.release()
    return True


USERS = [0, pytest.param(STRANGER, marks=as_root)]


@pytest.mark.parametrize("user", USERS)
def test_sessions_on_one_card_exclude_each_other_and_others_do_not(shared: Path, user: int) -> None:
    with session(shared, "GPU-1", "GPU-2", user=user):
        assert not free("GPU-1")
        assert not free("GPU-0", "GPU-2")
        assert free("GPU-0")
        assert not free()  # a session that may use the CPU, or any GPU
    assert free("GPU-1")
    assert free()


@pytest.mark.parametrize("user", USERS)
def test_a_session_on_the_processor_excludes_every_other(shared: Path, user: int) -> None:
    with session(shared, user=user):
        assert not free("GPU-0")
        assert not free()
    assert free("GPU-0")


@as_root
@pytest.mark.parametrize("cards", [(), ("GPU-0",)])
def test_who_waits_reads_which_users_process_it_waits_for(
    shared: Path, cards: tuple[str, ...]
) -> None:
    notices: list[str] = []
    with session(shared, *cards, user=STRANGER) as other:
        with pytest.raises(DeviceBusyError, match=f"process {other.pid} of {STRANGER}"):
            DeviceLock(timeout=1.2, notify=notices.append).acquire()
    line = f"waiting for another session (process {other.pid} of {STRANGER}) to free the device"
    assert notices == [line]


def test_the_files_are_for_all_users_whatever_the_umask(shared: Path) -> None:
    before = os.umask(0o077)
    try:
        assert free("GPU-0")
    finally:
        os.umask(before)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in shared.iterdir()}
    assert modes == {"machine.lock": 0o666, "gpu-GPU-0.lock": 0o666}


def test_a_lock_file_that_was_removed_while_it_was_waited_for_is_made_again(shared: Path) -> None:
    waiting = lock_files.LockFile(lock_files.LockFolder(shared, "shared"), "machine.lock")
    (shared / "machine.lock").unlink()
    assert waiting.take()
    assert not free()
    waiting.close()


def plant_link(shared: Path, victim: Path) -> None:
    (shared / "machine.lock").symlink_to(victim)


def plant_dangling_link(shared: Path, victim: Path) -> None:
    (shared / "machine.lock").symlink_to(victim.with_name("made through the link"))


def plant_second_name(shared: Path, victim: Path) -> None:
    os.link(victim, shared / "machine.lock")


def plant_pipe(shared: Path, _victim: Path) -> None:
    os.mkfifo(shared / "machine.lock")


def plant_folder(shared: Path, _victim: Path) -> None:
    (shared / "machine.lock").mkdir()


@pytest.mark.parametrize(
    "plant", [plant_link, plant_dangling_link, plant_second_name, plant_pipe, plant_folder]
)
def test_what_is_planted_for_a_lock_file_is_not_followed(
    shared: Path, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    shared.mkdir()
    shared.chmod(0o1777)
    plant(shared, victim)
    notices: list[str] = []
    lock = DeviceLock(timeout=0, notify=notices.append)
    lock.acquire()
    assert lock.held
    assert victim.read_text() == "precious"
    assert not (tmp_path / "made through the link").exists()
    assert [line.partition(":")[0] for line in notices] == ["note"]
    assert f"sessions of other users are not waited for: the lock files in {shared}" in notices[0]
    assert not free()  # this user's own sessions still exclude each other
    lock.release()


@pytest.mark.parametrize(
    "kind", ["a link", "a file", pytest.param("another user's", marks=as_root)]
)
def test_a_folder_that_can_not_be_used_leaves_the_users_own(
    shared: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o777)
        shared.symlink_to(tmp_path / "elsewhere")
    elif kind == "a file":
        shared.touch()
    else:
        shared.mkdir(0o700)
        os.chown(shared, STRANGER, STRANGER)
    notices: list[str] = []
    lock = DeviceLock(timeout=0, notify=notices.append)
    lock.acquire()
    assert len(notices) == 1
    assert (lock_files.OWN / "machine.lock").read_text() == f"{os.getpid()}\n"
    if kind == "a link":
        assert list((tmp_path / "elsewhere").iterdir()) == []
    lock.release()


def test_where_even_the_users_own_folder_is_planted_the_session_is_refused(
    shared: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    for folder in (shared, lock_files.OWN):
        folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeviceBusyError, match=r"own/machine\.lock can't be used: .*set LLMPERF_"):
        DeviceLock(timeout=0).acquire()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_another_temporary_folder_is_no_other_machine(tmp_path: Path) -> None:
    code = "from pytest_llmperf.engine.lock_files import OWN, SHARED; print(SHARED, OWN)"
    for folder in (tmp_path, Path("/tmp")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "TMPDIR": str(folder)},
            capture_output=True,
            text=True,
            check=True,
        )
        own = f"/tmp/pytest-llmperf-{os.geteuid()}"
        assert done.stdout.split() == ["/tmp/pytest-llmperf", own]
