from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from locks import FileLock

_HOLD = """
import sys; sys.path.insert(0, {tools!r})
from pathlib import Path
from locks import FileLock
with FileLock(Path({path!r}), "x"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(root, tmp_path):
    code = _HOLD.format(tools=str(root / "tools"), path=str(tmp_path / "l.lock"))
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"held"
        yield process
        process.kill()


def _take(path, order):
    with FileLock(path, "the same engine build"):
        order.append("taken")


def test_second_one_waits_and_says_for_what(holder, tmp_path, capsys):
    order: list[str] = []
    thread = threading.Thread(target=_take, args=(tmp_path / "l.lock", order))
    thread.start()
    thread.join(0.6)
    assert order == []
    holder.stdin.close()
    thread.join(10)
    assert order == ["taken"]
    assert capsys.readouterr().out.count("waiting for the same engine build") == 1


def test_killed_holder_frees_the_lock(holder, tmp_path):
    holder.kill()
    holder.wait()
    order: list[str] = []
    _take(tmp_path / "l.lock", order)
    assert order == ["taken"]
