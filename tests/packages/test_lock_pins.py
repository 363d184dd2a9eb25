from __future__ import annotations

import json

import pytest
from package_projects import write

from pytest_llmperf.packages.errors import DeclarationError
from pytest_llmperf.packages.pins import of_lines, of_lock

UV = """\
    version = 1
    [[package]]
    name = "project"
    version = "1"
    source = { editable = "." }
    [[package]]
    name = "Toy_Box"
    version = "1.0"
    source = { registry = "https://example.com/simple" }
    [[package]]
    name = "split"
    version = "1"
    source = { registry = "x" }
    resolution-markers = ["python_full_version < '3'"]
    [[package]]
    name = "split"
    version = "2"
    source = { registry = "x" }
    resolution-markers = ["python_full_version >= '3'", "sys_platform == 'none'"]
    [[package]]
    name = "unclear"
    version = "1"
    [[package]]
    name = "unclear"
    version = "2"
    [[package]]
    name = "other"
    version = "1"
    source = { git = "https://example.com/other" }
"""
POETRY = """\
    [[package]]
    name = "toy-box"
    version = "1.0"
    [package.source]
    type = "legacy"
    url = "https://example.com/simple"
    [[package]]
    name = "other"
    version = "1"
    [package.source]
    type = "git"
    url = "https://example.com/other"
    [[package]]
    name = "split"
    version = "2"
    markers = "python_version >= '3'"
    [[package]]
    name = "elsewhere"
    version = "2"
    markers = "sys_platform == 'none'"
"""
PYLOCK = """\
    lock-version = "1.0"
    [[packages]]
    name = "toy-box"
    version = "1.0"
    wheels = []
    [[packages]]
    name = "split"
    version = "2"
    marker = "python_version >= '3'"
    [[packages]]
    name = "other"
    directory = { path = "." }
"""
PIPFILE = json.dumps(
    {
        "default": {"toy-box": {"version": "==1.0"}, "other": {"git": "x"}},
        "develop": {"split": {"version": "==2", "markers": "python_version >= '3'"}},
    }
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("uv.lock", UV),
        ("poetry.lock", POETRY),
        ("pylock.toml", PYLOCK),
        ("Pipfile.lock", PIPFILE),
    ],
)
def test_a_lock_pins_the_packages_of_an_index_for_this_python(tmp_path, name, text):
    write(tmp_path, {name: text})
    assert of_lock(tmp_path / name) == {"toy-box": "==1.0", "split": "==2"}


@pytest.mark.parametrize(("name", "what"), [("uv.lock", "TOML"), ("Pipfile.lock", "JSON")])
def test_a_broken_lock_is_named_with_its_line(tmp_path, name, what):
    write(tmp_path, {name: "<<<<<<< HEAD\n"})
    with pytest.raises(DeclarationError, match=rf"{name}:1: not {what}: .*; correct the file"):
        of_lock(tmp_path / name)


def test_constraints_on_one_package_add_up():
    lines = ["toy>=1", "Toy<3", "dep==1; python_version < '3'", "free @ https://example.com/free"]
    assert of_lines(lines) == {"toy": ">=1,<3"}
