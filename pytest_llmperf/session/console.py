"""The protocol by which a session shows its plan and progress, and a silent implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_llmperf.measure.plan import Plan
    from pytest_llmperf.measure.rounds import Step


class Console(Protocol):
    """Output of a session while it runs."""

    def line(self, text: str) -> None:
        """Show one line."""

    def progress(
        self, plan: Plan, *, in_logs: bool = True
    ) -> AbstractContextManager[Callable[[Step], None]]:
        """Show the progress of ``plan``'s rounds; yields a function to call before each replay.

        ``in_logs``: also where the output is no terminal.
        """
        ...


class SilentConsole:
    """Shows nothing."""

    def line(self, text: str) -> None:
        """Ignore the line."""

    @contextmanager
    def progress(
        self,
        plan: Plan,  # noqa: ARG002
        *,
        in_logs: bool = True,  # noqa: ARG002
    ) -> Iterator[Callable[[Step], None]]:
        """Show nothing."""
        yield lambda _: None
