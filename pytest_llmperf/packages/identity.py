"""What decides the content of an environment, as digests."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmperf.packages.declarations import Declarations
from pytest_llmperf.packages.editable import editable_below
from pytest_llmperf.packages.installed import Distribution, installed_here, site_folders
from pytest_llmperf.packages.plan import ENGINE, Plan

#: Part of every name: environments made in another way are not taken for these.
_LAYOUT = 1
_COMPILERS = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDACXX", "CUDAFLAGS", "CUDA_HOME")
_NOT_SOURCE = {".git", ".venv", "__pycache__", "build", ".tox", ".mypy_cache", ".pytest_cache"}


def digest_of(
    theirs: Declarations, plan: Plan, install: str | None, flags: str, base: Sequence[Path]
) -> str:
    """Return the name of an environment: equal where the same would be built.

    Args:
        theirs: what the tree declares.
        plan: what goes in.
        install: the user's own command, if there is one.
        flags: CMAKE_ARGS of an engine.
        base: folders of packages that the environment sees.
    """
    # A local package is named by the path of one tree; its content says which it is.
    lines = sorted(plan.needed) if plan.sources else plan.lines()
    return _digest(
        {
            "layout": _LAYOUT,
            "python": _python(),
            "declared": theirs.digest,
            "command": install,
            "flags": flags,
            "base": list(map(str, base)),
            "copied": [[each.name, each.version, _state(each)] for each in plan.copied],
            "described": sorted([each.name, each.version] for each in plan.described),
            "needed": lines,
            "constraints": sorted(set(plan.constraints)),
            "sources": [_content(source) for source in plan.sources],
        }
    )


def engine_digest(flags: str, environ: Mapping[str, str]) -> str:
    """Return what makes builds of one engine version exchangeable."""
    return _digest([flags, _python(), [environ.get(name) for name in _COMPILERS]])


def installed_digest(area: Path) -> str:
    """Return what tells this environment from any other.

    Distributions in editable form whose source lies below ``area`` do not count.
    """
    installed = installed_here()
    own = {each.name for each in editable_below(area, installed, site_folders())}
    others = [each for name, each in sorted(installed.items()) if name not in own]
    return _digest([_python(), [[each.name, each.version, _state(each)] for each in others]])


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:20]


def _python() -> list[str]:
    """Return what makes interpreters and compiled packages exchangeable."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    libc = " ".join(platform.libc_ver())
    return [sys.version, sysconfig.get_platform(), libc, os.path.realpath(base), sys.base_prefix]


def _state(each: Distribution) -> str:
    """Return what changes when a distribution is built again; for the engine, also by hand."""
    if each.name != ENGINE:
        return each.record()
    stats = []
    for file in sorted(str(each.raw.locate_file(file)) for file in each.raw.files or ()):
        try:
            found = Path(file).stat()
        except OSError:
            continue
        stats.append([file, found.st_size, found.st_mtime_ns])
    return each.record() + _digest(stats)


def _content(source: Path) -> str:
    """Return a digest of a folder of source files."""
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_file() and not _NOT_SOURCE & set(relative.parts):
            digest.update(f"{relative.as_posix()}\0".encode(errors="surrogateescape"))
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
