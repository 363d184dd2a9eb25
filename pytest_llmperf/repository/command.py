"""Runs git safely: read-only, with a time limit, and without programs that a repository names."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from pytest_llmperf.process_groups import end_group, signal_group, wait_until_ended

#: Time limits, seconds: for a small query, for one over every file or commit of a large
#: repository, and for longer work such as a checkout.
QUERY_SECONDS, SCAN_SECONDS, WORK_SECONDS = 60.0, 300.0, 1800.0

#: Variables that a hook, or ``git -c ...``, leaves in the environment and that name a repository,
#: index or setting other than the queried folder's. From ``git rev-parse --local-env-vars``,
#: without the settings that a user gives in the environment on purpose (GIT_CONFIG_COUNT).
_LOCAL = (
    *("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH"),
    *("GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_PREFIX", "GIT_INTERNAL_SUPER_PREFIX"),
    *("GIT_GRAFT_FILE", "GIT_SHALLOW_FILE", "GIT_REPLACE_REF_BASE", "GIT_NO_REPLACE_OBJECTS"),
    "GIT_NAMESPACE",
)
#: Programs that a user's environment names for git's own use.
_PROGRAMS = (
    *("GIT_EXTERNAL_DIFF", "GIT_ASKPASS", "SSH_ASKPASS", "GIT_EDITOR", "GIT_SEQUENCE_EDITOR"),
    *("GIT_SSH", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND"),
)
#: Settings by which a repository could make git write or run something.
_OFF = (
    "--no-pager",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.quotePath=false"),
    *("-c", "core.askPass="),
    *("-c", "credential.helper="),
    *("-c", "log.showSignature=false"),
    *("-c", "submodule.recurse=false"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
)
#: Subcommands that could run the programs of ``diff.external`` and of diff drivers.
_SHOWING = ("log", "diff-tree")
_NO_DRIVERS = ("--no-ext-diff", "--no-textconv")
#: Subcommands that read an object's content: they ignore replace refs (``git replace``). Walks
#: over the history follow replace refs, as git itself does.
_CONTENT = ("cat-file", "ls-tree", "diff-tree", "status", "ls-files", "worktree", "reset")
#: Git's own options that take the next word as their value.
_TAKE_A_WORD = ("-c", "-C", "--git-dir", "--work-tree", "--config-env")
#: Folder where git hung -> error message, so that the next query there does not wait again.
_HUNG: dict[Path, str] = {}


#: A finished git process: its exit status and output.
Finished: TypeAlias = "subprocess.CompletedProcess[bytes]"


class GitError(Exception):
    """A git command failed; ``str()`` is a complete message for a user."""


class GitKilledError(GitError):
    """Git was killed before it gave an answer."""


class GitHangsError(GitKilledError):
    """Git did not answer in time, and was killed."""


def without_repository(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment without variables that name another repository."""
    return {name: value for name, value in environ.items() if name not in _LOCAL}


def git_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for queries: this repository only, no writing, English.

    Reading from a partial clone would fetch missing objects and write to it, so no
    transport is allowed.
    """
    kept = without_repository(environ)
    return {
        **{name: value for name, value in kept.items() if name not in _PROGRAMS},
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_PAGER": "cat",
        "LC_ALL": "C",
    }


def execute(
    arguments: Sequence[str],
    cwd: Path,
    environ: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    limit: float | None = None,
) -> Finished:
    """Run git in ``cwd`` and return its exit status and output, even if it failed.

    The environment is ``git_environment()`` and the limit ``WORK_SECONDS`` seconds, unless given.

    Raises:
        GitError: git could not be started, was killed, or took too long.
    """
    limit = WORK_SECONDS if limit is None else limit
    if cwd in _HUNG:
        raise GitHangsError(_HUNG[cwd])
    process = _start(arguments, cwd, environ, has_input=stdin is not None)
    try:
        out, err = process.communicate(stdin, timeout=limit)
    except subprocess.TimeoutExpired:
        _end(process)
        _HUNG[cwd] = (
            f"git {_subcommand(arguments)} in {cwd} did not answer within {limit:g} s and was "
            "killed; to see what it waits for, such as an unresponsive disk, run git status there"
        )
        raise GitHangsError(_HUNG[cwd]) from None
    except BaseException:
        _end(process)
        raise
    if process.returncode < 0:
        raise GitKilledError(
            f"git {_subcommand(arguments)} in {cwd} was killed (signal {-process.returncode})"
        )
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start(arguments: Sequence[str], cwd: Path) -> subprocess.Popen[bytes]:
    """Start a git that reads queries from stdin, in its own process group.

    Its error output is discarded. ``stop`` ends it; after ``WORK_SECONDS`` it is killed, so that
    readers do not wait forever.

    Raises:
        GitError: git could not be started.
    """
    process = _start(arguments, cwd, None, has_input=True, errors=False)
    threading.Thread(target=_kill_late, args=(process, WORK_SECONDS), daemon=True).start()
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a git that ``start`` started; the caller closes its streams."""
    end_group(process)


def git_error_text(done: Finished) -> str:
    """Return git's own error message, in one line."""
    message = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    # A line that ends in a colon introduces the next one.
    return "; ".join(dict.fromkeys(lines)).replace(":; ", ": ")


def _start(
    arguments: Sequence[str],
    cwd: Path,
    environ: Mapping[str, str] | None,
    *,
    has_input: bool,
    errors: bool = True,
) -> subprocess.Popen[bytes]:
    variables = dict(environ) if environ is not None else git_environment()
    if _subcommand(arguments) in _CONTENT:
        variables["GIT_NO_REPLACE_OBJECTS"] = "1"
    try:
        return subprocess.Popen(
            ["git", *_OFF, *_without_drivers(arguments)],
            cwd=cwd,
            env=variables,
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if errors else subprocess.DEVNULL,
            # Its children end with it, and none can prompt on a terminal.
            start_new_session=True,
        )
    except FileNotFoundError as error:
        if not cwd.is_dir():
            raise GitError(f"the folder {cwd} no longer exists, so git cannot run in it") from error
        raise GitError(
            "git is not installed, or not on PATH; it is needed to look at other commits"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in a name
        raise GitError(f"git can't be run in {cwd}: {error}") from error


def _kill_late(process: subprocess.Popen[bytes], limit: float) -> None:
    if not wait_until_ended(process, limit):
        signal_group(process, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    end_group(process)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def _subcommand(arguments: Sequence[str]) -> str:
    """Return git's subcommand: ``log`` for ``--literal-pathspecs log -1``."""
    return arguments[_place(arguments)]


def _place(arguments: Sequence[str]) -> int:
    words = iter(enumerate(arguments))
    for index, word in words:
        if not word.startswith("-"):
            return index
        if word in _TAKE_A_WORD:
            next(words)
    raise ValueError(f"no command of git in {arguments}")


def _without_drivers(arguments: Sequence[str]) -> list[str]:
    after = _place(arguments) + 1
    also = _NO_DRIVERS if arguments[after - 1] in _SHOWING else ()
    return [*arguments[:after], *also, *arguments[after:]]
