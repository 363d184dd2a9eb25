from __future__ import annotations

import pytest
from package_projects import pyproject, write

from pytest_llmperf.packages.declarations import declared
from pytest_llmperf.packages.errors import DeclarationError

PLAIN = {"pyproject.toml": pyproject(["toy==1", "dep>=2,<3"])}


@pytest.fixture
def differ(tmp_path):
    """Differences between two trees, the first one "here"; checked against the digests."""

    def compare(here, there):
        ours = declared(write(tmp_path / "here", here))
        theirs = declared(write(tmp_path / "there", there))
        found = ours.differences(theirs)
        assert bool(found) == (ours.digest != theirs.digest)
        return found

    return compare


@pytest.mark.parametrize(
    "other",
    [
        pyproject(["toy==1", "dep>=2,<3"]).replace('version = "1"', 'version = "2"'),
        "# why\n" + pyproject(["toy==1", "dep>=2,<3"], more="[tool.ruff]\nline-length = 99\n"),
        pyproject(["dep <3, >=2", "Toy == 1"]),
    ],
    ids=["version", "comment and lint", "spelling and order"],
)
def test_what_installs_nothing_else_is_no_change(differ, other):
    assert differ(PLAIN, {"pyproject.toml": other}) == ()


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (["toy==2"], ["toy==1"], "pyproject.toml: toy==1 there, toy==2 here"),
        (["toy"], [], "pyproject.toml: not there, toy here"),
        ([], ["toy[b,a]"], "pyproject.toml: toy[a,b] there, not here"),
    ],
)
def test_a_changed_dependency_is_named_with_both_sides(differ, here, there, said):
    trees = [{"pyproject.toml": pyproject(lines)} for lines in (here, there)]
    assert differ(*trees) == (said,)


@pytest.mark.parametrize(
    ("more", "label"),
    [
        ('[project.optional-dependencies]\nFast = ["toy"]', "pyproject.toml extra fast"),
        ('[dependency-groups]\ndev = ["toy"]', "pyproject.toml group dev"),
        ('[build-system]\nrequires = ["toy"]', "pyproject.toml build requirements"),
        ('[tool.uv]\ndev-dependencies = ["toy"]', "pyproject.toml group dev (tool.uv)"),
        ('[tool.uv]\nconstraint-dependencies = ["toy"]', "pyproject.toml constraints (tool.uv)"),
        ('[tool.poetry.dependencies]\ntoy = "*"', "pyproject.toml (Poetry)"),
        ('[tool.poetry.group.dev.dependencies]\ntoy = "*"', "pyproject.toml group dev"),
        ('[tool.pdm.dev-dependencies]\nlint = ["toy"]', "pyproject.toml group lint (PDM)"),
        ('[tool.hatch.envs.default]\ndependencies = ["toy"]', "pyproject.toml group default"),
    ],
)
def test_every_list_of_a_pyproject_counts(differ, more, label):
    (said,) = differ(PLAIN, {"pyproject.toml": PLAIN["pyproject.toml"] + more})
    assert said.startswith(label)
    assert said.endswith(": toy there, not here")


def test_the_python_asked_for_counts(differ):
    asked = 'requires-python = ">=3.{}"\n'
    found = differ(
        {"pyproject.toml": pyproject(more=asked.format(10))},
        {"pyproject.toml": pyproject(more=asked.format(9))},
    )
    assert found == ("pyproject.toml requires-python: >=3.9 there, >=3.10 here",)


def test_settings_of_the_installer_count(differ):
    index = '[[tool.uv.index]]\nname = "own"\nurl = "https://example.com/{}"\n'
    trees = [{"pyproject.toml": pyproject(more=index.format(name))} for name in "ab"]
    assert differ(*trees) == ("pyproject.toml tool.uv: not the same there and here",)


def test_comments_blanks_and_continued_lines_of_requirements_are_no_change(differ):
    here = {"requirements.txt": "toy==1  # fast\n\n# dep\ndep \\\n  >=2\n"}
    assert differ(here, {"requirements.txt": "dep>=2\ntoy==1\n"}) == ()


