"""Where a project lies, and from where and with which arguments its tests are run."""

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
    toy,
)

HOSTILE = "a möst hostile 'name' $HOME;  ünd mehr"


def moved(files: Mapping[str, str], folder: str, *names: str) -> dict[str, str]:
    """The files, those of these names in a folder."""
    return {f"{folder}/{name}" if name in names else name: text for name, text in files.items()}


def below_src(project: CommitProject, **files: str) -> None:
    """Commit the application as a package below src; then one that is slower."""
    project.git("rm", "--quiet", "toy.py")
    test = f"import toys.engine\n{TEST}"
    config = CONFIG.replace("toy:", "toys.engine:")
    source = {"src/toys/__init__.py": "", "src/toys/engine.py": toy()}
    project.commit("below src", {**source, "config.yaml": config, "test_it.py": test, **files})
    project.commit("slower tokens", {"src/toys/engine.py": toy(SLOW)})


def test_modules_below_src_are_those_of_each_commit(project: CommitProject) -> None:
    """As pytest's own documentation has it: tests beside src, which pythonpath names."""
    below_src(project, **{"pytest.ini": f"{INI}pythonpath = src\n"})
    found = project.against("HEAD~1", *ONE_PAIR)
    assert found.change() > 0.5


def test_an_editable_install_is_each_commits_own(project: CommitProject) -> None:
    """It points at the user's tree; the base's processes import from theirs all the same."""
    below_src(project, **{"pyproject.toml": '[project]\nname = "toys"\nversion = "1"\n'})
    make_venv(project.home / "venv", str(project.path / "src"))
    project.python = project.home / "venv" / "bin" / "python"
    found = project.against("HEAD~1", *ONE_PAIR)
    assert found.change() > 0.5


def test_a_commit_with_an_old_plugin_is_measured_with_this_one(project: CommitProject) -> None:
    """As in the plugin's own repository, whose commits hold one each."""
    old = "raise RuntimeError('an old plugin')\n"
    project.commit("an old plugin", {"pytest_llmperf/__init__.py": old})
    project.git("rm", "--quiet", "-r", "pytest_llmperf")
    project.commit("slower tokens", {"toy.py": toy(SLOW)})
    found = project.against("HEAD~1", *ONE_PAIR)
    assert found.change() > 0.5


def test_options_of_the_projects_settings_hold_in_both_commits(project: CommitProject) -> None:
    project.commit("failed first", {"pytest.ini": "[pytest]\naddopts = --ff\n"})
    found = project.against("HEAD", *ONE_PAIR)
    assert found.verdicts == {"test_a": "inconclusive"}


def test_options_of_the_projects_conftest_hold_in_both_commits(project: CommitProject) -> None:
    option = """
        def pytest_addoption(parser):
            parser.addoption("--size", type=int, default=3)
    """
    test = TEST.replace("(llm_engine)", "(llm_engine, request)")
    sized = test.replace("=6", "=request.config.getoption('--size')")
    project.commit("options", {"conftest.py": CONFTEST + dedent(option), "test_it.py": sized})
    found = project.against("HEAD", *ONE_PAIR, "--size=6")
    assert found.verdicts == {"test_a": "inconclusive"}
    assert found.tests["test_a"]["workload"]["summary"] == "1 request, 6 out"


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
    """What a test asks for is what its ``conftest.py``'s options are set to."""
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
    """Those of the environment reach both by themselves, and must not be given twice."""
    environ = {"PYTEST_ADDOPTS": "--tag=environment"}
    found = optional.against("HEAD", *ONE_PAIR, *arguments, environ=environ)
    assert found.verdicts == {"test_a": "inconclusive"}, found.out


def test_the_locale_is_the_users_in_both_commits(project: CommitProject) -> None:
    """Git is asked in English; what a test does is not git's to say."""
    asking = TEST.replace('"hello"', 'os.environ["LC_ALL"]').replace("import", "import os\nimport")
    project.commit("asks in the user's language", {"test_it.py": asking})
    found = project.against("HEAD", *ONE_PAIR, environ={"LC_ALL": "C.UTF-8"})
    assert found.verdicts == {"test_a": "inconclusive"}, found.out


