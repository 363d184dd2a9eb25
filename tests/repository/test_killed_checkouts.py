"""A checkout killed at any moment: the user's repository is untouched, the next run cleans up."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from commit_projects import repository_at, snapshot
from git_projects import commit, git, write

from pytest_llmperf.repository.checkout import check_out

ROOT = Path(__file__).parents[2]
CODE = """
import sys
from pathlib import Path
from pytest_llmperf.repository.checkout import check_out
from pytest_llmperf.repository.git import GitError, Repository

repository = Repository.around(Path(sys.argv[1]))
commit = repository.commit("HEAD~1")
print("ready", flush=True)
while True:
    try:
        checkout = check_out(repository, commit, Path(sys.argv[2]))
    except GitError as error:
        sys.exit(print(error))
    print("made", flush=True)
    if sys.argv[3] == "hold":
        sys.stdin.read()
    checkout.close()
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills as POSIX does")


@pytest.fixture
def large(project: Path) -> Path:
    """A project with many files, so that a checkout takes a while, and uncommitted work."""
    for number in range(300):
        write(project / "many" / f"{number % 20}" / f"{number}.txt", f"{number}\n" * 50)
    commit(project, "many files")
    git(project, "rm", "--quiet", "-r", "many")
    commit(project, "no more")
    write(project / "code.py", "uncommitted\n")
    write(project / "small.gguf", "a model")
    return project


class Child:
    """A process that makes and removes checkouts for ever, or holds one until it is killed."""

    def __init__(self, project: Path, cache: Path, mode: str = "loop") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(project), str(cache), mode],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.wait_for(b"ready")

    def wait_for(self, word: bytes) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def kill(self, with_its_git: bool) -> None:
        if with_its_git:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def holder(large: Path, cache: Path) -> Iterator[Child]:
    child = Child(large, cache, "hold")
    child.wait_for(b"made")
    yield child
    if child.process.poll() is None:
        child.kill(with_its_git=True)


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "worktrees").glob("*/*"))


@pytest.mark.parametrize("with_its_git", [True, False], ids=["all of it", "not its git"])
def test_killed_at_any_moment(large: Path, cache: Path, with_its_git: bool) -> None:
    repository = repository_at(large)
    base = repository.commit("HEAD~1")
    assert base is not None
    before = snapshot(large)
    chance = random.Random(7)
    for _ in range(10):
        child = Child(large, cache)
        time.sleep(chance.uniform(0, 0.25))
        child.kill(with_its_git)
        assert snapshot(large) == before
    with check_out(repository, base, cache) as checkout:
        assert len(list((checkout.top / "many").rglob("*.txt"))) == 300
        assert git(checkout.top, "status", "--porcelain") == ""
        # Only this checkout's folder and lock: a git that outlived its session has ended by now.
        assert len(leftovers(cache)) == 2
    assert leftovers(cache) == []
    assert snapshot(large) == before


def test_git_killed_at_any_moment_is_told_and_leaves_nothing(large: Path, cache: Path) -> None:
    before = snapshot(large)
    chance = random.Random(7)
    for _ in range(6):
        child = Child(large, cache)
        time.sleep(chance.uniform(0, 0.15))
        while child.process.poll() is None:
            for git_process in psutil.Process(child.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    git_process.kill()
        assert child.process.stdout is not None
        *_, last = child.process.stdout.read().decode().splitlines()
        assert "was killed (signal 9)" in last
        assert "free space" not in last
        child.kill(with_its_git=False)
        assert leftovers(cache) == []
    assert snapshot(large) == before


def test_what_lives_is_left_alone(large: Path, cache: Path, holder: Child) -> None:
    repository = repository_at(large)
    head = repository.head()
    assert head is not None
    (alive,) = {name.removesuffix(".lock") for name in leftovers(cache)}
    with check_out(repository, head, cache):
        assert alive in leftovers(cache)
    assert len(list(cache.rglob("many/*/*.txt"))) == 300
    holder.kill(with_its_git=True)
    with check_out(repository, head, cache):
        assert alive not in leftovers(cache)


def test_leftovers_of_other_repositories_go_too(
    large: Path, cache: Path, holder: Child, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", str(large), "other")
    other = repository_at(tmp_path / "other")
    head = other.head()
    assert head is not None
    holder.kill(with_its_git=True)
    with check_out(other, head, cache):
        assert not list(cache.rglob("many"))


def test_what_is_not_a_checkout_stays(large: Path, cache: Path) -> None:
    repository = repository_at(large)
    head = repository.head()
    assert head is not None
    with check_out(repository, head, cache) as checkout:
        parent = next(
            folder for folder in checkout.top.parents if folder.parent.name == "worktrees"
        )
        write(parent / "notes" / "a", "somebody's")
    check_out(repository, head, cache).close()
    assert (parent / "notes" / "a").exists()
