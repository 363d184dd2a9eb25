"""Set-up of a checkout: .venv, the engine's wheel, pinned tools, the project, the embedded model.

Run as ``python tools/setup.py [ENGINE] [ENVIRONMENT]`` (the Makefile does). The
environment is a folder of the checkout: .venv, or .venv-gpu, which is for engines
with GPU code. Standard library only, so that any Python 3.10 or newer can run it.
A stamp in the environment records what was installed; if nothing has changed, a run
only checks and says so.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

from engine_wheel import ENGINE_PACKAGE, Build, SetupError, cache_root, ensure_wheel, plan_build
from locks import FileLock
from vulkan_build import vulkan_needs

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 10)
EMBEDDED_MODEL = "smollm2-135m"
#: Folder -> the engines that may be installed there; None is every engine.
ENVIRONMENTS: dict[str, tuple[str, ...] | None] = {
    ".venv": None,
    ".venv-gpu": ("vulkan", "cuda", "metal"),
}
#: Folder -> the extras that the project is installed with: docs (90 MB) are built in .venv only.
EXTRAS = {".venv": "dev,docs,hub", ".venv-gpu": "dev,hub"}
#: Installed first, because the project is installed without build isolation:
#: an isolated build would take whatever version is newest that day.
BUILD_REQUIREMENTS = ("hatchling", "editables")
_QUIET = ("--quiet", "--progress-bar", "off", "--disable-pip-version-check", "--no-input")


def venv_python(venv: Path) -> Path:
    """Return the interpreter inside a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def pinned_version(constraints: Path, package: str = ENGINE_PACKAGE) -> str:
    """Return the version that the constraints file pins for ``package``.

    Raises:
        SetupError: the file cannot be read or does not pin it.
    """
    try:
        text = constraints.read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{constraints}: cannot be read ({error.strerror})") from None
    match = re.search(rf"(?m)^{re.escape(package)}==([^\s;#]+)", text)
    if not match:
        raise SetupError(f"{constraints}: no line '{package}==<version>'; restore it")
    return match.group(1)


