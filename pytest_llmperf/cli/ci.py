"""``llmperf ci init``: write the files of a CI job that gates on speed."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.output import OutputError, put, run_reporting, say, say_wrapped, write

if TYPE_CHECKING:
    from pytest_llmperf.repository.git import Repository

_TEMPLATES = Path(__file__).parent / "ci_templates"
_RUNNERS = ("cpu", "gpu")
#: Characters that would end or change a text in double quotes.
_UNQUOTABLE = re.compile(r'["\\\x00-\x1f]')
_DESCRIPTION = """\
Writes the files of a CI job that compares each pull request with its merge
base, and records the main branch. They are yours from then on: edit and commit
them.
"""
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "written",
    1: "a file can't be written, or exists and differs (--force overwrites it)",
    2: "a wrong argument",
}
_EPILOG = f"""\
examples:
  llmperf ci init github
  llmperf ci init gitlab --runner gpu --print

{exit_status_text(EXIT_STATUS)}
"""


@dataclass(frozen=True)
class _Service:
    """A CI service.

    Attributes:
        files: target path in a repository, by template path in the service's folder.
        next_steps: remaining steps for the user, one line each.
        entry: the main file that the service reads, if the user owns it; it is written only if it
            does not exist.
        include: the lines that ``entry`` must contain.
    """

    files: dict[str, str]
    next_steps: tuple[str, ...]
    entry: str = ""
    include: str = ""


_COMMIT = "commit the files and open a pull request: its job is red if it makes a perf test slower"
_SERVICES = {
    "github": _Service(
        files={
            "workflows/llmperf.yml": ".github/workflows/llmperf.yml",
            "workflows/llmperf-comment.yml": ".github/workflows/llmperf-comment.yml",
            "actions/llmperf/action.yml": ".github/actions/llmperf/action.yml",
        },
        next_steps=(
            _COMMIT,
            "comments on pull requests begin once llmperf-comment.yml is on the main branch",
            "if the main branch is protected, let GitHub Actions bypass the rule: the job commits "
            "its baselines there",
            "for a runner with a GPU, set the repository variable LLMPERF_GPU_RUNNER to its "
            'labels, such as ["self-hosted", "gpu"]',
        ),
    ),
    "gitlab": _Service(
        files={"llmperf.yml": ".gitlab/llmperf.yml"},
        next_steps=(
            _COMMIT.replace("pull request", "merge request"),
            "set the CI/CD variable LLMPERF_PUSH_TOKEN to a project access token that may push to "
            "the main branch: the job commits its baselines there",
            "for a runner with a GPU, set LLMPERF_GPU_RUNNER to its tag",
            "add a pipeline schedule (nightly in the first week) that records further sessions",
        ),
        entry=".gitlab-ci.yml",
        include="include:\n  - local: .gitlab/llmperf.yml\n",
    ),
}


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``ci`` and its subcommand to the command line."""
    ci = commands.add_parser("ci", help="write the files of a CI job that gates on speed")
    verbs = ci.add_subparsers(dest="verb", required=True, metavar="VERB")
    init = verbs.add_parser(
        "init",
        help="write workflow files for GitHub or GitLab",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    init.add_argument(
        "service",
        choices=tuple(_SERVICES),
        metavar="|".join(_SERVICES),
        help="where the job runs",
    )
    init.add_argument(
        "--runner",
        action="append",
        choices=_RUNNERS,
        help="which jobs to write (repeatable; default: both; the one for a GPU runs only once a "
        "variable names its runner)",
    )
    init.add_argument(
        "--branch", type=_branch, metavar="NAME", help="main branch; default: as git knows it"
    )
    init.add_argument("--force", action="store_true", help="overwrite files that differ")
    init.add_argument(
        "--print", action="store_true", help="print the files instead of writing them"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write or print the files; return the exit status."""
    from pytest_llmperf.config.errors import ConfigError

    return run_reporting(lambda: _init(arguments), problems=(OutputError, ConfigError, OSError))


def _init(arguments: argparse.Namespace) -> int:
    service = _SERVICES[arguments.service]
    ci_project = _CiProject.around(Path.cwd(), arguments.branch)
    runners = tuple(arguments.runner or _RUNNERS)
    folder = _TEMPLATES / arguments.service
    texts = {
        target: _filled((folder / template).read_text(encoding="utf-8"), runners, ci_project)
        for template, target in service.files.items()
    }
    steps = [step for step in service.next_steps if "gpu" in runners or "GPU" not in step]
    entry = ci_project.top / service.entry
    if service.entry and (arguments.print or not entry.exists()):
        texts[service.entry] = service.include
    elif service.entry and service.include.split()[-1] not in entry.read_text(errors="replace"):
        steps.insert(
            0, f"add to {service.entry}: include: [{{local: {service.include.split()[-1]}}}]"
        )
    if arguments.print:
        put("\n".join(f"# {name}\n{text}" for name, text in texts.items()), "the files")
        return 0
    _write(ci_project.top, texts, arguments.force)
    say("", "next:")
    for step in steps:
        say_wrapped(step, first="  - ", indent="    ")
    return 0


@dataclass(frozen=True)
class _CiProject:
    """A project in its repository.

    Attributes:
        top: the top folder of the repository; without git, the project's folder.
        project: the project's folder, relative to the top.
        branch: name of the main branch.
        baselines: the folder of the baselines, relative to the top.
    """

    top: Path
    project: str
    branch: str
    baselines: str

    @classmethod
    def around(cls, folder: Path, branch: str | None) -> _CiProject:
        """Return the project around a folder.

        Raises:
            ConfigError: its configuration is not valid.
            OutputError: its baselines are outside the repository, or a name can't be quoted.
        """
        from pytest_llmperf.config.project import ProjectFolders
        from pytest_llmperf.doctor.setup import load_for_command
        from pytest_llmperf.repository.git import GitError, Repository

        try:
            repository = Repository.around(folder)
        except GitError:
            repository = None
        project = ProjectFolders.around(folder)
        top = repository.top if repository is not None else project.root.resolve()
        baselines = load_for_command(None, (), project, os.environ).baselines_dir.resolve()
        if not baselines.is_relative_to(top):
            raise OutputError(
                f"perf.baselines: {baselines} lies outside of the repository, so a CI job can't "
                "commit it; name a folder in the repository"
            )
        ci_project = cls(
            top,
            project.root.resolve().relative_to(top).as_posix(),
            branch or (_main_branch(repository) if repository is not None else "main"),
            baselines.relative_to(top).as_posix(),
        )
        for name in (ci_project.project, ci_project.branch, ci_project.baselines):
            if _UNQUOTABLE.search(name):
                raise OutputError(
                    f"{name!r} has a quote, a backslash or a control character, which a workflow "
                    "file can't hold; rename it"
                )
        return ci_project


def _main_branch(repository: Repository) -> str:
    """Return the remote's default branch; otherwise ``main`` or ``master``."""
    from pytest_llmperf.repository.revisions import main_remote

    remote = main_remote(repository)
    head = repository.run("symbolic-ref", "--quiet", f"refs/remotes/{remote}/HEAD", check=False)
    named = head.strip().removeprefix(f"refs/remotes/{remote}/")
    return named or next((name for name in ("main", "master") if repository.commit(name)), "main")


def _branch(text: str) -> str:
    if not re.fullmatch(r"[\w][\w./+-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid branch name")
    return text


def _filled(text: str, runners: tuple[str, ...], ci_project: _CiProject) -> str:
    """Fill in a template's names, and remove the jobs for runners that were not requested."""
    for runner in _RUNNERS:
        if runner not in runners:
            text = re.sub(rf"(?ms)^ *# <{runner}>\n.*?^ *# </{runner}>\n\n?", "", text)
    text = re.sub(r"(?m)^ *# </?\w+>\n", "", text)
    for name in ("branch", "baselines", "project"):
        text = text.replace(f"<{name}>", getattr(ci_project, name))
    return text.rstrip() + "\n"


def _write(top: Path, texts: dict[str, str], force: bool) -> None:
    """Write the files, or none of them if an existing file differs and ``force`` is not set.

    Raises:
        OutputError: a file exists and differs, or can't be written.
    """
    differing = [name for name, text in texts.items() if _differs(top / name, text)]
    if differing and not force:
        raise OutputError(
            f"nothing is written: {', '.join(differing)} would change\n"
            "  to overwrite: --force; to look first: --print"
        )
    for name, text in texts.items():
        if (top / name).exists() and name not in differing:
            say(f"unchanged {name}")
            continue
        write(top / name, text, name, "llmperf ci init")
        say(f"{'overwrote' if name in differing else 'wrote'} {name}")


def _differs(file: Path, text: str) -> bool:
    return file.exists() and file.read_bytes() != text.encode()
