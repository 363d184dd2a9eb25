"""Reads what setup.cfg and setup.py declare; setup.py is never run."""

from __future__ import annotations

import ast
import configparser
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from pytest_llmperf.packages import specs
from pytest_llmperf.packages.errors import DeclarationError
from pytest_llmperf.packages.lists import Key, Part
from pytest_llmperf.packages.requirement_file import read_text

if TYPE_CHECKING:
    from pathlib import Path

#: The arguments of setup() that say what is needed.
_ARGUMENTS = ("install_requires", "extras_require", "python_requires", "setup_requires")


def read_setup_cfg(path: Path, file: str) -> Part:
    """Read ``[options]``; ``file`` is the posix path from the tree.

    Raises:
        DeclarationError: it cannot be read or parsed; names file and line.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(read_text(path), source=str(path))
    except configparser.Error as error:
        line = getattr(error, "lineno", None) or (getattr(error, "errors", None) or [[None]])[0][0]
        where = f"{path}:{line}" if line else str(path)
        what = error.message.splitlines()[0].removeprefix(f"Source contains parsing errors: {path}")
        what = what.strip() or "not of the form 'name = value'"
        raise DeclarationError(f"{where}: not a setup.cfg: {what}; correct the file") from None
    part = Part()
    if name := parser.get("metadata", "name", fallback="").strip():
        part.names.add(canonicalize_name(name))
    if python := parser.get("options", "python_requires", fallback=""):
        part.add(Key(file, "python"), ["".join(python.split())])
    _add(part, Key(file, "project"), parser.get("options", "install_requires", fallback=""))
    _add(part, Key(file, "build"), parser.get("options", "setup_requires", fallback=""))
    if parser.has_section("options.extras_require"):
        for extra, text in parser.items("options.extras_require", raw=True):
            if extra not in parser.defaults():
                _add(part, Key(file, "extra", canonicalize_name(extra)), text)
    return part


def _add(part: Part, key: Key, text: str) -> None:
    """Add a list written one a line, or as ``file: a.txt, b.txt``."""
    if not text.strip():
        return
    if text.strip().startswith("file:"):
        names = text.strip().removeprefix("file:").replace("\n", ",").split(",")
        folder = key.file.rpartition("/")[0]
        prefix = f"{folder}/" if folder else ""
        includes = [Key(f"{prefix}{name.strip()}", "file") for name in names if name.strip()]
        part.add(key, [], includes)
        return
    lines = (line.partition("#")[0].strip() for line in text.replace(";\n", "\n").splitlines())
    part.add(key, [specs.canonical(line) for line in lines if line])


def read_setup_py(path: Path, file: str) -> Part:
    """Read the arguments of the call of ``setup()`` where they are plain lists and names of them.

    Where they are worked out by code, or it is code of another Python, the file is
    unreadable: only equal or not.

    Raises:
        DeclarationError: it cannot be read.
    """
    text = read_text(path)
    part = Part()
    try:
        module = ast.parse(text, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        part.unreadable[file] = text
        return part
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call) and _is_setup(node)]
    if len(calls) != 1 or any(keyword.arg is None for keyword in calls[0].keywords):
        part.unreadable[file] = ast.dump(module)
        return part
    given = {keyword.arg: keyword.value for keyword in calls[0].keywords}
    constants = _constants(module)
    values: dict[str, Any] = {}
    for argument in ("name", *_ARGUMENTS):
        if argument in given:
            try:
                values[argument] = _literal(given[argument], constants)
            except ValueError:
                if argument != "name":
                    return Part(unreadable={file: _what_matters(module, calls[0])})
    if isinstance(name := values.get("name"), str):
        part.names.add(canonicalize_name(name))
    if isinstance(python := values.get("python_requires"), str):
        part.add(Key(file, "python"), ["".join(python.split())])
    if "install_requires" in values:
        part.add(Key(file, "project"), _lines(values["install_requires"]))
    if "setup_requires" in values:
        part.add(Key(file, "build"), _lines(values["setup_requires"]))
    extras = values.get("extras_require")
    for extra, lines in extras.items() if isinstance(extras, dict) else ():
        part.add(Key(file, "extra", canonicalize_name(str(extra))), _lines(lines))
    return part


def _is_setup(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else None
    return (name or getattr(call.func, "id", None)) == "setup"


def _constants(module: ast.Module) -> dict[str, ast.expr]:
    """Return what is assigned at the top of the file, once and for good."""
    found: dict[str, ast.expr] = {}
    twice = set()
    for node in ast.walk(module):
        names: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            names = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            names = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            # REQUIRES.append(...) changes a list after its assignment.
            names = [node.func.value]
            twice |= {name.id for name in names if isinstance(name, ast.Name)}
            continue
        for name in names:
            base = name.value if isinstance(name, ast.Subscript) else name
            if isinstance(base, ast.Name):
                if base.id in found or base is not name or node not in module.body:
                    twice.add(base.id)
                elif isinstance(node, ast.Assign):
                    found[base.id] = node.value
                else:
                    twice.add(base.id)
    return {name: value for name, value in found.items() if name not in twice}


def _literal(node: ast.expr, constants: dict[str, ast.expr], depth: int = 0) -> Any:
    """Evaluate lists, dicts, strings, sums of them, and names of such; else ValueError."""
    if depth > 20:
        raise ValueError("names in a circle")
    if isinstance(node, ast.Name) and node.id in constants:
        return _literal(constants[node.id], constants, depth + 1)
    if isinstance(node, ast.List | ast.Tuple):
        items: list[Any] = []
        for each in node.elts:
            if isinstance(each, ast.Starred):
                items += _literal(each.value, constants, depth + 1)
            else:
                items.append(_literal(each, constants, depth + 1))
        return items
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise ValueError("unpacks a dict")
        pairs = zip(node.keys, node.values, strict=True)
        return {
            _literal(key, constants, depth + 1): _literal(value, constants, depth + 1)
            for key, value in pairs
            if key is not None
        }
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        try:
            left, right = (_literal(side, constants, depth + 1) for side in (node.left, node.right))
            return left + right
        except TypeError as error:
            raise ValueError(str(error)) from None
    return ast.literal_eval(node)


def _lines(value: Any) -> list[str]:
    if isinstance(value, str):
        value = value.splitlines()
    return [specs.canonical(str(item)) for item in value if str(item).strip()]


def _what_matters(module: ast.Module, call: ast.Call) -> str:
    """Spell the file without what a release changes: its version and description."""
    call.keywords = [keyword for keyword in call.keywords if keyword.arg in _ARGUMENTS]
    return ast.dump(module)
