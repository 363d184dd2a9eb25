"""Says where the pages of two model files in memory can be what a comparison sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.config.gguf import SplitModelError
from pytest_llmperf.engine.fresh_start import mapped_files
from pytest_llmperf.gate.words import percent
from pytest_llmperf.machine.file_pages import large_pages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_llmperf.engine.launch import LaunchSpec

#: Difference of the shares in large pages from which it is told.
_SHARE = 0.25


def page_notes(candidate: LaunchSpec, base: LaunchSpec | None) -> list[str]:
    """Return a note if the two sides map different files, one of them in small pages.

    Args:
        candidate: how its engine is started.
        base: the same of the base side, if there is one.
    """
    if base is None:
        return []
    try:
        ours, theirs = (tuple(mapped_files(spec)) for spec in (candidate, base))
        if not ours or not theirs or ours == theirs:
            return []
        own, other = _share(ours), _share(theirs)
    except (OSError, SplitModelError):
        return []
    if own is None or other is None or abs(own - other) < _SHARE:
        return []
    return [
        f"{percent(other)} of the base's model file and {percent(own)} of the candidate's lie in "
        "memory in pages of 2 MiB, which alone can make decode 15% slower or faster; end what else "
        "has a file open, or copy both files, and compare again"
    ]


def _share(files: Sequence[Path]) -> float | None:
    """Return the share of a model's files in large pages; None if the system hides it."""
    sizes = [file.stat().st_size for file in files]
    shares = [large_pages(file) for file in files]
    known = [share * size for share, size in zip(shares, sizes, strict=True) if share is not None]
    return sum(known) / sum(sizes) if len(known) == len(files) else None
