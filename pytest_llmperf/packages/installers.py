"""Finds uv or pip, and runs installers in a clean environment, with a log."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.packages.installed import Installed, holds
from pytest_llmperf.process_groups import end_group, wait_until_ended
from pytest_llmperf.units import format_duration

#: How a user can install the packages themselves.
INSTALL_ADVICE = (
    "set the install command yourself in config.yaml: "
    'perf: {base_install: "{python} -m pip install -r requirements.txt"}'
)


class InstallError(Exception):
    """The environment of a tree cannot be provided; str() is the complete message."""


#: The first pip that can work on another environment (``--python``).
_OLDEST_PIP = "22.3"


@dataclass(frozen=True)
class Installer:
    """``uv`` or ``pip``, and the words that start it."""

    name: str
    program: tuple[str, ...]

    def install(self, python: Path, words: Sequence[str], *, from_source: str = "") -> list[str]:
        """Return the command that installs packages in an interpreter's environment.

        The package ``from_source`` is built from source, whatever wheel a cache holds.
        """
        if self.name == "uv":
            plain = ["--no-progress", "--color", "never", *(["--no-cache"] if from_source else [])]
            start = [*self.program, "pip", "install", *plain, "--python", str(python)]
        else:
            plain = ["--progress-bar", "off", *(["--no-cache-dir"] if from_source else [])]
            start = [*self.program, "--python", str(python), "install", *plain]
        return [*start, *(["--no-binary", from_source] if from_source else []), *words]


def find_installer(
    installed: Installed, environ: Mapping[str, str], *, sees_base: bool
) -> Installer:
    """Return the installer to use.

    If both are available: uv, unless pip installed most of this environment (the package sources
    are then configured for pip, and uv does not read that), or the new environment sees the
    packages of its base Python (uv does not).

    Raises:
        InstallError: there is none.
    """
    uv, pip = _uv(environ), _pip(installed)
    if uv and pip:
        # A venv comes with these, whatever installs the rest.
        others = [other for name, other in installed.items() if name not in ("pip", "setuptools")]
        counts = Counter((other.raw.read_text("INSTALLER") or "").strip() for other in others)
        return pip if sees_base or counts["pip"] > counts["uv"] else uv
    if found := uv or pip:
        return found
    raise InstallError(
        "the other commit needs different packages, but neither uv (on PATH) nor pip "
        f"{_OLDEST_PIP} or newer (in this environment) is available to install them: "
        f"{sys.executable} -m ensurepip --upgrade, or install uv; or {INSTALL_ADVICE}"
    )


def read_lock(tree: Path, words: Sequence[str]) -> list[str]:
    """Return a tree's uv.lock as lines of a requirements file.

    ``words`` select the extras and groups that count, as options of uv: ``--extra``, ``dev``.

    Raises:
        InstallError: it cannot be read.
    """
    uv = _uv(os.environ)
    if uv is None:
        raise InstallError(
            "uv.lock differs between the two commits, and uv is not on PATH to read it: "
            f"install uv; or {INSTALL_ADVICE}"
        )
    plain = ("--quiet", "--frozen", "--no-hashes", "--no-emit-workspace", "--no-header")
    done = subprocess.run(
        [
            *(*uv.program, "export", *plain, "--no-annotate", "--no-default-groups"),
            *("--color", "never", "--python", sys.executable, *words),
        ],
        cwd=tree,
        env=clean_environment(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        error = done.stderr.strip()
        raise InstallError(f"{tree / 'uv.lock'}: uv cannot read it: {error}; {INSTALL_ADVICE}")
    return [line for line in done.stdout.splitlines() if not line.startswith("#")]


def _uv(environ: Mapping[str, str]) -> Installer | None:
    beside = str(Path(sys.executable).parent)
    program = shutil.which("uv", path=os.pathsep.join([environ.get("PATH", ""), beside]))
    module = importlib.util.find_spec("uv")
    words = (program,) if program else (sys.executable, "-m", "uv") if module else ()
    return Installer("uv", words) if words else None


def _pip(installed: Installed) -> Installer | None:
    spec = importlib.util.find_spec("pip")
    if spec is None or spec.origin is None:
        return None
    if "pip" in installed and not holds(installed["pip"].version, f">={_OLDEST_PIP}"):
        return None
    # By its path, so that no module of the working folder shadows one of Python's.
    return Installer("pip", (sys.executable, "-I", str(Path(spec.origin).parent)))


_SUPERVISOR = Path(__file__).with_name("supervisor.py")
#: Lines of the log that a failure shows.
_SHOWN = 15
#: Seconds between progress lines.
_ALIVE_S = 60.0
#: Variables that redirect installations or make other environments' packages look installed.
_DROPPED = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV"),
    *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_REQUIREMENT"),
    *("PIP_UPGRADE", "PIP_FORCE_REINSTALL", "PIP_IGNORE_INSTALLED", "PIP_DRY_RUN", "PIP_EDITABLE"),
    *("UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX", "UV_PYTHON", "CONDA_PREFIX"),
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"),
)
_HINTS = (
    ("No space left on device", "the disk is full: make room, or set LLMPERF_CACHE_DIR"),
    ("CMAKE_CXX_COMPILER", "no C++ compiler is found: install gcc and g++"),
    ("CMAKE_C_COMPILER", "no C compiler is found: install gcc and g++"),
    ("CUDA Toolkit not found", "no CUDA toolkit is found: install it and put nvcc on PATH"),
    ("Failed to find nvcc", "no CUDA toolkit is found: install it and put nvcc on PATH"),
    ("Could NOT find Vulkan", "Vulkan's headers or glslc are missing"),
    ("conflicting dependencies", "the requested packages conflict"),
    ("ResolutionImpossible", "the requested packages conflict"),
    (
        "No matching distribution found",
        "the package index cannot be reached, or does not have the package",
    ),
    (
        "No solution found",
        "the package index cannot be reached, does not have the package, or packages conflict",
    ),
    ("name resolution", "the package index cannot be reached"),
    ("Max retries exceeded", "the package index cannot be reached"),
    ("error sending request", "the package index cannot be reached"),
    ("No module named pip", "the environment has no pip: use {python} with another installer (uv)"),
)


def clean_environment(environ: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return the variables for an installer that runs outside of its target environment."""
    kept = {name: value for name, value in environ.items() if name not in _DROPPED}
    # A pip configured for user installations would refuse an environment.
    quiet = {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return kept | quiet | {"PYTHONNOUSERSITE": "1"} | more


def run_logged(
    command: Sequence[str],
    log: Path,
    what: str,
    *,
    cwd: Path,
    environ: Mapping[str, str],
    say: Callable[[str], None] = lambda _: None,
    advice: str = "",
) -> None:
    """Run a command to its end, its output appended to ``log``.

    It ends, with all that it started, when this process is interrupted or killed.

    Args:
        command: its words.
        log: a file; it is created if necessary.
        what: the activity, for messages: ``installing toy==1``.
        cwd: the folder to run in.
        environ: the variables to run with.
        say: called with a line a minute while it runs.
        advice: further advice if it fails.

    Raises:
        InstallError: it failed; the message holds the end of the log.
        OSError: the log cannot be written.
    """
    with log.open("ab") as output:
        output.write(f"$ cd {shlex.quote(str(cwd))}\n$ {shlex.join(command)}\n".encode())
        output.flush()
        began = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-I", str(_SUPERVISOR), *command],
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Its own process group: Ctrl-C is handled here, and ends the whole group.
            start_new_session=True,
        )
        try:
            status = _wait(process, what, say)
        except BaseException:
            end_group(process)
            raise
        finally:
            if process.stdin:
                process.stdin.close()
    if status != 0:
        text = log.read_bytes()[began:].decode(errors="replace")
        raise InstallError(_failure(what, status, log, text, advice))


def _wait(process: subprocess.Popen[bytes], what: str, say: Callable[[str], None]) -> int:
    started = time.monotonic()
    while not wait_until_ended(process, _ALIVE_S):
        say(f"{what}: {format_duration(round(time.monotonic() - started))} so far")
    return process.wait()


def _failure(what: str, status: int, log: Path, text: str, advice: str) -> str:
    lines = [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    shown = "\n".join(f"  | {line[:200]}" for line in lines[-_SHOWN:])
    hint = next((cause for sign, cause in _HINTS if sign in text), "")
    parts = [f"{what} failed (exit status {status}); the end of {log}:\n{shown}"]
    parts += [f"likely cause: {hint}"] if hint else []
    parts += [advice] if advice else []
    return "\n".join(parts)
