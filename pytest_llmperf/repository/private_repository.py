"""A private repository that borrows objects from the user's repository, which is only read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pytest_llmperf.repository.command import (
    GitError,
    GitKilledError,
    execute,
    git_environment,
    git_error_text,
)
from pytest_llmperf.repository.folders import cannot_write

#: Settings of a repository that determine the content of its checkouts.
_SETTINGS = re.compile(
    r"core\.(autocrlf|eol|safecrlf|symlinks|ignorecase|precomposeunicode|longpaths|filemode"
    r"|attributesfile|excludesfile|protectntfs|protecthfs|bigfilethreshold|sparsecheckout"
    r"|sparsecheckoutcone|checkroundtripencoding)|filter\..*|lfs\.(fetchinclude|fetchexclude)",
    re.DOTALL,
)
#: Settings that keep programs that use git in a checkout, such as a test that asks for its own
#: version, from starting hooks, daemons or clean-ups.
_OWN_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}
_REFS = ("refs/heads", "refs/remotes", "refs/tags", "refs/replace")
_SPARSE = "sparse-checkout"


class PrivateRepository:
    """A private bare repository with the objects and refs of another one.

    Attributes:
        folder: where it lies.
    """

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        self._source = source
        # Named explicitly: git may be configured not to find bare repositories by itself.
        self._named = [] if (source / ".git").exists() else [f"--git-dir={source}"]

    @classmethod
    def create(cls, folder: Path, source: Path) -> PrivateRepository:
        """Create a private repository in ``folder``, which does not exist yet.

        ``source`` is a work tree's top or a repository's own folder (``.git/modules/NAME``).

        Raises:
            GitError: the source can't be read, or the folder can't be written.
        """
        private = cls(folder, source)
        object_format = private._ask("rev-parse", "--show-object-format", missing="sha1")
        chosen = [] if object_format == "sha1" else [f"--object-format={object_format}"]
        # Refs in files, whatever the default, as they are written below.
        settings = ["-c", "init.defaultRefFormat=files", "-c", "init.defaultBranch=main"]
        created = execute(
            [*settings, "init", "--quiet", "--bare", "--template=", *chosen, "--", str(folder)],
            source,
            {**_environment(), "GIT_DEFAULT_REF_FORMAT": "files"},
        )
        if created.returncode != 0:
            raise cannot_write(folder, git_error_text(created))
        try:
            private._borrow()
        except OSError as error:
            raise cannot_write(folder, error) from error
        return private

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run git on this repository, or in a work tree of it; return its output.

        Raises:
            GitError: git failed, with git's own message.
        """
        where = [] if cwd is not None else [f"--git-dir={self.folder}"]
        done = execute([*where, *arguments], cwd or self.folder, _environment())
        if done.returncode != 0:
            raise GitError(git_error_text(done))
        return done.stdout.decode(errors="surrogateescape")

    def check_out(self, commit: str, tree: Path) -> None:
        """Check the commit out into ``tree`` as a work tree of this repository, HEAD detached.

        ``tree`` does not exist yet, or is an empty folder.

        Raises:
            GitError: git failed, with git's own message.
        """
        self.git("worktree", "add", "--quiet", "--detach", "--no-checkout", "--", str(tree), commit)
        sparse = self.folder / "info" / _SPARSE
        if sparse.is_file():
            own = Path(self.git("rev-parse", "--git-dir", cwd=tree).removesuffix("\n"))
            (tree / own / "info").mkdir(exist_ok=True)
            (tree / own / "info" / _SPARSE).write_bytes(sparse.read_bytes())
        self.git("reset", "--quiet", "--hard", "--no-recurse-submodules", cwd=tree)

    def _borrow(self) -> None:
        """Link the source's objects, and copy its refs and checkout settings."""
        objects = self._source / self._ask("rev-parse", "--git-path", "objects")
        information = self.folder / "objects" / "info"
        information.mkdir(parents=True, exist_ok=True)
        (information / "alternates").write_bytes(_quoted(objects.resolve()) + b"\n")
        self._copy("shallow", self.folder / "shallow")
        (self.folder / "info").mkdir(exist_ok=True)
        for name in ("attributes", "exclude"):
            self._copy(f"info/{name}", self.folder / "info" / name)
        settings = self._settings()
        if settings.get("core.sparsecheckout", "").lower() in ("true", "yes", "on", "1"):
            self._copy(f"info/{_SPARSE}", self.folder / "info" / _SPARSE)
        self._write_settings(settings)
        self._write_refs()

    def _copy(self, name: str, to: Path) -> None:
        path = self._source / self._ask("rev-parse", "--git-path", name)
        if path.is_file():
            to.write_bytes(path.read_bytes())

    def _settings(self) -> dict[str, str]:
        """Return the source's own checkout settings; the user's global ones apply anyway."""
        listed = self._ask("config", "--includes", "--show-scope", "--null", "--list", missing="")
        fields = listed.split("\0")
        settings: dict[str, str] = {}
        for scope, setting in zip(fields[::2], fields[1::2], strict=False):
            key, separator, value = setting.partition("\n")
            if scope in ("local", "worktree") and _SETTINGS.fullmatch(key):
                settings[key] = value if separator else "true"
        return settings

    def _write_settings(self, settings: dict[str, str]) -> None:
        for key, value in {**settings, **_OWN_SETTINGS}.items():
            try:
                self.git("config", "--local", key, value)
            except GitKilledError:
                raise
            except GitError as error:
                raise cannot_write(self.folder, error) from error

    def _write_refs(self) -> None:
        """Write all refs at once, in packed form, so that git need not look at each object."""
        listed = self._ask("for-each-ref", "--format=%(objectname) %(refname)", *_REFS)
        if listed:
            (self.folder / "packed-refs").write_bytes(os.fsencode(listed + "\n"))

    def _ask(self, *arguments: str, missing: str | None = None) -> str:
        """Run git on the source and return its output, or ``missing`` if git fails."""
        done = execute([*self._named, *arguments], self._source)
        if done.returncode != 0:
            if missing is not None:
                return missing
            raise GitError(f"git {arguments[0]} failed in {self._source}: {git_error_text(done)}")
        return done.stdout.decode(errors="surrogateescape").removesuffix("\n")


def _environment() -> dict[str, str]:
    """Return the environment for checkouts: filters run by git keep the user's locale."""
    own = git_environment()
    if "LC_ALL" in os.environ:
        own["LC_ALL"] = os.environ["LC_ALL"]
    else:
        del own["LC_ALL"]
    return {**own, "LANGUAGE": "C"}


def _quoted(path: Path) -> bytes:
    """Return a path as a line of ``objects/info/alternates``, C-quoted if it has to be."""
    raw = os.fsencode(path)
    if not raw.startswith((b'"', b"#")) and b"\n" not in raw:
        return raw
    escaped = raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + escaped + b'"'


def git_in(folder: Path, arguments: Sequence[str]) -> str | None:
    """Return git's output in ``folder`` without the final line break, None if it failed."""
    done = execute(arguments, folder)
    if done.returncode != 0:
        return None
    return done.stdout.decode(errors="surrogateescape").removesuffix("\n")
