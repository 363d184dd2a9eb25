"""A session that sees only certain cards locks those, and runs beside sessions on others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_projects import Project

from pytest_llmperf.engine import lock_files
from pytest_llmperf.engine.device_lock import DeviceLock
from pytest_llmperf.machine.gpu.claims import claimed_cards

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks are shared on POSIX only")

TEST = """
from pytest_llmperf.engine.device_lock import DeviceBusyError, DeviceLock

@pytest.mark.perf
def test_answer(llm_engine):
    llm_engine.generate("hello", max_tokens=4)
    for cards in ({cards!r}, None):
        with pytest.raises(DeviceBusyError):
            DeviceLock(timeout=0, cards=lambda cards=cards: cards).acquire()
"""

#: Holds the device until its input ends.
HOLDER = """
import sys
from pytest_llmperf.engine.device_lock import DeviceLock
DeviceLock().acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.usefixtures("quiet_machine")
@pytest.mark.timeout(100)
def test_a_session_holds_its_cards_and_waits_for_no_other(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LLMPERF_DEVICE_LOCK")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(lock_files, "SHARED", tmp_path / "locks")
    cards = claimed_cards("app", {}, os.environ)
    assert cards
    project.write(test_it=TEST.format(cards=cards))
    beside = DeviceLock(timeout=0, cards=lambda: ["another"])
    beside.acquire()
    try:
        result = project.perf()
    finally:
        beside.release()
    result.assert_outcomes(passed=1)
    assert "waiting for another session" not in result.stdout.str()
    held = {path.name for path in (tmp_path / "locks").iterdir()}
    assert held == {"machine.lock", "gpu-another.lock", *(f"gpu-{card}.lock" for card in cards)}


@pytest.mark.usefixtures("quiet_machine")
@pytest.mark.timeout(100)
def test_a_session_that_passes_says_that_it_waits_for_the_device(project: Project) -> None:
    body = "llm_engine.generate('hello', max_tokens=4)"
    project.write(test_it=f"@pytest.mark.perf\ndef test_it(llm_engine):\n    {body}")
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    session = [sys.executable, "-m", "pytest", "-m", "perf"]
    with subprocess.Popen([sys.executable, "-c", HOLDER], **piped) as holder:
        assert holder.stdout.readline() == "held\n"
        with subprocess.Popen(session, cwd=project.path, **piped) as waiting:
            said = []
            for line in waiting.stdout:
                said.append(line)
                if "waiting for another session" in line:
                    holder.stdin.close()
    text = f"llmperf: waiting for another session (process {holder.pid}) to free the device\n"
    assert text in said
    assert waiting.returncode == 0
