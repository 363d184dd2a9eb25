"""Changes after which earlier measurements in an environment no longer count."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llmperf.packages.fingerprint import deciding_variables, fingerprint, modules_digest


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages: one with a list of its files, an editable one, a single module."""
    folder = tmp_path / "project" / ".venv" / "site-packages"
    (folder / "toy" / "__pycache__").mkdir(parents=True)
    (folder / "toy" / "__init__.py").write_text("SPEED = 1\n")
    (folder / "toy-1.0.dist-info").mkdir()
    (folder / "toy-1.0.dist-info" / "METADATA").write_text("Name: toy\nVersion: 1.0\n")
    record = "toy/__init__.py,sha256=abc,10\ntoy/__pycache__/__init__.pyc,,\n"
    (folder / "toy-1.0.dist-info" / "RECORD").write_text(record)
    (folder / "single.py").write_text("")
    source = tmp_path / "elsewhere" / "src"
    (source / "linked" / "deep").mkdir(parents=True)
    (source / "linked" / "deep" / "part.py").write_text("SPEED = 1\n")
    (folder / "linked.pth").write_text(f"{source}\n")
    (tmp_path / "project" / "app.py").write_text("")
    return folder


def digest(site: Path) -> str:
    project = site.parents[1]
    return fingerprint("3.12", ["", str(project), str(site), "/gone/python312.zip"], [project])


def _rebuilt(site: Path) -> None:
    record = site / "toy-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("abc", "abd"))


def _upgraded(site: Path) -> None:
    (site / "toy-1.0.dist-info").rename(site / "toy-2.0.dist-info")


def _edited(site: Path) -> None:
    (site / "toy" / "__init__.py").write_text("SPEED = 200\n")


def _loose(site: Path) -> None:
    (site / "single.py").write_text("SPEED = 200\n")


def _linked(site: Path) -> None:
    (site.parents[2] / "elsewhere/src/linked/deep/part.py").write_text("SPEED = 200\n")


def _removed(site: Path) -> None:
    (site / "linked.pth").unlink()


@pytest.mark.parametrize("change", [_rebuilt, _upgraded, _edited, _loose, _linked, _removed])
def test_what_changes_an_environment(site: Path, change: Callable[[Path], None]) -> None:
    before = digest(site)
    change(site)
    assert digest(site) != before


@pytest.mark.parametrize("change", [_rebuilt, _upgraded, _edited, _loose, _linked, _removed])
def test_an_environment_made_anew_is_the_same_where_times_do_not_count(
    site: Path, change: Callable[[Path], None]
) -> None:
    def untouched() -> str:
        project = site.parents[1]
        return fingerprint("3.12", [str(project), str(site)], [project], with_times=False)

    before, timed = untouched(), digest(site)
    for path in (site / "single.py", site / "toy" / "__init__.py"):
        os.utime(path, (1, 1))
    assert (untouched(), digest(site) == timed) == (before, False)
    change(site)
    assert untouched() != before


def _bytecode(site: Path) -> None:
    (site / "toy" / "__pycache__" / "__init__.pyc").write_text("compiled")


def _the_project(site: Path) -> None:
    """The project is identified by its commit and its uncommitted changes instead."""
    (site.parents[1] / "app.py").write_text("SPEED = 200\n")


def _nothing(site: Path) -> None:
    """Only read a file."""
    (site / "single.py").read_text()


@pytest.mark.parametrize("change", [_bytecode, _the_project, _nothing])
def test_what_does_not_change_it(site: Path, change: Callable[[Path], None]) -> None:
    before = digest(site)
    change(site)
    assert digest(site) == before


def test_another_python_is_another_environment(site: Path) -> None:
    assert fingerprint("3.12", [str(site)], []) != fingerprint("3.13", [str(site)], [])


def test_an_extension_that_git_ignores_counts_and_other_files_do_not(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    names = ["build", "fast.so", "notes.txt", "__pycache__"]
    before = modules_digest(tmp_path, names)
    (tmp_path / "notes.txt").write_text("of yesterday")
    assert modules_digest(tmp_path, names) == before
    (tmp_path / "fast.so").write_text("built")
    built = modules_digest(tmp_path, names)
    (tmp_path / "build" / "other.so").write_text("built")
    os.utime(tmp_path / "build" / "other.so", (1, 1))
    assert len({before, built, modules_digest(tmp_path, names)}) == 3


def test_variables_of_the_engines_libraries_are_told_from_others() -> None:
    environ = {"OMP_NUM_THREADS": "2", "GGML_X": "1", "HOME": "/h", "LLMPERF_CACHE_DIR": "/c"}
    assert deciding_variables(environ) == {"GGML_X": "1", "OMP_NUM_THREADS": "2"}
