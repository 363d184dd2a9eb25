"""An engine kind's declarations decide how its engines are treated, whatever their name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import outside_packages
import pytest

from pytest_llmperf.api import configuration
from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine_kinds import GROUP
from pytest_llmperf.machine.free_memory import has_room_beside, peak_memory
from pytest_llmperf.machine.host import HostWatch
from pytest_llmperf.measure.idle_turns import IdleTurns

ENGINE = """
class Engine:
    def __init__(self, config): pass
    def info(self): return {"engine_version": "1"}
    def reset(self): raise RuntimeError("was reset")
    def close(self): pass
"""
KINDS = """
from pytest_llmperf.extension import EngineKind

LOCAL = EngineKind("local", "declared_engine:Engine")
REMOTE = EngineKind("remote", "declared_engine:Engine", resets=False, computes_here=False)
LASTING = EngineKind("lasting", "declared_engine:Engine", restarts=False)
"""


@pytest.fixture(scope="module", autouse=True)
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Engines of an installed package."""
    with pytest.MonkeyPatch.context() as patch:
        outside_packages.install(
            patch,
            tmp_path_factory.mktemp("site") / "acme",
            "acme",
            GROUP,
            {name: f"declared_kinds:{name.upper()}" for name in ("local", "remote", "lasting")},
            declared_kinds=KINDS,
            declared_engine=ENGINE,
        )
        yield


def started(name: str) -> EngineClient:
    return EngineClient.start(LaunchSpec(name, {"extra": {}}))


def test_an_engine_that_computes_here_has_its_process_watched_and_its_caches_emptied() -> None:
    client = started("local")
    try:
        assert client.processes == (client.pid,)
        assert peak_memory(client.processes) > 0
        assert IdleTurns(client).cpu_seconds() > 0
        with pytest.raises(EngineError, match="was reset"):
            client.reset()
    finally:
        client.close()


def test_an_engine_that_computes_elsewhere_has_no_process_here_and_is_not_reset() -> None:
    client = started("remote")
    try:
        assert client.processes == ()
        assert peak_memory(client.processes) == 0
        assert IdleTurns(client).cpu_seconds() == 0
        assert has_room_beside(client.processes)
        watch = HostWatch(client.processes)
        watch.timed()
        assert watch.report().faults is None
        client.reset()
    finally:
        client.close()


def test_an_engine_that_cannot_be_restarted_is_refused_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        configuration(llm={"engine": "lasting"})
    assert str(caught.value) == (
        "argument llm.engine: the engine 'lasting' can't be measured: it can't be restarted, and "
        "only samples from fresh processes are independent; use an engine that can be restarted"
    )
