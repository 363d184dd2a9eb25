"""Rooms of the package: each imports only from rooms above it, and only plugin/ knows pytest."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pytest_llmperf"
PAGE = ROOT / "docs" / "architecture.md"
#: The package's entry, which imports the API on first use.
FACE = "__init__.py"


def rooms() -> list[str]:
    """Return the rooms in the table's order: a folder, a file, or ``.`` for all other files."""
    table = PAGE.read_text().partition("## Rooms")[2].partition("## Where")[0]
    return [name.rstrip("/") for name in re.findall(r"^\| `(\S+)` \|", table, re.MULTILINE)]


def room_of(parts: tuple[str, ...], known: list[str]) -> str:
    """Return the room of a file's or a module's path parts below the package."""
    if not parts:
        return "."
    name = parts[0]
    return next((room for room in (name, f"{name}.py") if room in known), ".")


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield every module that a file imports, at its top or inside of functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module == "pytest_llmperf":
                yield from (f"pytest_llmperf.{alias.name}" for alias in node.names)
            else:
                yield node.module


def broken_rules(files: dict[str, str], known: list[str]) -> list[str]:
    """Return what breaks the rules in these files, given by path below the package."""
    breaches = []
    for path, source in files.items():
        own = room_of(Path(path).parts, known)
        for module in imported(ast.parse(source)):
            package, *parts = module.split(".")
            if package in ("pytest", "_pytest") and own != "plugin":
                breaches.append(f"{path} imports {module}; only plugin/ may")
            if package != "pytest_llmperf" or path == FACE:
                continue
            other = room_of(tuple(parts), known)
            if other != own and known.index(other) > known.index(own):
                breaches.append(f"{path} imports {module}: {other} stands below {own} in the table")
    return breaches


def test_every_folder_has_its_row() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == {room for room in rooms() if room != "." and not room.endswith(".py")}


def test_a_room_imports_only_from_rooms_above_it() -> None:
    files = {
        path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")
    }
    assert not broken_rules(files, rooms())


@pytest.mark.parametrize(
    ("path", "source", "breaks"),
    [
        ("gate/x.py", "def f():\n    from pytest_llmperf.session.run import Session", "session"),
        ("units.py", "from pytest_llmperf import gate", "gate"),
        ("session/x.py", "import pytest", "only plugin/"),
        ("plugin/x.py", "import pytest", ""),
        ("session/x.py", "import pytest_llmperf.gate.check", ""),
        ("report/x.py", "from pytest_llmperf.api import table", "api.py"),
    ],
)
def test_the_checker_sees_what_breaks_the_rules(path: str, source: str, breaks: str) -> None:
    breaches = broken_rules({path: source}, rooms())
    assert bool(breaches) is bool(breaks)
    assert breaks in " ".join(breaches)
