"""The API for measuring without pytest: configurations, workloads, comparisons, stored sessions.

::

    import pytest_llmperf as perf

    config = perf.configuration(llm={"model_path": "smollm2-135m", "n_ctx": 512})
    result = perf.measure_workload(config, "Explain a KV cache.", max_tokens=32)
    print(perf.table(result))
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_llmperf.api_arguments import check_has_run, prompts_of, setting_text
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.store import BaselineStore, StoredRecord
from pytest_llmperf.config.errors import ConfigError, Problem
from pytest_llmperf.config.load import load_config
from pytest_llmperf.config.project import ProjectFolders
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.report.footer import Remedies
from pytest_llmperf.report.table import render_table
from pytest_llmperf.session.base_side import setup_side, workload_may_differ
from pytest_llmperf.session.context import Console, SessionContext, SessionRequest, SilentConsole
from pytest_llmperf.session.machine_watch import FitWait
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.recording import record_body
from pytest_llmperf.session.result import SessionResult
from pytest_llmperf.session.run import Session
from pytest_llmperf.session.setup import EngineSetup, set_up_engine

__all__ = [
    "BaselineError",
    "ConfigError",
    "Console",
    "EngineError",
    "EngineSetup",
    "Interrupted",
    "SessionResult",
    "compare_configurations",
    "configuration",
    "measure_workload",
    "read_sessions",
    "table",
]

#: A prompt, several prompts (text or token ids), or a function that makes requests to an engine.
Requests = str | Sequence[str | list[int]] | Callable[[LlmEngine], object]

_log = logging.getLogger("pytest_llmperf")
_SILENT = SilentConsole()
_OPTION = "--llmperf-set "
_NAME = "workload"
_REMEDIES = Remedies(
    record="measure_workload(..., name=..., record=True)",
    accept="llmperf baseline accept --reason WHY",
    compare="compare_configurations(config, base, ...)",
    details="table(result, verbose=True)",
    strict=None,
)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a notebook's stop button; carries the result so far.

    Attributes:
        result: as from a finished session; its verdicts judge the processes measured so far.
    """

    def __init__(self, result: SessionResult) -> None:
        super().__init__("stopped while measuring; the result so far is this error's `result`")
        self.result = result


def configuration(
    file: str | Path | None = None,
    *,
    llm: Mapping[str, Any] | None = None,
    perf: Mapping[str, Any] | None = None,
    quality: Mapping[str, Any] | None = None,
) -> EngineSetup:
    """Read a configuration, check it, and find its model; nothing is loaded.

    Args:
        file: such as ``config.yaml``; None takes the current project's ``config.yaml`` if there
            is one, else the defaults.
        llm: engine settings that override the file's, such as ``{"n_ctx": 512}``.
        perf: settings for measuring and judging, such as ``{"targets": {"tokens_per_sec": 60}}``.
        quality: the reference and the text for comparing answers, such as
            ``{"reference": {"model_path": "model-F16.gguf"}}``.

    Raises:
        ConfigError: the configuration is wrong; the message names every problem.
    """
    overrides, problems = _overrides(
        {"llm": llm or {}, "perf": perf or {}, "quality": quality or {}}
    )
    project = ProjectFolders.around(Path.cwd())
    try:
        loaded = load_config(None if file is None else Path(file), project, os.environ, overrides)
        if not problems:
            return set_up_engine(loaded, project, [str(project.root)], overrides)
    except ConfigError as error:
        problems += map(_as_argument, error.problems)
    raise ConfigError(problems)


def measure_workload(
    config: EngineSetup,
    workload: Requests,
    *,
    name: str | None = None,
    max_tokens: int | None = None,
    record: bool = False,
    console: Console | None = None,
) -> SessionResult:
    """Measure a workload until its targets and stored baselines are decided.

    Args:
        config: the configuration to measure; its ``perf`` section has the targets.
        workload: a prompt, several prompts, or a function that is called once with an engine.
        name: the workload's name in the result and in stored sessions; required with ``record``.
        max_tokens: output tokens for each prompt; None takes ``llm.max_tokens``.
        record: store the session as a baseline.
        console: output for progress; None shows none.

    Returns:
        The session's result, with one test.

    Raises:
        ValueError: the workload makes no request to the engine, or has no name to be stored under.
        TypeError: an argument has the wrong type, or ``max_tokens`` is given for a function,
            which passes it to the engine itself.
        EngineError: the engine can't be loaded, or refuses a request.
        BaselineError: stored sessions can't be used.
        GitError: the project's repository can't be read.
        Interrupted: Ctrl-C, after the first process was measured; with the result so far.
    """
    _check_arguments(name, config=config)
    if record and name is None:
        raise ValueError("a stored session needs a name for its workload: name=...")
    # Suspected regressions are not confirmed: that takes the same workload at another commit.
    context = _context(config, SessionRequest(record=record), console)
    return _run(context, *_recorded(context, config, workload, name or _NAME, max_tokens))


