"""Errors of ``llm_engine`` are shown at the test's own line, in every traceback style."""

from __future__ import annotations

import os

import pytest

APPLICATION = """
def answer(prompt):
    if prompt == "refuse":
        raise LookupError("no such question")
    yield "word"
"""

BODIES = """
import unittest

def ask(llm_engine):
    llm_engine.generate("refuse")  # LINE helper

@pytest.mark.perf
def test_perf(llm_engine):
    ask(llm_engine)

def test_argument(llm_engine):
    llm_engine.generate("a", temprature=3)  # LINE argument

def test_stream(llm_engine):
    list(llm_engine.stream("refuse"))  # LINE stream

@pytest.fixture
def warm(llm_engine):
    llm_engine.chat("no list")  # LINE fixture

def test_fixture(warm): pass

@pytest.fixture
def given(request, llm_engine):
    request.cls.engine = llm_engine

@pytest.mark.usefixtures("given")
class TestOld(unittest.TestCase):
    def test_old(self):
        self.engine.generate("")  # LINE unittest
"""

OURS = f"pytest_llmperf{os.sep}"


@pytest.fixture
def failing(project):
    """A project in which every test makes the engine raise an error."""
    project.pytester.makepyfile(toy=APPLICATION)
    project.write(test_it=BODIES)
    return project


@pytest.mark.parametrize("options", [["--tb=short"], ["--tb=long", "-v"], ["--tb=native"]])
def test_no_frame_of_this_package_is_shown_and_every_line_of_the_tests_is(failing, options):
    result = failing.here("-m", "perf or not perf", "-o", "console_output_style=classic", *options)
    result.assert_outcomes(failed=4, errors=1)
    said = result.stdout.str()
    assert OURS not in said
    for line in BODIES.splitlines():
        if "LINE" in line:
            assert line.strip() in said
    for message in (
        "EngineError: toy:answer raised LookupError: no such question",
        "unknown argument 'temprature'; did you mean 'temperature'?",
        "messages: expected a list of",
        "an empty prompt: nothing to evaluate",
    ):
        assert message in said


def test_a_full_trace_shows_everything(failing):
    assert OURS in failing.here("-k", "argument", "--full-trace").stdout.str()


def test_an_error_of_this_package_keeps_its_frames(failing, monkeypatch):
    """Nobody could fix a bug whose frames are hidden."""
    monkeypatch.setattr("pytest_llmperf.engine.handle.drain", lambda _: {}["a bug"])
    said = failing.here("-k", "argument or perf", "-m", "perf or not perf").stdout.str()
    assert f"{OURS}engine{os.sep}handle.py" in said


def test_what_led_to_a_refusal_inside_this_package_is_not_shown(project):
    project.write(
        test_it="""
        import os, pathlib

        def test_x(llm_engine):
            llm_engine.close()
            lock = pathlib.Path(os.environ["LLMPERF_DEVICE_LOCK"])
            lock.unlink(missing_ok=True)
            lock.mkdir()
            llm_engine.generate("a")  # LINE
        """
    )
    said = project.here("-k", "test_x").stdout.str()
    assert 'llm_engine.generate("a")  # LINE' in said
    assert "direct cause" not in said
    assert OURS not in said


def test_a_verdict_ends_with_the_tests_own_line(project):
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_x(llm_engine):
            pass
        """
    )
    result = project.here("-m", "perf")
    result.stdout.fnmatch_lines(["this perf test made no request to llm_engine*", "test_it.py:3"])
