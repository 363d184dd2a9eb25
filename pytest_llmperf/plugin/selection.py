"""Recognizes this plugin's tests, and those that the session's ``-m`` requests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest
from _pytest.mark import expression as syntax

from pytest_llmperf.plugin.markers import (
    GOODPUT_LIMITS,
    LOAD_ARGUMENTS,
    MARKERS,
    METRIC_MARKERS,
    QUALITY_ARGUMENTS,
)

_FIXTURE = "llm_engine"
#: Node ids of all tests found, and whether each is a perf test.
_COLLECTED = pytest.StashKey[dict[str, bool]]()
#: The arguments that distinguish our markers from those of other plugins and projects.
_GPU_ARGUMENTS = frozenset({"layers", "device"})
_PERF_ARGUMENTS = frozenset({"tolerance", "budget"})
_METRIC_ARGUMENTS = frozenset({"min", "max", "tolerance", "percentile"})


def uses_engine(item: pytest.Item) -> bool:
    """Whether a test asks for our ``llm_engine``, by itself or through another fixture.

    A project's own fixture of that name counts only if it uses ours in turn. Fixtures requested
    during a test (``request.getfixturevalue``) are not known beforehand.
    """
    if _FIXTURE not in getattr(item, "fixturenames", ()):
        return False
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    for definition in reversed(known.get(_FIXTURE, ())):
        if definition.func.__module__ == "pytest_llmperf.plugin.fixtures":
            return True
        if not {_FIXTURE, "request"} & {*definition.argnames}:
            return False
    return True


def is_perf(item: pytest.Item) -> bool:
    """Whether a test is a perf test: it has one of our markers, and the marker is meant for us.

    Many projects have markers of these names. A marker is meant for us if the test uses the
    engine, or if the marker has this plugin's arguments.
    """
    marks = [mark for mark in item.iter_markers() if mark.name in MARKERS]
    return bool(marks) and (any(map(_takes_our_arguments, marks)) or uses_engine(item))


def asks_for_gpu(item: pytest.Item) -> bool:
    """Whether a test's ``gpu`` marker is meant for this plugin, by the rule of ``is_perf``."""
    marks = list(item.iter_markers("gpu"))
    ours = any(_GPU_ARGUMENTS & mark.kwargs.keys() for mark in marks)
    return ours or (bool(marks) and uses_engine(item))


def remember_collected(item: pytest.Item) -> None:
    """Remember a test before tests are deselected, for a session that looks for removed tests."""
    item.config.stash.setdefault(_COLLECTED, {})[item.nodeid] = is_perf(item)


def collected_tests(config: pytest.Config) -> dict[str, bool] | None:
    """Return the tests that were remembered; None if none were."""
    return config.stash.get(_COLLECTED, None)


def imply_perf(item: pytest.Item) -> None:
    """Add the ``perf`` marker to a perf test that has a metric marker only."""
    if item.get_closest_marker("perf") is None and is_perf(item):
        item.add_marker("perf")


def is_requested(item: pytest.Item, requested_markers: frozenset[str]) -> bool:
    """Whether ``-m`` selects a perf test by one of its markers, ``requested_markers``.

    A test that ``-m`` selects for another reason (``-m smoke``, ``-m "not slow"``) must not
    start a session that measures.
    """
    return any(mark.name in requested_markers for mark in item.iter_markers())


def named_markers(expression: str) -> frozenset[str]:
    """Return our markers by which a ``-m`` expression selects tests.

    A marker below a ``not`` only deselects tests. An expression that pytest can't read has no
    such markers: pytest itself refuses it.
    """
    tree = _parsed(expression)
    return frozenset() if tree is None else frozenset(_names(tree, wanted=True)) & MARKERS.keys()


def selects_only_ours(expression: str) -> bool:
    """Whether every test that a ``-m`` expression selects has one of our markers."""
    tree = _parsed(expression)
    return tree is not None and True not in _outcomes_without_ours(tree)


def _parsed(expression: str) -> ast.expr | None:
    """Return the tree of a ``-m`` expression; None for one that pytest can't read."""
    try:
        tree: Any = syntax.expression(syntax.Scanner(expression))
    except (SyntaxError, getattr(syntax, "ParseError", SyntaxError)):
        return None
    # Newer versions of pytest return the names in it, too.
    tree = tree[0] if isinstance(tree, tuple) else tree
    body: ast.expr = tree.body
    return body


def _outcomes_without_ours(node: ast.expr) -> frozenset[bool]:
    """Return the possible values of an expression for a test that has none of our markers."""
    if isinstance(node, ast.BoolOp):
        parts = [_outcomes_without_ours(value) for value in node.values]
        # A single part decides the value: false that of an "and", true that of an "or".
        decides = isinstance(node.op, ast.Or)
        other = not decides
        outcomes = {decides} if any(decides in part for part in parts) else set()
        return frozenset(outcomes | ({other} if all(other in part for part in parts) else set()))
    if isinstance(node, ast.UnaryOp):
        return frozenset(not value for value in _outcomes_without_ours(node.operand))
    ours = MARKERS.keys() & set(_names(node, wanted=True))
    return frozenset({False}) if ours else frozenset({False, True})


def _names(node: ast.expr, *, wanted: bool) -> Iterator[str]:
    """Yield the markers that a test must have (not ``wanted``: must not have) to match."""
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _names(value, wanted=wanted)
    elif isinstance(node, ast.UnaryOp):
        yield from _names(node.operand, wanted=not wanted)
    elif isinstance(node, ast.Call):
        yield from _names(node.func, wanted=wanted)
    elif isinstance(node, ast.Name) and wanted:
        yield node.id.removeprefix(syntax.IDENT_PREFIX)


def _takes_our_arguments(mark: pytest.Mark) -> bool:
    if mark.name == "perf_metric" and mark.args:
        return True
    if mark.name == "perf_sweep":
        return bool(mark.kwargs)
    if mark.name == "quality":
        return bool(QUALITY_ARGUMENTS & mark.kwargs.keys())
    if mark.name == "load":
        return bool(LOAD_ARGUMENTS & mark.kwargs.keys())
    if mark.name == "goodput" and GOODPUT_LIMITS.keys() & mark.kwargs.keys():
        return True
    known = _METRIC_ARGUMENTS if mark.name in METRIC_MARKERS else _PERF_ARGUMENTS
    return bool(known & mark.kwargs.keys())
