"""Cuts records' texts at their numbers: from one record of a machine to the next only they differ.

Records are written in one form (``baselines.record.to_text``), which is what the cuts go by.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.history.sessions import Layout

# Line breaks stand outside of JSON's strings only, so no string can hold one of these.
_TESTS = b'\n  "tests": {\n'
_SAMPLES = b'"samples": [\n'
_SAMPLES_END = b"\n          ]"
_NUMERIC = b"0123456789.eE+- \n"
_TO_LIST = bytes.maketrans(b";", b",")
_PROCESSES = re.compile(rb"\[,*\](?:,\[,*\])*")


class Shape(NamedTuple):
    """How many numbers a record holds, as its metrics and their processes follow one another.

    Attributes:
        processes: how many, per metric.
        iterations: how many, per process.
    """

    processes: tuple[int, ...]
    iterations: tuple[int, ...]


class Cut(NamedTuple):
    """A record's text, cut at its numbers.

    Attributes:
        head: what comes before the tests, as an object.
        fixed: what is neither head nor numbers, from one number to the next.
        shape: the numbers' brackets and commas, with a semicolon between metrics.
        flat: the numbers, as an array.
    """

    head: bytes
    fixed: tuple[bytes, ...]
    shape: bytes
    flat: bytes


class Kind(NamedTuple):
    """Records that differ in head and numbers only.

    Attributes:
        layout: what the numbers are.
        fixed: as their cuts have it.
        first, last: what stands before and after all numbers.
        between: what stands between two numbers' lists: the text, its length, and where the
            first quotation mark in it is. Numbers hold none, so it tells where they end.
    """

    layout: Layout
    fixed: tuple[bytes, ...]
    first: bytes
    last: bytes
    between: tuple[tuple[bytes, int, int], ...]

    @classmethod
    def of(cls, layout: Layout, fixed: tuple[bytes, ...]) -> Kind:
        """Return the kind that is cut so; at least one number is in it."""
        first, *others, last = fixed
        texts = [_SAMPLES_END + text + _SAMPLES for text in others]
        between = tuple((text, len(text), text.index(b'"')) for text in texts)
        return cls(layout, fixed, first + _SAMPLES, _SAMPLES_END + last, between)


def cut_text(text: bytes) -> Cut | None:
    """Cut a record's text at its numbers; None if it does not look like one."""
    start = text.find(_TESTS)
    if start < 0:
        return None
    first, *pieces = text[start:].split(_SAMPLES)
    parts = [piece.partition(_SAMPLES_END) for piece in pieces]
    fixed = (first, *[part[2] for part in parts])
    return _joined(text[:start], fixed, [part[0] for part in parts])


def cut_as(text: bytes, kind: Kind) -> Cut | None:
    """Cut a record's text as those of a kind, in two thirds of the time; None if it is none."""
    start = text.find(_TESTS)
    if not text.startswith(kind.first, start) or not text.endswith(kind.last):
        return None
    position = start + len(kind.first)
    numbers = []
    for fixed, length, quote in kind.between:
        end = text.find(b'"', position) - quote
        if end < position or not text.startswith(fixed, end):
            return None
        numbers.append(text[position:end])
        position = end + length
    numbers.append(text[position : len(text) - len(kind.last)])
    return _joined(text[:start], kind.fixed, numbers)


def _joined(head: bytes, fixed: tuple[bytes, ...], pieces: Sequence[bytes]) -> Cut:
    numbers = b";".join(pieces)
    return Cut(
        head.rstrip(b",") + b"}",
        fixed,
        numbers.translate(None, _NUMERIC),
        b"[" + numbers.translate(_TO_LIST, b"[] \n") + b"]",
    )


def shape_of(brackets: bytes) -> Shape:
    """Count what the numbers' brackets hold.

    Raises:
        ValueError: there is something else than lists of lists of numbers.
    """
    processes: list[int] = []
    iterations: list[int] = []
    for metric in brackets.split(b";") if brackets else ():
        if not _PROCESSES.fullmatch(metric):
            raise ValueError("not lists of numbers")
        lists = metric[1:-1].split(b"],[")
        processes.append(len(lists))
        iterations += [len(one) + 1 for one in lists]
    return Shape(tuple(processes), tuple(iterations))
