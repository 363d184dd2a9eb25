"""Projects in all kinds of places, run from various folders and with various arguments."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent

import pytest
from commit_projects import (
    CONFIG,
    CONFTEST,
    FILES,
    INI,
    ONE_PAIR,
    SLOW,
    TEST,
    CommitProject,
    make_venv,
    toy_source,
)

HOSTILE = "a möst hostile 'name' $HOME;  ünd mehr"


def moved(files: Mapping[str, str], folder: str, *names: str) -> dict[str, str]:
    """Return the files, with those of the given names moved into a folder."""
    return {f"{folder}/{name}" if name in names else name: text for name, text in files.items()}


def below_src(project: CommitProject, **files: str) -> None:
    """Commit the application as a package below src, then a slower version of it."""
    project.git("rm", "--quiet", "toy.py")
    test = f"import toys.engine\n{TEST}"
    config = CONFIG.replace("toy:", "toys.engine:")
    source = {"src/toys/__init__.py": "", "src/toys/engine.py": toy_source()}
    project.commit("below src", {**source, "config.yaml": config, "test_it.py": test, **files})
    project.commit("slower tokens", {"src/toys/engine.py": toy_source(SLOW)})


def test_modules_below_src_are_those_of_each_commit(project: CommitProject) -> None:
    """The layout of pytest's own documentation: tests beside src, with pythonpath = src."""
    below_src(project, **{"pytest.ini": f"{INI}pythonpath = src\n"})
    session = project.against("HEAD~1", *ONE_PAIR)
    assert session.change() > 0.5


def test_an_editable_install_is_each_commits_own(project: CommitProject) -> None:
    """It points at the user's tree, yet the base's processes import from their own tree."""
    below_src(project, **{"pyproject.toml": '[project]\nname = "toys"\nversion = "1"\n'})
    make_venv(project.home / "venv", str(project.path / "src"))
    project.python = project.home / "venv" / "bin" / "python"
    session = project.against("HEAD~1", *ONE_PAIR)
    assert session.change() > 0.5


def test_a_commit_with_an_old_plugin_is_measured_with_this_one(project: CommitProject) -> None:
    """As in the plugin's own repository, where every commit has its own plugin."""
    old = "raise RuntimeError('an old plugin')\n"
    project.commit("an old plugin", {"pytest_llmperf/__init__.py": old})
    project.git("rm", "--quiet", "-r", "pytest_llmperf")
    project.commit("slower tokens", {"toy.py": toy_source(SLOW)})
    session = project.against("HEAD~1", *ONE_PAIR)
    assert session.change() > 0.5


def test_options_of_the_projects_settings_hold_in_both_commits(project: CommitProject) -> None:
    project.commit("failed first", {"pytest.ini": "[pytest]\naddopts = --ff\n"})
    session = project.against("HEAD", *ONE_PAIR)
    assert session.verdicts == {"test_a": "inconclusive"}


def test_options_of_the_projects_conftest_hold_in_both_commits(project: CommitProject) -> None:
    option = """
        def pytest_addoption(parser):
            parser.addoption("--size", type=int, default=3)
    """
    test = TEST.replace("(llm_engine)", "(llm_engine, request)")
    sized = test.replace("=6", "=request.config.getoption('--size')")
    project.commit("options", {"conftest.py": CONFTEST + dedent(option), "test_it.py": sized})
    session = project.against("HEAD", *ONE_PAIR, "--size=6")
    assert session.verdicts == {"test_a": "inconclusive"}
    assert session.tests["test_a"]["workload"]["summary"] == "1 request, 6 out"


OPTIONS = """
    def pytest_addoption(parser):
        parser.addoption("--devices", nargs="+", default=[])
        parser.addoption("--slow", action="store_const", const=1, dest="level")
        parser.addoption("--fast", action="store_const", const=2, dest="level")
        parser.addoption("--sizes", type=lambda text: [int(part) for part in text.split(",")])
        parser.addoption("--tag", action="append", default=["always"])
        parser.addoption("-E", dest="stage")

    @pytest.fixture
    def given(request):
        names = ("devices", "level", "sizes", "tag", "stage")
        return repr([request.config.getoption(name) for name in names])
"""


@pytest.fixture(scope="module")
def optional(shared: CommitProject) -> CommitProject:
    """A project whose test sends the values of its ``conftest.py``'s options as its prompt."""
    conftest = f"import pytest\n{CONFTEST}{dedent(OPTIONS)}"
    test = TEST.replace("(llm_engine)", "(llm_engine, given)").replace('"hello"', "given")
    shared.commit("options", {"conftest.py": conftest, "test_it.py": test})
    return shared


@pytest.mark.parametrize(
    "arguments",
    [
        ["--devices", "cpu", "gpu"],
        ["--slow", "--sizes=1,2", "--tag=a", "--tag", "b", "-E", "test"],
    ],
    ids=" ".join,
)
def test_options_of_any_shape_ask_for_the_same_work_in_both_commits(
    optional: CommitProject, arguments: list[str]
) -> None:
    """Options in PYTEST_ADDOPTS reach both sides anyway, and must not be passed twice."""
    environ = {"PYTEST_ADDOPTS": "--tag=environment"}
    session = optional.against("HEAD", *ONE_PAIR, *arguments, environ=environ)
    assert session.verdicts == {"test_a": "inconclusive"}, session.out


