"""Digests of everything that decides the content of an environment."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_llmperf.packages.editable import from_repository
from pytest_llmperf.packages.installed import ENGINE, Distribution, installed_here, site_folders

_COMPILERS = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDACXX", "CUDAFLAGS", "CUDA_HOME")


def engine_digest(flags: str, environ: Mapping[str, str]) -> str:
    """Return a digest that is equal for interchangeable builds of one engine version."""
    return digest([flags, _python(), [environ.get(name) for name in _COMPILERS]])


def installed_digest(area: Path) -> str:
    """Return a digest that identifies this environment.

    Distributions in editable form whose source lies below ``area`` do not count.
    """
    installed = installed_here()
    own = {each.name for each in from_repository(area, installed, site_folders())}
    return state_of(each for name, each in sorted(installed.items()) if name not in own)


def state_of(distributions: Iterable[Distribution]) -> str:
    """Return a digest of this Python and some of its installed distributions."""
    return digest([_python(), [[each.name, each.version, _state(each)] for each in distributions]])


def digest(content: Any) -> str:
    """Return a digest of a JSON value."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:20]


def _python() -> list[str]:
    """Return properties of Python that are equal for interchangeable compiled packages."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    libc = " ".join(platform.libc_ver())
    return [sys.version, sysconfig.get_platform(), libc, os.path.realpath(base), sys.base_prefix]


def _state(each: Distribution) -> str:
    """Return a text that changes when a distribution is rebuilt or, for the engine, edited."""
    if each.name != ENGINE:
        return each.record()
    stats = []
    for file in sorted(str(each.raw.locate_file(file)) for file in each.raw.files or ()):
        try:
            found = Path(file).stat()
        except OSError:
            continue
        stats.append([file, found.st_size, found.st_mtime_ns])
    return each.record() + digest(stats)
