"""A folder with one perf test of a small application."""

from __future__ import annotations

import pytest

TOY = """
import time

def answer(prompt, max_tokens=4):
    for number in range(max_tokens):
        time.sleep(0.002)
        yield f"word{number} "
"""
CONFIG = """
llm: {engine: app, target: "toy:answer", n_threads: 1, n_threads_batch: 1}
perf: {tolerance: 50%, max_pairs: 12}
"""
TEST = """
import pytest

@pytest.mark.perf
def test_short(llm_engine):
    llm_engine.generate("Hi", max_tokens=16)
"""

#: What else runs on this machine is judged elsewhere, and voids no pair here.
CONFTEST = """
import pytest_llmperf.session.machine_watch as machine_watch

machine_watch.judge = machine_watch.judge_host = lambda *_: []
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    # Sessions of this user outside the test hold the usual one.
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(pytester.path / "device.lock"))
    pytester.makepyfile(toy=TOY, test_toy=TEST, conftest=CONFTEST)
    pytester.path.joinpath("config.yaml").write_text(CONFIG)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return pytester