@pytest.mark.parametrize(
    "name",
    ["requirements.txt", "requirements-dev.txt", "dev-requirements.txt", "requirements/base.txt"],
)
def test_requirements_files_by_their_usual_names_count(differ, name):
    found = differ({name: "toy==2"}, {name: "toy==1"})
    assert found == (f"{name}: toy==1 there, toy==2 here",)


def test_included_files_count_wherever_they_lie_in_the_tree(differ):
    trees = [{"requirements.txt": "-r deps/all.in", "deps/all.in": f"toy=={n}"} for n in "21"]
    assert differ(*trees) == ("deps/all.in: toy==1 there, toy==2 here",)


def test_files_that_include_each_other_are_read_once(tmp_path):
    files = {
        "requirements.txt": "-r requirements-dev.txt",
        "requirements-dev.txt": "-r requirements.txt",
    }
    assert declared(write(tmp_path, files)).files == ("requirements-dev.txt", "requirements.txt")


def test_constraints_count_named_or_not(differ):
    here = {"requirements.txt": "-c pins.txt", "pins.txt": "toy==2", "constraints.txt": "dep==2"}
    there = {"requirements.txt": "-c pins.txt", "pins.txt": "toy==1", "constraints.txt": "dep==1"}
    assert differ(here, there) == (
        "constraints.txt constraints: dep==1 there, dep==2 here",
        "pins.txt constraints: toy==1 there, toy==2 here",
    )


def test_where_packages_come_from_counts(differ):
    here = {"requirements.txt": "toy"}
    there = {"requirements.txt": "--extra-index-url https://example.com/simple\ntoy"}
    assert differ(here, there) == ("requirements.txt: other installer options there than here",)


def test_requirements_saved_by_a_windows_shell_are_read(tmp_path):
    (tmp_path / "requirements.txt").write_text("toy==1\n", encoding="utf-16")
    (found,) = declared(tmp_path).lists.values()
    assert found.lines == ("toy==1",)


def test_a_lock_file_counts_by_its_content(differ):
    assert differ({"uv.lock": "version = 1\n"}, {"uv.lock": "version = 2\n"}) == (
        "uv.lock: not the same there and here",
    )


def test_a_file_that_only_one_tree_has_is_named(differ):
    assert differ({}, {"poetry.lock": ""}) == ("poetry.lock: only there",)


def test_setup_cfg_counts(differ):
    text = "[metadata]\nversion = {}\n[options]\ninstall_requires =\n    toy=={}  # x\n"
    found = differ({"setup.cfg": text.format(2, 2)}, {"setup.cfg": text.format(1, 1)})
    assert found == ("setup.cfg: toy==1 there, toy==2 here",)


def test_setup_py_with_plain_lists_counts_by_them(differ):
    text = """\
        import setuptools
        # comment {0}
        NEEDS = ["dep"] + ["toy=={1}"]
        setuptools.setup(name="p", version="{0}", install_requires=NEEDS,
                         extras_require={{"fast": ["free"]}})
    """
    trees = [{"setup.py": text.format(n, n)} for n in (2, 1)]
    assert differ(*trees) == ("setup.py: toy==1 there, toy==2 here",)
    trees = [{"setup.py": text.format(n, 1)} for n in (2, 1)]
    assert differ(*trees) == ()


def test_setup_py_that_works_its_lists_out_counts_by_its_text(differ):
    text = 'from setuptools import setup\nsetup(version="{}", install_requires=open("{}").read())\n'
    assert differ({"setup.py": text.format(1, "a")}, {"setup.py": text.format(2, "a")}) == ()
    assert differ({"setup.py": text.format(1, "a")}, {"setup.py": text.format(1, "b")}) == (
        "setup.py: not the same there and here",
    )


def test_a_list_that_code_appends_to_is_not_taken_for_plain(differ):
    text = 'N = ["toy"]\nN.append(f())\nsetup(install_requires=N)\ndef f(): return "{}"\n'
    assert differ({"setup.py": text.format("a")}, {"setup.py": text.format("b")}) != ()


