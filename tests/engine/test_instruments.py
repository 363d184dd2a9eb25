"""Tracers, profilers and debug modes in an engine's process are seen, or kept out of it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.instruments import Instrument
from pytest_llmperf.engine.request import build_request

Clients = Callable[[LaunchSpec], EngineClient]
AppSpec = Callable[..., LaunchSpec]

#: Turns on the tool that its prompt names, and off again at the next request.
SELF_MADE = """
    import cProfile, gc, signal, sys, threading, tracemalloc

    def nothing(*_):
        return None

    ON_AND_OFF = {
        "sys.settrace": (lambda: sys.settrace(nothing), lambda: sys.settrace(None)),
        "sys.setprofile": (lambda: sys.setprofile(nothing), lambda: sys.setprofile(None)),
        "threading": (lambda: threading.settrace(nothing), lambda: threading.settrace(None)),
        "timer": (
            lambda: (signal.signal(signal.SIGPROF, signal.SIG_IGN),
                     signal.setitimer(signal.ITIMER_PROF, 60)),
            lambda: signal.setitimer(signal.ITIMER_PROF, 0),
        ),
        "tracemalloc": (tracemalloc.start, tracemalloc.stop),
        "gc": (lambda: gc.set_debug(gc.DEBUG_UNCOLLECTABLE), lambda: gc.set_debug(0)),
    }
    off = [nothing]

    def answer(prompt):
        off.pop()()
        on, after = ON_AND_OFF.get(prompt, (nothing, nothing))
        off.append(after)
        on()
        if prompt == "only while it answers":
            with cProfile.Profile():
                yield "a"
                yield "b"
        else:
            yield "a"
            yield "b"
"""


def ask(client: EngineClient, prompt: str = "hi") -> tuple[Instrument, ...]:
    return client.request(build_request(prompt=prompt, max_tokens=None)).instruments


def test_what_an_application_turns_on_itself_is_seen_while_it_is_on(
    app_spec: AppSpec, clients: Clients
) -> None:
    client = clients(app_spec(SELF_MADE))

    assert ask(client) == ()
    for prompt, check, name in (
        ("sys.settrace", "traced", "application (sys.settrace)"),
        ("sys.setprofile", "traced", "application (sys.setprofile)"),
        ("threading", "traced", "application (threading.settrace)"),
        ("timer", "traced", "a sampling profiler (ITIMER_PROF)"),
        ("tracemalloc", "debug_mode", "tracemalloc"),
        ("gc", "debug_mode", "gc.set_debug"),
    ):
        assert ask(client, prompt) == (Instrument(check, name, from_outside=False),)
        assert ask(client) == ()


def test_a_profiler_that_is_on_only_while_it_answers_is_seen(
    app_spec: AppSpec, clients: Clients
) -> None:
    ((check, name, from_outside),) = ask(clients(app_spec(SELF_MADE)), "only while it answers")

    assert (check, from_outside) == ("traced", False)
    assert name in ("cProfile (sys.setprofile)", "cProfile (sys.monitoring)")


def test_what_the_environment_turns_on_is_seen_and_told_apart(
    app_spec: AppSpec, clients: Clients, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.settrace(lambda *_: None)\n")
    (tmp_path / "ddtrace.py").touch()
    (tmp_path / "usercustomize.py").touch()
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, ddtrace\n\ndef trace(*_): return None\n\nsys.settrace(trace)\n"
    )
    modes = {
        "PYTHONDEVMODE": "1",
        "PYTHONASYNCIODEBUG": "1",
        "PYTHONMALLOC": "pymalloc_debug",
        "PYTHONTRACEMALLOC": "1",
        "MALLOC_PERTURB_": "7",
        "MALLOC_CHECK_": "0",
        "CUDA_LAUNCH_BLOCKING": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    spec = app_spec("def answer(_): yield from 'ab'", env={**modes, "PYTHONPATH": str(tmp_path)})

    instruments = ask(clients(spec))

    assert all(instrument.from_outside for instrument in instruments)
    assert {instrument.name for instrument in instruments if instrument.check == "traced"} == {
        "ddtrace",
        "sitecustomize (sys.settrace)",
    }
    assert {instrument.name for instrument in instruments if instrument.check == "debug_mode"} == {
        "CUDA_LAUNCH_BLOCKING=1",
        "MALLOC_PERTURB_=7",
        "PYTHONASYNCIODEBUG=1",
        "PYTHONMALLOC=pymalloc_debug",
        "Python's development mode (PYTHONDEVMODE)",
        "tracemalloc",
    }


@pytest.fixture
def measured_by_coverage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder; every Python process that starts in it is measured by coverage."""
    (tmp_path / "coveragerc").write_text("[run]\nparallel = true\nbranch = true\n")
    monkeypatch.setenv("COVERAGE_PROCESS_START", str(tmp_path / "coveragerc"))
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "")
    monkeypatch.setenv("COVERAGE_CORE", "ctrace")
    monkeypatch.setenv("COV_CORE_SOURCE", "")
    return tmp_path


