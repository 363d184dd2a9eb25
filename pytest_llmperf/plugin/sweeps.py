"""The marker ``perf_sweep``: a test for each combination of engine settings, a cell of a grid."""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.plugin.marker_lines import marker_line
from pytest_llmperf.plugin.markers import MarkerError

if TYPE_CHECKING:
    from pytest_llmperf.config.llm_section import LlmConfig
    from pytest_llmperf.plugin.settings import Settings
    from pytest_llmperf.session.cell import Cell
    from pytest_llmperf.session.setup import EngineSetup

MARKER = "perf_sweep"
#: The hidden parameter of a test in a sweep.
PARAMETER = "_llmperf_cell"
_EXAMPLE = "perf_sweep(n_batch=[512, 1024])"


@dataclass(frozen=True)
class SweepParameter:
    """The value of the hidden parameter.

    Attributes:
        name: its part of the test's id, ``n_batch=512-n_ctx=1024``.
        settings: the engine settings, as the marker names them.
    """

    name: str
    settings: Mapping[str, Any]


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Create a test for each cell; ``read_cells`` reports wrong markers later."""
    try:
        cells = list(_cells(_values(metafunc.definition)))
    except MarkerError:
        return
    metafunc.fixturenames.append(PARAMETER)
    names = [cell.name for cell in cells]
    metafunc.parametrize(PARAMETER, cells, indirect=True, ids=names)


def add_keywords(item: pytest.Item) -> None:
    """Let ``-k "n_batch:512"`` select a cell; pytest's expressions have no ``=``."""
    parameter = _parameter_of(item)
    if parameter is not None:
        item.extra_keyword_matches.update(
            f"{name}:{_shown(value)}" for name, value in parameter.settings.items()
        )


def is_swept(node: pytest.Item) -> bool:
    """Whether a test has the marker."""
    return node.get_closest_marker(MARKER) is not None


def read_cells(
    items: Sequence[pytest.Item], llm: LlmConfig, setup: EngineSetup | None
) -> tuple[dict[str, Cell], dict[str, str]]:
    """Return the cells of these tests, and the problems with their markers, by node id.

    A cell whose settings do not go together is marked to be skipped, with the reason.

    Args:
        items: the session's tests.
        llm: the session's engine settings.
        setup: the session's engine; None checks the values only, and returns no cells.
    """
    from pytest_llmperf.config.cell_settings import (
        ImpossibleSettingsError,
        WrongSettingError,
        check_name,
        with_settings,
    )
    from pytest_llmperf.session.cell import Cell

    cells: dict[str, Cell] = {}
    wrong: dict[str, str] = {}
    for item in filter(is_swept, items):
        try:
            parameter = _parameter(item)
            for name in parameter.settings:
                check_name(llm, name)
            if setup is None:
                with_settings(llm, parameter.settings)
                continue
            own = setup.for_cell(parameter.settings, f"marker {MARKER!r} of {item.nodeid}")
            sweep = _without(item.nodeid, parameter.name)
            cells[item.nodeid] = Cell(parameter.settings, own, sweep)
        except ImpossibleSettingsError as error:
            item.add_marker(pytest.mark.skip(reason=f"{MARKER}: {error}"))
        except (MarkerError, WrongSettingError) as error:
            wrong[item.nodeid] = f"marker {MARKER!r} {error}{marker_line(item, MARKER)}"
    return cells, wrong


def unique_problems(wrong: Mapping[str, str]) -> list[str]:
    """Return the problems, each only once for all cells of a sweep."""
    texts = {f"{nodeid.partition('[')[0]}: {text}": None for nodeid, text in wrong.items()}
    return list(texts)


class SweepGuard:
    """Gives each test the engine of its cell; a failure to load it fails only that test."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Choose the engine's settings before any fixture asks for the engine."""
        cell = self._settings.cells.get(item.nodeid)
        self._settings.engine.use(None if cell is None else cell.setup.spec)
        return (yield)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Load a cell's engine here: a failure in a session's fixture would fail all tests."""
        from pytest_llmperf.engine.errors import EngineError

        if item.nodeid not in self._settings.cells:
            return
        problem: str | None = None
        try:
            self._settings.engine.start()
        except EngineError as error:
            problem = str(error)
        if problem is not None:
            # Outside the handler, or pytest shows the same message twice.
            pytest.fail(problem, pytrace=False)


def _values(node: pytest.Item | Any) -> dict[str, list[Any]]:
    """Return the values of each setting, from the closest marker that names it.

    Raises:
        MarkerError: a marker is wrong.
    """
    by_setting: dict[str, list[Any]] = {}
    for mark in node.iter_markers(MARKER):
        if mark.args:
            raise MarkerError(f"takes settings by name: {_EXAMPLE}")
        if not mark.kwargs:
            raise MarkerError(f"names no setting: {_EXAMPLE}")
        for name, values in mark.kwargs.items():
            if not isinstance(values, list | tuple) or not values:
                raise MarkerError(f"{name}: expected a list of values, got {values!r}")
            plain = [list(value) if isinstance(value, tuple) else value for value in values]
            texts = list(map(_shown, plain))
            if twice := next((text for text in texts if texts.count(text) > 1), None):
                raise MarkerError(f"{name}: names {twice} twice")
            by_setting.setdefault(name, plain)
    return by_setting


def _cells(values: Mapping[str, Sequence[Any]]) -> Iterator[SweepParameter]:
    """Yield the cells in an order of tests that loads the model as rarely as possible.

    Ids name the settings in the marker's order.
    """
    from pytest_llmperf.engine.kinds import LLAMA_CPP

    slow_first = sorted(values, key=lambda name: name in LLAMA_CPP.context_settings)
    for combination in itertools.product(*(values[name] for name in slow_first)):
        chosen = dict(zip(slow_first, combination, strict=True))
        settings = {name: chosen[name] for name in values}
        yield SweepParameter("-".join(f"{n}={_shown(v)}" for n, v in settings.items()), settings)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_shown, value))
    return value if isinstance(value, str) else json.dumps(value, default=repr)


def _parameter(item: pytest.Item) -> SweepParameter:
    """Return a test's cell.

    Raises:
        MarkerError: the marker is wrong, or is set where it has no effect.
    """
    _values(item)
    parameter = _parameter_of(item)
    if parameter is None:
        raise MarkerError(
            "creates no tests here: set it on a function, a class or a module (pytestmark), not on "
            "one parameter, and not on a method of unittest.TestCase"
        )
    return parameter


def _parameter_of(item: pytest.Item) -> SweepParameter | None:
    parameter = getattr(getattr(item, "callspec", None), "params", {}).get(PARAMETER)
    return parameter if isinstance(parameter, SweepParameter) else None


def _without(nodeid: str, name: str) -> str:
    """Return a node id without the part that a cell added to it."""
    return nodeid.replace(f"[{name}]", "").replace(f"[{name}-", "[")