def test_a_package_that_is_named_is_there_in_the_other_commit(project: CommitProject) -> None:
    project.commit("below a package", {"bench/__init__.py": "", "bench/test_it.py": TEST})
    found = project.against("HEAD", *ONE_PAIR, "--pyargs", "bench.test_it")
    assert found.verdicts == {"test_a": "inconclusive"}, found.out


@pytest.fixture(scope="module")
def monorepo(tmp_path_factory: pytest.TempPathFactory) -> CommitProject:
    """A project in a folder of a repository with a hostile name; HEAD is 50% slower than HEAD~1."""
    folder = tmp_path_factory.mktemp("monorepo")
    made = CommitProject(folder / HOSTILE, folder / "home", "packages/my toys")
    files = moved(FILES, "tests/perf", "test_it.py")
    # toy.py is the root folder's, as is the configuration.
    made.commit("the first one", {**files, "tests/test_other.py": "def test_o():\n    pass\n"})
    more = TEST + TEST.replace("test_a", "test_b").replace("import pytest", "")
    made.commit("slower", {"toy.py": toy(SLOW), "tests/perf/test_it.py": more})
    made.commit("a new folder", {"tests/new/test_new.py": TEST.replace("test_a", "test_new")})
    return made


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
    found = monorepo.against("HEAD~2", *ONE_PAIR, *arguments, cwd=monorepo.path / folder)
    assert found.verdicts == verdicts
    assert found.change() > 0.5
    assert "removed" not in found.notes
    assert monorepo.checkouts() == []


def test_only_paths_that_are_not_there(monorepo: CommitProject) -> None:
    found = monorepo.against("HEAD~2", *ONE_PAIR, "tests/new")
    assert found.verdicts == {"test_new": "no baseline"}
    assert "added: HEAD~2 (" in found.explanation("test_new")


def test_from_elsewhere_with_a_root_folder(project: CommitProject) -> None:
    project.commit("slower tokens", {"toy.py": toy(SLOW)})
    arguments = (f"--rootdir={project.path}", f"--llmperf-config={project.path}/config.yaml")
    found = project.against("HEAD~1", *ONE_PAIR, *arguments, str(project.path), cwd=project.home)
    assert found.verdicts == {"test_a": "inconclusive"}
    assert found.change() > 0.5


def test_each_commit_finds_its_configuration_by_the_same_rule_and_says_where_they_differ(
    project: CommitProject,
) -> None:
    """Beside pytest's settings in one, in the folder where pytest is started in the other."""
    project.write({"bench/config.yaml": CONFIG})
    project.git("rm", "--quiet", "config.yaml")
    project.commit("moved the configuration")
    found = project.against("HEAD~1", *ONE_PAIR, "../test_it.py", cwd=project.path / "bench")
    assert found.verdicts == {"test_a": "inconclusive"}, found.out
    expected = "configuration: base config.yaml, candidate bench/config.yaml"
    assert expected in found.facts["side_differences"]


def test_a_linked_work_tree_is_a_repository_too(project: CommitProject) -> None:
    project.commit("slower tokens", {"toy.py": toy(SLOW)})
    linked = project.home / "linked"
    project.git("worktree", "add", "--quiet", str(linked), "HEAD")
    found = project.against("HEAD~1", *ONE_PAIR, cwd=linked)
    assert found.verdicts == {"test_a": "inconclusive"}
    assert found.change() > 0.5
    assert project.git("worktree", "list").count("\n") == 1


def test_models_that_git_ignores_are_shared(project: CommitProject) -> None:
    """An application that reads its model, which lies in an ignored file, from its own folder."""
    reading = toy(
        also='\nwith open("models/tiny.gguf") as file:\n    assert file.read() == "model"\n'
    )
    project.write({"models/tiny.gguf": "model"})
    project.commit("reads its model", {"toy.py": reading})
    project.commit("slower tokens", {"toy.py": reading.replace("0.004", "0.012")})
    found = project.against("HEAD~1", *ONE_PAIR)
    assert found.verdicts == {"test_a": "inconclusive"}
    assert found.change() > 0.5
