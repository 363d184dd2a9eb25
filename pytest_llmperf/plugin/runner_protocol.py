"""Wraps pytest's private runner: runs a test and holds back its reports."""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol


def run_quietly(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Run setup, call and teardown of ``item`` without logging their reports.

    ``_pytest.runner.runtestprotocol(log=False)`` is what pytest-rerunfailures
    has relied on for years.
    """
    return runtestprotocol(item, log=False, nextitem=nextitem)


def log_reports(item: pytest.Item, reports: list[pytest.TestReport]) -> None:
    """Report the outcome of ``item`` to all plugins, as the runner would have."""
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
