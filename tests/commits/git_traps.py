"""Repositories whose settings name a program wherever git can be made to run one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from commit_projects import NO_SETTINGS

HOOKS = (
    *("post-checkout", "post-commit", "post-index-change", "post-merge", "post-rewrite"),
    *("pre-auto-gc", "pre-commit", "reference-transaction", "fsmonitor-watchman"),
)
#: Settings whose value is a command.
COMMANDS = (
    *("core.fsmonitor", "core.pager", "core.editor", "sequence.editor", "core.sshCommand"),
    *("core.askPass", "core.gitProxy", "core.alternateRefsCommand", "gpg.program"),
    *("gpg.ssh.program", "gpg.x509.program", "credential.helper", "diff.external"),
    *("diff.trap.textconv", "diff.trap.command", "merge.trap.driver", "interactive.diffFilter"),
    *("filter.trap.clean", "filter.trap.process", "pager.log", "pager.status", "pager.bisect"),
    *("uploadpack.packObjectsHook", "remote.origin.uploadpack", "submodule.inner.update"),
)
#: Aliases can't take the place of git's own commands.
ALIASES = ("status", "log", "rev-parse", "diff-tree", "cat-file", "bisect", "worktree")


class Traps:
    """Programs that log their name when run, and read all of their input.

    Args:
        folder: a new folder for them, outside of any repository.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        folder.mkdir()

    def ran(self) -> set[str]:
        """Return the names of the programs run so far."""
        return set(self._log.read_text().split()) if self._log.exists() else set()

    def program(self, name: str) -> str:
        """Write the program of this name, and return its path."""
        path = self._folder / name
        # A filter process never sees the end of its input, so it would wait for ever.
        reads = "" if name.endswith("process") else "cat > /dev/null\n"
        path.write_text(f"#!/bin/sh\necho {name} >> '{self._log}'\n{reads}exit 0\n")
        path.chmod(0o755)
        return str(path)

    def set_in(self, repository: Path, without: tuple[str, ...] = ()) -> None:
        """Name the programs in the repository's settings and attributes, and touch all its files.

        No committed content changes; HEAD gets a signature for a program to check.
        ``without``: settings to leave out.
        """
        hooks = self._folder / "hooks"
        hooks.mkdir(exist_ok=True)
        for name in HOOKS:
            hook = hooks / name
            hook.write_text(f"#!/bin/sh\necho hook-{name} >> '{self._log}'\ncat > /dev/null\n")
            hook.chmod(0o755)
        _sign_head(repository)
        named = plain_git(repository, "rev-parse", "--git-path", "info/attributes")
        attributes = repository / named
        attributes.parent.mkdir(exist_ok=True)
        attributes.write_text("* filter=trap diff=trap merge=trap\n")
        settings = {name: self.program(name) for name in COMMANDS}
        settings |= {f"alias.{name}": f"!{self.program(f'alias.{name}')}" for name in ALIASES}
        settings["submodule.inner.update"] = "!" + settings["submodule.inner.update"]
        settings |= {
            "core.hooksPath": str(hooks),
            "log.showSignature": "true",
            "merge.verifySignatures": "true",
            "diff.ignoreSubmodules": "none",
            "status.submoduleSummary": "true",
            "remote.origin.url": "ssh://trap.invalid/trap",
        }
        for name, value in settings.items():
            if name in without:
                continue
            plain_git(repository, "config", name, value)
        for path in repository.rglob("*"):
            if ".git" not in path.parts and path.is_file():
                os.utime(path, (1, 1))


def plain_git(cwd: Path, *arguments: str, stdin: str | None = None) -> str:
    """Run git as a user would, but without hooks and file monitor."""
    done = subprocess.run(
        ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *arguments],
        cwd=cwd,
        env={**os.environ, **NO_SETTINGS},
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _sign_head(repository: Path) -> None:
    """Replace HEAD by a copy with a signature."""
    head, separator, message = plain_git(repository, "cat-file", "commit", "HEAD").partition("\n\n")
    seal = "\n".join(
        ("gpgsig -----BEGIN PGP SIGNATURE-----", " ", " none", " -----END PGP SIGNATURE-----")
    )
    signed = f"{head}\n{seal}{separator}{message}\n"
    commit = plain_git(repository, "hash-object", "-t", "commit", "-w", "--stdin", stdin=signed)
    plain_git(repository, "update-ref", "HEAD", commit)
