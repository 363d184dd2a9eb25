from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from package_projects import make_source, pyproject, write

from pytest_llmperf.packages.roots import own_modules

posix = pytest.mark.skipif(os.name != "posix", reason="looks into venvs laid out as on POSIX")

_ROOTS = """
import json, sys
from pathlib import Path
from pytest_llmperf.packages.roots import import_roots
project, tree = map(Path, {paths!r})
print(json.dumps([Path(root).relative_to(tree.parent).as_posix()
                  for root in import_roots(project, tree)]))
"""
# Written by setuptools for a package beside others, and by hatchling with dev-mode-exact.
_FINDER = """\
from __future__ import annotations
MAPPING: dict[str, str] = {{'pkg': {pkg!r}, 'other.name': '/elsewhere'}}
NAMESPACES: dict[str, list[str]] = {{'space.part': [{part!r}]}}
"""
_IMPL = """\
from editables.redirector import RedirectingFinder as F
F.install()
F.map_module('pkg', {init!r})
"""


@pytest.fixture
def roots(shared_environment, tmp_path):
    """A function that returns the import roots of tree "there" for project "here"."""

    def ask(project="here", tree="there"):
        paths = [str(tmp_path / project), str(tmp_path / tree)]
        return json.loads(shared_environment.run(_ROOTS.format(paths=paths)))

    kept = set(shared_environment.site.iterdir())
    yield ask
    for path in set(shared_environment.site.iterdir()) - kept:
        path.unlink()


def package(folder: Path, at: str) -> Path:
    return write(folder, {f"{at}/pkg/__init__.py": ""})


@posix
@pytest.mark.parametrize("at", [".", "src", "lib/python"])
def test_a_tree_has_its_roots_where_the_editable_project_has_them(here, tmp_path, at):
    for name in ("here", "there"):
        package(make_source(tmp_path / name, "pkg", "1", editable=at), at)
    here.install("-e", str(tmp_path / "here"))
    paths = [str(tmp_path / "here"), str(tmp_path / "there")]
    found = json.loads(here.run(_ROOTS.format(paths=paths)))
    assert found == [Path("there", at).as_posix()]


@posix
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("__editable___pkg_1_finder.py", _FINDER),
        ("_editable_impl_pkg.py", _IMPL),
        ("pkg.pth", "{root}\n# a comment\nimport os\n"),
    ],
)
def test_every_way_of_pointing_at_a_project_is_followed(
    shared_environment, roots, tmp_path, file, text
):
    for name in ("here", "there"):
        package(tmp_path / name, "lib")
    lib = tmp_path / "here" / "lib"
    paths = {"root": lib, "pkg": str(lib / "pkg"), "init": str(lib / "pkg" / "__init__.py")}
    (shared_environment.site / file).write_text(
        text.format(part=str(lib / "space" / "part"), **paths)
    )
    assert roots() == ["there/lib"]


@posix
def test_the_projects_own_roots_are_found_the_same_way(shared_environment, roots, tmp_path):
    package(tmp_path / "here", "src")
    (shared_environment.site / "pkg.pth").write_text(str(tmp_path / "here" / "src"))
    assert roots("here", "here") == ["here/src"]


@posix
def test_roots_that_the_tree_lacks_are_left_out(shared_environment, roots, tmp_path):
    package(tmp_path / "here", "src")
    write(tmp_path / "there", {"README": ""})
    (shared_environment.site / "pkg.pth").write_text(str(tmp_path / "here" / "src"))
    assert roots() == []


@posix
def test_what_points_elsewhere_gives_no_root(shared_environment, roots, tmp_path):
    write(tmp_path, {"here/README": "", "there/README": "", "here too/pkg/__init__.py": ""})
    (shared_environment.site / "pkg.pth").write_text(str(tmp_path / "here too"))
    assert roots() == []


@posix
def test_a_project_that_moved_its_package_is_found(here, tmp_path):
    package(tmp_path / "here", "src")
    package(tmp_path / "there", ".")
    here.link(tmp_path / "here", "pkg", at="src")
    paths = [str(tmp_path / "here"), str(tmp_path / "there")]
    assert json.loads(here.run(_ROOTS.format(paths=paths))) == ["there"]


@posix
def test_siblings_in_the_repository_are_roots_too(shared_environment, roots, tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, {".git/HEAD": "", "app/x": "", "core/pkg/__init__.py": ""})
    (shared_environment.site / "core.pth").write_text(str(tmp_path / "one" / "core"))
    code = _ROOTS.format(paths=[str(tmp_path / "one" / "app"), str(tmp_path / "two" / "app")])
    found = shared_environment.run(code.replace("tree.parent", f"Path({str(tmp_path)!r})"))
    assert json.loads(found) == ["two/core"]


@posix
def test_an_installed_copy_of_the_repositorys_package_has_a_root_in_the_tree(here, tmp_path):
    """Each commit then runs its own code instead of the installed copy."""
    for name in ("one", "two"):
        write(tmp_path / name, {".git/HEAD": "", "app/x": "", "core/core/__init__.py": ""})
        make_source(tmp_path / name / "core", "core", "1")
    here.install(str(tmp_path / "one" / "core"))
    code = _ROOTS.format(paths=[str(tmp_path / "one" / "app"), str(tmp_path / "two" / "app")])
    found = here.run(code.replace("tree.parent", f"Path({str(tmp_path)!r})"))
    assert json.loads(found) == ["two/core"]


@posix
def test_src_is_a_root_of_a_project_that_is_installed_in_another_way(roots, tmp_path):
    # A distribution named "free" is installed, from a wheel.
    write(tmp_path / "here", {"pyproject.toml": pyproject(name="free")})
    package(tmp_path / "there", "src")
    assert roots() == ["there/src"]


@posix
def test_src_is_no_root_of_a_project_that_is_not_installed(roots, tmp_path):
    write(tmp_path / "here", {"pyproject.toml": pyproject(name="never-installed")})
    package(tmp_path / "there", "src")
    assert roots() == []


def test_own_modules_are_those_a_program_could_import(tmp_path):
    files = [
        *("src/pkg/__init__.py", "src/single.py", "src/native.cpython-311-x86_64.so"),
        *("beside.py", "setup.py", "conftest.py", "noxfile.py", "tests/__init__.py"),
        *("test_it.py", "folder/file.py", "not-a-name.py", "random.py", "src/data.txt"),
    ]
    write(tmp_path, dict.fromkeys(files, ""))
    found = own_modules(tmp_path, [str(tmp_path / "src"), str(tmp_path / "missing")])
    assert found == {"pkg", "single", "native", "beside"}
