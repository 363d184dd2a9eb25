from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineGoneError, EngineLoadError
from pytest_llmperf.engine.wire import decode, encode

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(), anything))
def test_whatever_is_sent_arrives_on_one_line(message: dict[str, object]) -> None:
    line = encode(message)

    assert line.count(b"\n") == 1
    assert decode(line) == message


@pytest.mark.parametrize("text", ["\n\r\u2028\u2029\x85\x0b", "\udfff \ud800", "\x00\x1b]0;x\x07"])
def test_hostile_text_arrives_as_it_was(text: str) -> None:
    assert decode(encode({"text": text})) == {"text": text}


@pytest.mark.parametrize("line", [b"[1]\n", b"hello\n", b"\xff\n", b"\n"])
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(line)


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], LaunchSpec]:
    """A stand-in for the interpreter, which answers differently from a worker."""

    def make(script: str) -> LaunchSpec:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return LaunchSpec("app", {"target": "a:b"}, python=str(path))

    return make


def test_a_worker_that_ends_at_once_is_reported_with_what_it_said(
    stand_in: Callable[[str], LaunchSpec],
) -> None:
    with pytest.raises(EngineGoneError) as caught:
        EngineClient.start(stand_in("echo 'no such module: nonsense' >&2; exit 3"))

    assert str(caught.value) == (
        "the engine's process ended with exit status 3 while starting\n"
        "last lines of the engine's log:\n"
        "  | no such module: nonsense"
    )


def test_lines_that_are_not_of_the_protocol_go_to_the_log(
    stand_in: Callable[[str], LaunchSpec],
) -> None:
    with pytest.raises(EngineGoneError, match="output on the protocol's pipe: b'Welcome!"):
        EngineClient.start(stand_in("echo 'Welcome!'; exit 1"))


def test_an_interpreter_that_is_not_there_is_a_load_error(tmp_path: Path) -> None:
    spec = LaunchSpec("app", {"target": "a:b"}, python=str(tmp_path / "nowhere"))

    with pytest.raises(EngineLoadError, match=r"nowhere.* could not be started: .*No such file"):
        EngineClient.start(spec)


def test_a_working_directory_that_is_not_there_is_a_load_error(tmp_path: Path) -> None:
    spec = LaunchSpec(
        "app", {"target": "a:b"}, python=sys.executable, cwd=str(tmp_path / "nowhere")
    )

    with pytest.raises(EngineLoadError, match=r" in .*nowhere.* could not be started"):
        EngineClient.start(spec)