def inputs_hash(root: Path, build: Build, python_version: str) -> str:
    """Hash everything the environment is made from; a change means a new set-up."""
    digest = hashlib.sha256()
    files = [root / "pyproject.toml", root / "constraints.txt", *sorted(root.glob("tools/*.py"))]
    for file in files:
        digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    # The checkout's own path, because an editable install points into it.
    for part in (str(root), build.key, python_version, platform.machine()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def engine_identity(record: str) -> str:
    """Hash the entries of files in a wheel's RECORD; pip keeps them when it installs the wheel.

    pip's own note of a wheel's hash (direct_url.json) is missing in older versions.
    """
    rows = [row for row in csv.reader(record.splitlines()) if len(row) == 3]
    lines = sorted(f"{name} {hashed}" for name, hashed, _ in rows if hashed)
    files = [line for line in lines if ".dist-info/" not in line]
    return hashlib.sha256("\n".join(files).encode()).hexdigest()


def wheel_identity(wheel: Path) -> str:
    """Return the identity of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/RECORD"))
        return engine_identity(archive.read(name).decode())


def installed_identity(venv: Path) -> str | None:
    """Return the identity of the installed engine, or None without one."""
    name = f"{ENGINE_PACKAGE.replace('-', '_')}-*.dist-info/RECORD"
    places = ("Lib/site-packages",) if os.name == "nt" else ("lib/python3.*/site-packages",)
    records = [record for place in places for record in venv.glob(f"{place}/{name}")]
    return engine_identity(records[0].read_text(encoding="utf-8")) if len(records) == 1 else None


def environment_name(engine: str, named: list[str]) -> str:
    """Return the environment's folder (.venv where none is named) if it may hold this engine.

    Raises:
        SetupError: the folder is not for environments, or not for this engine.
    """
    name = named[0] if named else ".venv"
    if name not in ENVIRONMENTS:
        raise SetupError(f"{name}: no such environment; choose one of {', '.join(ENVIRONMENTS)}")
    engines = ENVIRONMENTS[name]
    if engines is not None and engine not in engines:
        raise SetupError(
            f"ENGINE={engine}: {name} is for engines with GPU code; "
            f"choose one of {', '.join(engines)}"
        )
    return name


def read_stamp(venv: Path) -> dict[str, Any]:
    """Return the record of the last finished set-up, or an empty dict."""
    try:
        stamp = json.loads((venv / "llmperf-setup.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_current(venv: Path, wanted: str) -> bool:
    """Whether the environment is what ``wanted`` (an inputs hash) asks for."""
    stamp = read_stamp(venv)
    return (
        stamp.get("inputs") == wanted
        and venv_python(venv).exists()
        and stamp.get("engine_identity") == installed_identity(venv)
        and Path(str(stamp.get("model"))).is_file()
    )


def run(step: str, command: list[str], cwd: Path) -> str:
    """Run one command; return its output.

    Raises:
        SetupError: it failed; the message holds the command and the end of its output.
    """
    print(f"{step} ...", flush=True)
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(f"  | {line}" for line in done.stdout.splitlines()[-30:])
        shown = " ".join(command)
        raise SetupError(f"{step}: failed with status {done.returncode}\n  {shown}\n{tail}")
    return done.stdout


def _python_with_pip(python: Path) -> str | None:
    """Return the version of an interpreter that has pip, or None."""
    check = "import platform, pip; print(platform.python_version())"
    try:
        probe = subprocess.run([str(python), "-c", check], capture_output=True, check=False)
    except OSError:
        return None
    return probe.stdout.decode().strip() if probe.returncode == 0 else None


def ensure_venv(venv: Path, root: Path) -> Path:
    """Return the environment's interpreter; create the environment if it is absent or unusable.

    Raises:
        SetupError: the folder is something else, or the venv module does not work here.
    """
    python = venv_python(venv)
    if venv.exists():
        if not (venv / "pyvenv.cfg").is_file():
            raise SetupError(f"{venv}: exists and is not a virtual environment; move it away")
        if _python_with_pip(python) == platform.python_version():
            return python
        print(f"{venv.name}: of another Python, or incomplete; making it again", flush=True)
        shutil.rmtree(venv)
    try:
        run(
            f"{venv.name}: creating it with Python {platform.python_version()}",
            [sys.executable, "-m", "venv", str(venv)],
            root,
        )
    except SetupError as error:
        shutil.rmtree(venv, ignore_errors=True)
        raise SetupError(f"{error}\nOn Debian: apt install python3-venv, or PYTHON=...") from None
    return python


def install(venv: Path, root: Path, build: Build, cache: Path) -> dict[str, str]:
    """Install engine, tools and project, fetch the model; return what the stamp notes of them.

    Raises:
        SetupError: a step failed.
    """
    python = ensure_venv(venv, root)
    pip = [str(python), "-m", "pip", "install", *_QUIET]
    constraints = ["-c", str(root / "constraints.txt")]
    needs = partial(vulkan_needs, cache, os.environ) if build.engine == "vulkan" else dict
    wheel, digest = ensure_wheel(cache, build, python, needs)
    identity = wheel_identity(wheel)
    if installed_identity(venv) != identity:
        # By its path, without an index and by force: no other wheel of the same
        # version, from pip's cache or already installed, can take its place.
        forced = ["--no-index", "--no-deps", "--force-reinstall", str(wheel)]
        step = f"engine: installing the {build.engine} build into {venv.name}"
        run(step, [*pip, *forced], root)
    run(
        "tools: installing what constraints.txt pins",
        [*pip, *constraints, *BUILD_REQUIREMENTS],
        root,
    )
    project = ["--no-build-isolation", "-e", f".[{EXTRAS[venv.name]}]"]
    run(
        "project: installing it editable, with its dependencies",
        [*pip, *constraints, *project],
        root,
    )
    if installed_identity(venv) != identity:
        raise SetupError(
            f"another {ENGINE_PACKAGE} replaced the {build.engine} build while the project was "
            f"installed: constraints.txt and pyproject.toml disagree about its version"
        )
    model = fetch_model(venv, root)
    return {"wheel_sha256": digest, "engine_identity": identity, "model": model}


def fetch_model(venv: Path, root: Path) -> str:
    """Bring the embedded model into the cache; return its path."""
    if (root / "pytest_llmperf/cli/__main__.py").is_file():
        command = [str(venv_python(venv)), "-m", "pytest_llmperf.cli"]
    else:
        command = [str(venv_python(venv).with_name("llmperf" + ".exe" * (os.name == "nt")))]
    step = f"model: bringing {EMBEDDED_MODEL} into the cache (98 MB, once)"
    lines = run(step, [*command, "model", EMBEDDED_MODEL], root).split("\n")
    path = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if not Path(path).is_file():
        raise SetupError(f"model: 'llmperf model {EMBEDDED_MODEL}' printed no file: {path!r}")
    return path


def main(arguments: list[str]) -> int:
    """Set the checkout up for the engine build and environment that ``arguments`` name.

    Raises:
        SetupError: an unknown engine or environment, or a step failed.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            f"Python 3.10 or newer is needed, this is {platform.python_version()}: "
            "name another with PYTHON=python3.11"
        )
    environ = dict(os.environ)
    engine = arguments[0] if arguments else "cpu"
    if engine == "tools":
        raise SetupError("ENGINE=tools: only benchmarks/fidelity.py uses that build")
    build = plan_build(engine, pinned_version(ROOT / "constraints.txt"), environ)
    cache, venv = cache_root(environ), ROOT / environment_name(engine, arguments[1:])
    wanted = inputs_hash(ROOT, build, platform.python_version())
    if is_current(venv, wanted):
        print(f"set-up: current ({ENGINE_PACKAGE} {build.version}, {build.engine} build)")
        return 0
    owner = hashlib.sha256(str(venv).encode()).hexdigest()[:12]
    with FileLock(cache / "locks" / f"setup-{owner}.lock", "another set-up of this checkout"):
        if is_current(venv, wanted):
            return 0
        stamp = venv / "llmperf-setup.json"
        # Removed while we work, so that an interrupted set-up is done again.
        stamp.unlink(missing_ok=True)
        installed = install(venv, ROOT, build, cache)
        record = {
            "inputs": wanted,
            "engine": build.engine,
            "version": build.version,
            "cmake_args": list(build.flags),
            **installed,
        }
        draft = stamp.with_suffix(".tmp")
        draft.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        draft.replace(stamp)
    print("set-up: done")
    return 0


def _stop(number: int, _frame: object) -> None:
    """Turn SIGTERM into an exception, so that a running build is ended too."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as problem:
        sys.exit(f"set-up: {problem}")
    except KeyboardInterrupt:
        sys.exit("\nset-up: stopped; the next run goes on from here")
