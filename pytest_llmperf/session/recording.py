"""Recording a workload without pytest: a function runs once with an engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmperf.engine.device_lock import DeviceLock
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.measure.workload import Recorder
from pytest_llmperf.session.measuring import cards_of
from pytest_llmperf.session.recorded import RecordedTest, checks_of_test

if TYPE_CHECKING:
    from pytest_llmperf.session.setup import EngineSetup


def record_body(
    setup: EngineSetup,
    name: str,
    body: Callable[[LlmEngine], object],
    notify: Callable[[str], None],
) -> tuple[RecordedTest, LlmEngine]:
    """Run a function once; return the recorded requests, and the closed engine.

    Args:
        setup: the configuration; its targets and tolerance are the test's.
        name: the workload's name.
        body: makes the requests.
        notify: shows why it waits for the device.

    Raises:
        ValueError: ``body`` makes no request to the engine.
        EngineError: the engine can't be loaded, or refuses a request.
    """
    lock = DeviceLock(notify=notify, cards=partial(cards_of, [setup.spec]))
    engine = LlmEngine(setup.spec, setup.llm.max_tokens, lock)
    recorder = Recorder()
    engine.observer = recorder
    try:
        body(engine)
    finally:
        engine.observer = None
        engine.close()
    recorded = recorder.workload()
    if recorded is None:
        raise ValueError(f"{name} makes no request to the engine, so there is nothing to measure")
    checks = checks_of_test(
        {}, setup.perf.targets, setup.perf.tolerance, in_chunks=setup.spec.kind.loads
    )
    return RecordedTest(name, recorded, recorder.seconds, checks), engine