def test_coverage_of_every_process_leaves_applications_out(
    app_spec: AppSpec, clients: Clients, measured_by_coverage: Path
) -> None:
    source = """
        import os
        def answer(_):
            yield str([name for name in os.environ if name.startswith(("COVERAGE_P", "COV_"))])
    """
    client = clients(app_spec(source, cwd=str(measured_by_coverage)))
    generation = client.request(build_request(prompt="hi", max_tokens=None))
    client.close()

    assert generation.instruments == ()
    assert generation.text == "[]"
    assert not list(measured_by_coverage.glob(".coverage*"))


def test_coverage_that_got_there_all_the_same_is_named(
    app_spec: AppSpec, clients: Clients, measured_by_coverage: Path
) -> None:
    env = {"COVERAGE_PROCESS_START": str(measured_by_coverage / "coveragerc")}
    spec = app_spec("def answer(_): yield from 'ab'", cwd=str(measured_by_coverage), env=env)

    instruments = ask(clients(spec))

    assert Instrument("traced", "coverage (sys.settrace)", from_outside=True) in instruments


def test_llama_is_measured_by_nothing_whatever_the_environment_says(
    llama_config: Callable[..., dict[str, Any]],
    clients: Clients,
    measured_by_coverage: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHONTRACEMALLOC"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PYTHONMALLOC", "debug")
    bootstrap = measured_by_coverage / "ddtrace" / "bootstrap"
    bootstrap.mkdir(parents=True)
    (bootstrap / "sitecustomize.py").write_text("import sys\nsys.setprofile(lambda *_: None)\n")
    monkeypatch.setenv("PYTHONPATH", str(bootstrap))
    spec = LaunchSpec("llama_cpp", llama_config(), cwd=str(measured_by_coverage))
    client = clients(spec)
    generation = client.request(build_request(prompt="hi", max_tokens=2))
    client.close()

    assert generation.instruments == ()
    assert not list(measured_by_coverage.glob(".coverage*"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="traces system calls")
def test_a_debugger_that_is_attached_is_named(app_spec: AppSpec, clients: Clients) -> None:
    seize = 0x4206  # PTRACE_SEIZE: attaches and lets it run
    client = clients(app_spec("def answer(_): yield from 'ab'"))
    if ctypes.CDLL(None).ptrace(seize, client.pid, None, None) != 0:
        pytest.skip("this system lets nobody trace")

    ((check, name, from_outside),) = ask(client)

    assert (check, from_outside) == ("traced", False)
    assert name.endswith(f"(process {os.getpid()}, ptrace)")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12")
def test_tools_of_sys_monitoring_are_seen(app_spec: AppSpec, clients: Clients) -> None:
    source = """
        import sys
        def answer(_):
            sys.monitoring.use_tool_id(sys.monitoring.COVERAGE_ID, "measuring")
            yield from "ab"
    """

    instruments = ask(clients(app_spec(source)))

    assert instruments == (Instrument("traced", "measuring (sys.monitoring)", from_outside=False),)
