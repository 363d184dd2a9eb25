"""Names in the package: no two public classes share a name, and every module has a docstring."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "pytest_llmperf"
MODULES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in PACKAGE.rglob("*.py")
}


def test_a_public_class_name_means_one_thing() -> None:
    definitions = defaultdict(list)
    for path, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                definitions[node.name].append(path)
    assert not {name: paths for name, paths in definitions.items() if len(paths) > 1}


def test_every_module_says_in_its_first_line_what_it_is() -> None:
    silent = [path for path, tree in MODULES.items() if not ast.get_docstring(tree)]
    assert not silent
    unfinished = [
        path
        for path, tree in MODULES.items()
        if not (ast.get_docstring(tree) or "").splitlines()[0].endswith((".", ":"))
    ]
    assert not unfinished