def compare_configurations(
    config: EngineSetup,
    base: EngineSetup,
    workload: Requests,
    *,
    name: str | None = None,
    max_tokens: int | None = None,
    console: Console | None = None,
) -> SessionResult:
    """Measure two configurations interleaved, until it is decided which is slower.

    Args:
        config: the candidate; its ``perf`` section says how to judge.
        base: the configuration to compare with.
        workload, name, max_tokens, console: as for ``measure_workload``.

    Returns:
        The candidate's result; ``regressed``: slower than ``base`` by more than the tolerance.

    Raises:
        ValueError, TypeError, EngineError, BaselineError, GitError, Interrupted: as
            ``measure_workload``.
    """
    _check_arguments(name, config=config, base=base)
    workload = prompts_of(workload)
    side = setup_side("base", config, base)
    context = _context(config, SessionRequest(base=side), console)
    test, engine = _recorded(context, config, workload, name or _NAME, max_tokens)
    if workload_may_differ(config, base):
        other, _ = _recorded(context, base, workload, test.nodeid, max_tokens)
        if other.workload.hash != test.workload.hash:
            changed = replace(side, changed={test.nodeid: other.workload})
            context = replace(context, request=replace(context.request, base=changed))
    return _run(context, test, engine)


def table(result: SessionResult, width: int = 100, verbose: bool = False) -> str:
    """Return a result as the table that pytest prints, in lines of at most ``width`` columns.

    ``verbose``: include intervals, evidence and ungated metrics, as with ``-v``.
    """
    lines = render_table(result, width, verbosity=int(verbose), remedies=_REMEDIES)
    return "\n".join([*lines, *result.problems])


def read_sessions(folder: str | Path = "perf_baselines") -> list[StoredRecord]:
    """Return the stored sessions of a folder, by machine, oldest first.

    Raises:
        BaselineError: there is no such folder, it is a machine's folder, or files can't be used
            (the message names all of them).
    """
    root = Path(folder)
    if not root.exists():
        raise BaselineError(
            f"{root}: no such folder; sessions are stored by {_REMEDIES.record} and by "
            "pytest -m perf --llmperf-record, in the folder perf.baselines"
        )
    if root.is_file():
        raise BaselineError(f"{root}: is a file; name the folder that holds the machines' folders")
    store = BaselineStore(root)
    sessions = [stored for machine in store.machines() for stored in store.read_machine(machine)]
    if not sessions and next(root.glob("[0-9]*T[0-9]*Z_*.json"), None) is not None:
        above = root.resolve().parent
        raise BaselineError(f"{root}: is a machine's folder; name the one above it: {above}")
    return sessions


def _context(
    config: EngineSetup, request: SessionRequest, console: Console | None
) -> SessionContext:
    console = console or _SILENT
    wait = FitWait(config.perf.wait_fit or 0.0, console.line)
    return SessionContext(config, wait, request, console)


def _run(context: SessionContext, test: RecordedTest, engine: LlmEngine) -> SessionResult:
    session = Session(context)
    try:
        session.prepare()
        return session.run([test], engine)
    except KeyboardInterrupt:
        result = session.partial_result()
        if result is None:
            raise
        raise Interrupted(_interrupted(result, context.request)) from None
    finally:
        session.close()


def _interrupted(result: SessionResult, request: SessionRequest) -> SessionResult:
    """Return the result with a problem if an interrupted session was to be recorded."""
    problems = result.problems
    if request.record and result.recorded_to is None:
        problems = (*problems, "the session was interrupted before it was recorded")
    return replace(result, problems=problems)


def _recorded(
    context: SessionContext,
    config: EngineSetup,
    workload: Requests,
    name: str,
    max_tokens: int | None,
) -> tuple[RecordedTest, LlmEngine]:
    """Run the workload once; return the recorded requests, and the closed engine."""
    if callable(workload) and max_tokens is not None:
        raise TypeError("max_tokens is for prompts; a function passes it to the engine itself")
    workload = prompts_of(workload)
    # Without a console, a wait of many minutes must not look like a hang.
    notify = _log.warning if context.console is _SILENT else context.console.line
    options = {} if max_tokens is None else {"max_tokens": max_tokens}

    def body(engine: LlmEngine) -> None:
        if callable(workload):
            check_has_run(workload, workload(engine))
            engine.finish_stream()
            return
        for prompt in workload:
            engine.generate(prompt, **options)

    return record_body(config, name, body, notify)


def _overrides(sections: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[Problem]]:
    """Return settings as ``section.key=value``, and problems with the others."""
    overrides: list[str] = []
    problems: list[Problem] = []
    for section, values in sections.items():
        if not isinstance(values, Mapping):
            raise TypeError(f"{section}: expected a dict of settings, got {values!r}")
        for name, value in values.items():
            try:
                text = setting_text(value)
            except (TypeError, ValueError) as error:
                problems.append(Problem(f"argument {section}.{name}", str(error)))
                continue
            if "=" in str(name):
                problems.append(Problem(f"argument {section}.{name}", "unknown key"))
            else:
                overrides.append(f"{section}.{name}={text}")
    return overrides, problems


def _check_arguments(name: object, **setups: object) -> None:
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ValueError(f"name: expected text that isn't blank, got {name!r}")
    for argument, setup in setups.items():
        if not isinstance(setup, EngineSetup):
            raise TypeError(f"{argument}: expected what configuration() returns, got {setup!r}")


def _as_argument(problem: Problem) -> Problem:
    """Name a setting as a Python argument, not as pytest's option."""
    return Problem(
        problem.where.replace(_OPTION, "argument "),
        problem.text.replace(_OPTION, "argument "),
        problem.key,
        problem.order,
    )
