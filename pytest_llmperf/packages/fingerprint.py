"""Digests of an environment: of everything it can import, and of everything that builds it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from pytest_llmperf.packages.installed import ENGINE, Distribution, installed_here, module_folders

#: Names of folders of installed packages; such a folder in a project's tree is not part of it.
SITES = frozenset({"site-packages", "dist-packages"})
_METADATA = (".dist-info", ".egg-info")
_MODULES = (".py", ".pth", ".so", ".pyd", ".dylib", ".dll")
#: Variables by which the libraries of an engine choose threads, kernels, devices and memory.
_DECIDING = (
    *("GGML_", "LLAMA_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "MALLOC_"),
    *("CUDA_", "NVIDIA_", "HIP_", "HSA_", "ROCR_", "VK_", "LD_", "DYLD_"),
    *("PYTHONMALLOC", "PYTHONOPTIMIZE", "PYTHON_GIL", "PYTHON_JIT"),
)
#: Maximum number of folders to search below a path entry that is not a folder of packages.
_MAX_FOLDERS = 4000
_DIGITS = 20


def deciding_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may affect an engine's speed, by name."""
    return {name: environ[name] for name in sorted(environ) if name.startswith(_DECIDING)}


def fingerprint(
    version: str, path: Sequence[str], excluded: Iterable[Path], *, with_times: bool = True
) -> str:
    """Return a digest of everything on an interpreter's import path.

    Installed packages count by their metadata, which contains the files' hashes, and by
    the sizes and times of those files; the rest (editable installations, folders of
    ``PYTHONPATH``) by its modules' sizes and times. The standard library counts by its
    version. Locations and bytecode do not count: the same environment has the same
    digest in every session.

    Args:
        version: the interpreter's.
        path: its ``sys.path``.
        excluded: work trees to leave out, as their content is known; packages installed in
            them count.
        with_times: whether the times of installed files count; if not, an environment rebuilt
            from the same packages has the same digest.
    """
    trees = [tree.resolve() for tree in excluded]
    entries = [Path(os.path.realpath(entry)) for entry in path if entry]
    folders = {folder: None for folder in entries if folder.is_dir()}
    installed = [folder for folder in folders if _is_site(folder)]
    linked = (Path(os.path.realpath(folder)) for folder in module_folders(installed))
    folders |= {folder: None for folder in linked if folder.is_dir()}
    lines = [f"python {version}"]
    for folder in folders:
        standard = (folder / "os.py").is_file() or folder.name == "lib-dynload"
        if folder in installed:
            lines += _site_lines(folder, with_times)
        elif not (standard or _is_in(folder, trees)):
            lines += _source_lines(folder, trees)
    return _digest(lines)


def modules_digest(top: Path, names: Iterable[str]) -> str:
    """Return a digest of the modules among these files and folders of ``top``.

    For files that git ignores and Python imports anyway: extensions built in place.
    """
    lines: list[str] = []
    for name in names:
        path = top / name
        if path.is_dir():
            if _is_source(path, ()):
                lines += (f"{name}/{line}" for line in _source_lines(path, ()))
        elif name.endswith(_MODULES):
            lines += _stat(name, str(path))
    return _digest(lines)


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in sorted(set(lines)):
        digest.update(line.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:_DIGITS]


def _is_in(folder: Path, trees: Sequence[Path]) -> bool:
    return any(
        folder.is_relative_to(tree) and not SITES & {*folder.relative_to(tree).parts}
        for tree in trees
    )


def _is_site(folder: Path) -> bool:
    return folder.name in SITES or any(entry.name.endswith(".dist-info") for entry in _scan(folder))


def _site_lines(folder: Path, with_times: bool) -> Iterator[str]:
    """Yield a line for every distribution, each of its files, and each module beside them."""
    for entry in _scan(folder):
        if entry.name.endswith(_METADATA):
            yield from _distribution_lines(folder, entry, with_times)
        elif entry.name.endswith(_MODULES):
            yield from _stat(entry.name, entry.path) if with_times else _hashed(entry)


def _hashed(entry: os.DirEntry[str]) -> Iterator[str]:
    with suppress(OSError):
        yield f"{entry.name} {hashlib.sha256(Path(entry.path).read_bytes()).hexdigest()}"


def _distribution_lines(folder: Path, entry: os.DirEntry[str], with_times: bool) -> Iterator[str]:
    yield entry.name
    for name in ("RECORD", "METADATA", "PKG-INFO"):
        with suppress(OSError):
            text = Path(entry.path, name).read_bytes()
            yield f"{entry.name}/{name} {hashlib.sha256(text).hexdigest()}"
            if name == "RECORD":
                record = text.decode(errors="surrogateescape")
                yield from _record_lines(str(folder), record, with_times)


def _record_lines(folder: str, record: str, with_times: bool) -> Iterator[str]:
    """Yield a line for each file of a RECORD, so that manual changes to a file count."""
    with suppress(csv.Error):
        for row in csv.reader(record.splitlines()):
            if row and not row[0].endswith(".pyc"):
                path = os.path.join(folder, row[0])  # noqa: PTH118
                yield from _stat(row[0], path, with_times)


def _source_lines(folder: Path, trees: Sequence[Path]) -> Iterator[str]:
    """Yield a line for every module below a folder that no installer wrote."""
    for top, folders, files in islice(os.walk(folder), _MAX_FOLDERS):
        folders[:] = sorted(name for name in folders if _is_source(Path(top, name), trees))
        for name in files:
            if name.endswith(_MODULES):
                path = Path(top, name)
                yield from _stat(path.relative_to(folder).as_posix(), str(path))


def _is_source(folder: Path, trees: Sequence[Path]) -> bool:
    ignored = {"__pycache__", "node_modules", *SITES}
    if folder.name.startswith(".") or folder.name in ignored or folder in trees:
        return False
    return not (folder / "pyvenv.cfg").is_file()


def _stat(name: str, path: str, with_times: bool = True) -> Iterator[str]:
    with suppress(OSError, ValueError):
        status = os.stat(path)  # noqa: PTH116
        time = f" {status.st_mtime_ns}" if with_times else ""
        yield f"{name} {status.st_size}{time}"


def _scan(folder: Path) -> list[os.DirEntry[Any]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


_COMPILERS = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDACXX", "CUDAFLAGS", "CUDA_HOME")


def engine_digest(flags: str, environ: Mapping[str, str]) -> str:
    """Return a digest that is equal for interchangeable builds of one engine version."""
    return digest([flags, _python(), [environ.get(name) for name in _COMPILERS]])


def installed_digest(area: Path) -> str:
    """Return a digest of this environment, without what was installed from below ``area``."""
    installed = installed_here()
    return state_of(entry for _, entry in sorted(installed.items()) if not entry.is_from(area))


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


def _state(distribution: Distribution) -> str:
    """Return text that changes when a distribution is rebuilt or, for the engine, edited."""
    if distribution.name != ENGINE:
        return distribution.record()
    files = sorted(str(distribution.raw.locate_file(file)) for file in distribution.raw.files or ())
    return distribution.record() + digest([line for file in files for line in _stat(file, file)])
