"""Checks a session for problems before any model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_llmperf.atomic_write import unwritable
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.store import BaselineStore
from pytest_llmperf.calibration.request import CalibrationRequest, CalibrationRequestError
from pytest_llmperf.plugin.options import Options, usage_error
from pytest_llmperf.session.facts import machine_before_loading
from pytest_llmperf.session.setup import EngineSetup


def check_before_loading(
    config: pytest.Config, items: Sequence[pytest.Item], setup: EngineSetup, options: Options
) -> None:
    """Check other plugins, the baselines, and the places this session will write to.

    Raises:
        pytest.UsageError: naming all problems.
    """
    problems = [*_reruns(config, items), *_duplicates(items)]
    try:
        BaselineStore(setup.loaded.baselines_dir).check_all()
    except BaselineError as error:
        problems.append(str(error))
    if options.against is not None and options.against_config is not None:
        problems.append(
            "--llmperf-against and --llmperf-against-config: use only one of them; "
            "--llmperf-against already uses the other commit's configuration"
        )
    if options.accept is not None and not options.accept.strip():
        problems.append("--llmperf-accept: give the reason for accepting this level; it is stored")
    calibration = None if options.calibrate is None else read_calibration(options.calibrate)
    if options.record or calibration is not None:
        machine = machine_before_loading(setup.llm)
        folder = setup.loaded.baselines_dir / (machine.key if machine else "")
        written = folder if calibration is None else calibration.folder(folder)
        if written is not None:
            problems += unwritable(written, "perf.baselines")
    for option, path in options.reports.items():
        problems += _no_file(path, option)
    problems += _same_files(config, setup, options)
    if options.html_samples and options.html_path is None:
        problems.append("--llmperf-html-samples: there is no page without --llmperf-html FILE")
    if calibration is not None:
        problems += _calibration(calibration, options)
    if options.tune is not None:
        problems += _unused(options, "llmperf tune, which compares settings with each other")
    if problems:
        raise usage_error("\n".join(problems))


def read_calibration(path: Path) -> CalibrationRequest:
    """Read the request of ``llmperf calibrate``.

    Raises:
        pytest.UsageError: the file is not such a request.
    """
    try:
        return CalibrationRequest.read(path)
    except CalibrationRequestError as error:
        raise usage_error(f"--llmperf-calibrate {error}") from None


def _calibration(request: CalibrationRequest, options: Options) -> list[str]:
    """Return problems: places a calibration can't write to, and options that do not apply."""
    problems = _unused(options, "llmperf calibrate, which judges the tests against themselves")
    if request.json is not None:
        problems += _no_file(Path(request.json), "--json")
    return problems


def _unused(options: Options, command: str) -> list[str]:
    """Return a problem for each option that does not apply to a command."""
    name, _, _ = command.partition(",")
    return [
        f"{option} can't be used with {command} and records no baseline; remove it"
        + (f" ({name} --json FILE writes its outcome)" if option.endswith("json") else "")
        for option in options.needing_measurement
        if option != "--llmperf-require-baseline"
    ]


def _no_file(path: Path, option: str) -> list[str]:
    """Return a problem if the file can't be written."""
    if path.is_dir():
        return [f"{option} {path}: is a folder; name a file"]
    if not path.parent.is_dir():
        return [f"{option} {path}: there is no folder {path.parent}"]
    return unwritable(path.parent, option)


def _same_files(config: pytest.Config, setup: EngineSetup, options: Options) -> list[str]:
    """Return a problem for each report that would replace another file of this session."""
    taken = {setup.loaded.path.resolve(): "the configuration"} if setup.loaded.path else {}
    if (xml := getattr(config.option, "xmlpath", None)) is not None:
        taken[(config.invocation_params.dir / xml).resolve()] = "--junitxml"
    problems = []
    for option, path in options.reports.items():
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            problems.append(f"{other} and {option} name the same file; give each a name of its own")
    return problems


def _duplicates(items: Sequence[pytest.Item]) -> list[str]:
    """Return a problem for each test that is given twice, as a test has only one verdict."""
    counts = Counter(item.nodeid for item in items)
    return [
        f"{nodeid}: this perf test is selected more than once, but can be measured only once; "
        "remove --keep-duplicates"
        for nodeid, number in counts.items()
        if number > 1
    ]


def _reruns(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """Return a problem if pytest-rerunfailures is used: rerunning until green hides regressions."""
    if not config.pluginmanager.hasplugin("rerunfailures"):
        return []
    asked = config.getoption("reruns", None)
    everywhere = int((config.getini("reruns") if asked is None else asked) or 0)
    asking = [item for item in items if everywhere or item.get_closest_marker("flaky")]
    if not asking:
        return []
    return [
        f"{asking[0].nodeid}"
        + (f" and {len(asking) - 1} more" if len(asking) > 1 else "")
        + ": pytest-rerunfailures would rerun this perf test until it is green, which turns a "
        "regression into luck; remove --reruns or the flaky marker (a perf test is already "
        "measured in several processes)"
    ]