def test_conda_environments_count_without_their_comments(differ):
    here = {"environment.yml": "dependencies:\n  - toy=2 # fast\n"}
    assert differ(here, {"environment.yml": "# x\ndependencies:\n  - toy=2\n"}) == ()
    found = differ(here, {"environment.yml": "dependencies:\n  - toy=1\n"})
    assert found == ("environment.yml: not the same there and here",)


def test_a_pipfile_counts(differ):
    trees = [{"Pipfile": f'[packages]\ntoy = "=={n}"\n'} for n in "21"]
    assert differ(*trees) == ("Pipfile: toy==1 there, toy==2 here",)


def test_dependencies_that_setuptools_reads_from_files_count(differ):
    more = '[tool.setuptools.dynamic]\ndependencies = {file = ["deps.in"]}\n'
    text = f'[project]\nname = "p"\ndynamic = ["dependencies"]\n{more}'
    trees = [{"pyproject.toml": text, "deps.in": f"toy=={n}"} for n in "21"]
    assert differ(*trees) == ("deps.in: toy==1 there, toy==2 here",)


def test_a_package_inside_the_tree_counts_with_what_it_needs(differ):
    trees = [
        {"requirements.txt": "-e ./libs/core", "libs/core/pyproject.toml": pyproject([f"toy=={n}"])}
        for n in "21"
    ]
    assert differ(*trees) == ("libs/core/pyproject.toml: toy==1 there, toy==2 here",)


def test_where_uv_takes_a_package_from_is_part_of_its_requirement(tmp_path):
    more = '[tool.uv.sources]\ntoy = {git = "https://example.com/toy", rev = "v1"}\n'
    found = declared(write(tmp_path, {"pyproject.toml": pyproject(["toy>=1"], more=more)}))
    lines = [line for each in found.lists.values() for line in each.lines]
    assert "toy @ git+https://example.com/toy@v1" in lines


def test_a_folder_without_declarations_declares_nothing(tmp_path):
    assert declared(tmp_path).files == ()


@pytest.mark.parametrize(
    ("name", "text", "line", "what"),
    [
        ("pyproject.toml", "[project]\nname = \n", 2, "not TOML"),
        ("Pipfile", "[packages\n", 1, "not TOML"),
        ("setup.cfg", "[options]\nx = 1\n[metadata\n", 3, "not a setup.cfg"),
        ("setup.cfg", "name = p\n", 1, "not a setup.cfg"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, name, text, line, what):
    write(tmp_path, {name: text})
    with pytest.raises(DeclarationError) as caught:
        declared(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}:{line}: {what}: ")
    assert message.endswith("; correct the file")
    assert "\n" not in message


def test_what_is_no_file_is_not_read(tmp_path):
    (tmp_path / "requirements.txt").symlink_to(tmp_path / "loop.txt")
    (tmp_path / "loop.txt").symlink_to(tmp_path / "requirements.txt")
    assert declared(tmp_path).files == ()
    (tmp_path / "pyproject.toml").mkdir()
    assert declared(tmp_path).files == ()


def test_values_of_an_unexpected_type_are_passed_over(tmp_path):
    text = """\
        project = {name = 1, dependencies = "toy", dynamic = true, optional-dependencies = {a = 1}}
        dependency-groups = {dev = [1, {include-group = "none"}]}
        [tool]
        uv = 3
        poetry = {dependencies = {toy = 1, dep = {extras = 2}}, extras = {a = 1}, group = 5}
        pdm = {dev-dependencies = []}
        hatch = {envs = {a = 1}}
    """
    assert declared(write(tmp_path, {"pyproject.toml": text})).files == ("pyproject.toml",)


def test_hostile_names_of_files_are_no_trouble(tmp_path):
    names = ["requirements -x\n.txt", "-requirements.txt", "requirements-\u00fc.txt"]
    found = declared(write(tmp_path, dict.fromkeys(names, "toy==1\n-r missing.txt\n")))
    assert set(found.files) == set(names)
    assert len(found.digest) == 64