def test_the_locale_is_the_users_in_both_commits(project: CommitProject) -> None:
    """Only git commands run in English; tests keep the user's locale."""
    asking = TEST.replace('"hello"', 'os.environ["LC_ALL"]').replace("import", "import os\nimport")
    project.commit("asks in the user's language", {"test_it.py": asking})
    session = project.against("HEAD", *ONE_PAIR, environ={"LC_ALL": "C.UTF-8"})
    assert session.verdicts == {"test_a": "inconclusive"}, session.out


def test_a_package_that_is_named_is_there_in_the_other_commit(project: CommitProject) -> None:
    project.commit("below a package", {"bench/__init__.py": "", "bench/test_it.py": TEST})
    session = project.against("HEAD", *ONE_PAIR, "--pyargs", "bench.test_it")
    assert session.verdicts == {"test_a": "inconclusive"}, session.out


@pytest.fixture(scope="module")
def monorepo(tmp_path_factory: pytest.TempPathFactory) -> CommitProject:
    """A project in a folder of a repository with a hostile name; HEAD is slower than HEAD~2."""
    folder = tmp_path_factory.mktemp("monorepo")
    repo = CommitProject(folder / HOSTILE, folder / "home", "packages/my toys")
    files = moved(FILES, "tests/perf", "test_it.py")
    # toy.py and the configuration stay in the root folder.
    repo.commit("the first one", {**files, "tests/test_other.py": "def test_o():\n    pass\n"})
    more = TEST + TEST.replace("test_a", "test_b").replace("import pytest", "")
    repo.commit("slower", {"toy.py": toy_source(SLOW), "tests/perf/test_it.py": more})
    repo.commit("a new folder", {"tests/new/test_new.py": TEST.replace("test_a", "test_new")})
    return repo


@pytest.mark.parametrize(
    ("folder", "arguments", "verdicts"),
    [
        (
            ".",
            [],
            {"test_new": "no baseline", "test_a": "inconclusive", "test_b": "no baseline"},
        ),
        ("tests/perf", [], {"test_a": "inconclusive", "test_b": "no baseline"}),
        (
            "tests",
            ["-k", "test_a or test_new", "new", "perf/test_it.py::test_a"],
            {"test_new": "no baseline", "test_a": "inconclusive"},
        ),
    ],
    ids=["all", "from a folder", "one test, -k, and a path that is not there"],
)
def test_folder_and_arguments_choose_the_tests_of_both_commits(
    monorepo: CommitProject, folder: str, arguments: list[str], verdicts: dict[str, str]
) -> None:
    session = monorepo.against("HEAD~2", *ONE_PAIR, *arguments, cwd=monorepo.path / folder)
    assert session.verdicts == verdicts
    assert session.change() > 0.5
    assert "removed" not in session.notes
    assert monorepo.checkouts() == []


def test_only_paths_that_are_not_there(monorepo: CommitProject) -> None:
    session = monorepo.against("HEAD~2", *ONE_PAIR, "tests/new")
    assert session.verdicts == {"test_new": "no baseline"}
    assert "added: HEAD~2 (" in session.explanation("test_new")


def test_from_elsewhere_with_a_root_folder(project: CommitProject) -> None:
    project.commit("slower tokens", {"toy.py": toy_source(SLOW)})
    arguments = (f"--rootdir={project.path}", f"--llmperf-config={project.path}/config.yaml")
    session = project.against("HEAD~1", *ONE_PAIR, *arguments, str(project.path), cwd=project.home)
    assert session.verdicts == {"test_a": "inconclusive"}
    assert session.change() > 0.5


def test_each_commit_finds_its_configuration_by_the_same_rule_and_says_where_they_differ(
    project: CommitProject,
) -> None:
    """At the base beside pytest's settings, at HEAD in the folder where pytest is started."""
    project.write({"bench/config.yaml": CONFIG})
    project.git("rm", "--quiet", "config.yaml")
    project.commit("moved the configuration")
    session = project.against("HEAD~1", *ONE_PAIR, "../test_it.py", cwd=project.path / "bench")
    assert session.verdicts == {"test_a": "inconclusive"}, session.out
    expected = "configuration: base config.yaml, candidate bench/config.yaml"
    assert expected in session.facts["side_differences"]


def test_a_linked_work_tree_is_a_repository_too(project: CommitProject) -> None:
    project.commit("slower tokens", {"toy.py": toy_source(SLOW)})
    linked = project.home / "linked"
    project.git("worktree", "add", "--quiet", str(linked), "HEAD")
    session = project.against("HEAD~1", *ONE_PAIR, cwd=linked)
    assert session.verdicts == {"test_a": "inconclusive"}
    assert session.change() > 0.5
    assert project.git("worktree", "list").count("\n") == 1


def test_models_that_git_ignores_are_shared(project: CommitProject) -> None:
    """The application reads its model from an ignored file in its own folder."""
    reading = toy_source(
        extra='\nwith open("models/tiny.gguf") as file:\n    assert file.read() == "model"\n'
    )
    project.write({"models/tiny.gguf": "model"})
    project.commit("reads its model", {"toy.py": reading})
    project.commit("slower tokens", {"toy.py": reading.replace("0.004", "0.012")})
    session = project.against("HEAD~1", *ONE_PAIR)
    assert session.verdicts == {"test_a": "inconclusive"}
    assert session.change() > 0.5
