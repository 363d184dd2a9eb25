"""A cell of a sweep: one test's engine settings, instead of the session's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmperf.config.extra_hashes import EXTRA_HASHES, value_hash, without_extra_values

if TYPE_CHECKING:
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.engine.launch import LaunchSpec
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.setup import EngineSetup

_EXTRA = "extra."


@dataclass(frozen=True)
class Cell:
    """One combination of a sweep's settings.

    Attributes:
        settings: the settings that the sweep names, such as ``{"n_batch": 512}``.
        setup: the session's configuration with them on top.
        sweep: the test's node id without its settings, the same for all cells of a sweep.
        info: what the engine that ran the test's body had loaded; None before that.
    """

    settings: Mapping[str, Any]
    setup: EngineSetup
    sweep: str
    info: EngineInfo | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that the sweep names, in the form in which they are stored."""
        config = self.setup.llm.resolved()
        settings = {name: config[name] for name in self.settings if not name.startswith(_EXTRA)}
        extra = {
            name.removeprefix(_EXTRA): value_hash(value)
            for name, value in self.settings.items()
            if name.startswith(_EXTRA)
        }
        return {**settings, EXTRA_HASHES: extra} if extra else settings

    @property
    def config(self) -> dict[str, Any]:
        """All engine settings, in the form in which they are stored."""
        return without_extra_values(self.setup.llm.resolved())

    def stored_settings(self, session: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings to store: the sweep's, and others that differ from the session's."""
        named = {EXTRA_HASHES if name.startswith(_EXTRA) else name for name in self.settings}
        return {
            name: value
            for name, value in self.config.items()
            if name in named or session.get(name) != value
        }


def specs_of(
    tests: Sequence[RecordedTest], own: LaunchSpec, of_cell: Callable[[Cell], LaunchSpec]
) -> dict[str, LaunchSpec]:
    """Return how each test's engine is started, by node id; nothing if no test is a cell.

    Args:
        tests: the session's tests.
        own: how the engine of tests outside of a sweep is started.
        of_cell: returns how a cell's engine is started.
    """
    if all(test.cell is None for test in tests):
        return {}
    return {test.nodeid: own if (cell := test.cell) is None else of_cell(cell) for test in tests}
