"""Tiny wheels, environments that hold them, and projects that declare them."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import venv
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

_ASK = """
import json, sys
from pathlib import Path
from pytest_llmperf.packages.environment import InstallError, environment_for
here, there, cache, install = sys.argv[1:]
said = []
def say(line):
    said.append(line)
    print("SAID", line, file=sys.stderr, flush=True)
try:
    found = environment_for(Path(here), Path(there), Path(cache), say, install or None)
    outcome = {"python": found.python, "shared": found.shared, "note": found.note}
except InstallError as error:
    outcome = {"error": str(error)}
print(json.dumps({**outcome, "said": said}))
"""


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    requires: Iterable[str] = (),
    files: Mapping[str, str] | None = None,
) -> Path:
    """Write a wheel with one package, whose ``VERSION`` is the version."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
    content = {
        f"{module}/__init__.py": f"VERSION = {version!r}\n",
        **(files or {}),
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = []
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in content.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            record.append(f"{path},sha256={digest.rstrip(b'=').decode()},{len(text)}")
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return wheel


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files below a folder, and return it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def pyproject(dependencies: Iterable[str] = (), name: str = "project", more: str = "") -> str:
    """Return a pyproject.toml that declares dependencies."""
    listed = json.dumps(list(dependencies))
    return f'[project]\nname = "{name}"\nversion = "1"\ndependencies = {listed}\n{more}'


_BACKEND = """\
import base64, hashlib, os, pathlib, time, zipfile

METADATA = "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n{requires}"

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    info = pathlib.Path(directory, "{module}-{version}.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    return info.name

def _wheel(directory, files):
    info = "{module}-{version}.dist-info"
    files = dict(files)
    files[info + "/METADATA"] = METADATA
    files[info + "/WHEEL"] = (
        "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    )
    name = "{module}-{version}-py3-none-any.whl"
    record = ""
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            digest = digest.rstrip(b"=").decode()
            record += path + ",sha256=" + digest + "," + str(len(text)) + "\\n"
        wheel.writestr(info + "/RECORD", record + info + "/RECORD,,\\n")
    return name

def build_wheel(directory, config_settings=None, metadata_directory=None):
    mark = os.environ.get("SLOW_BUILD")
    if mark:
        pathlib.Path(mark).write_text(str(os.getpid()))
        time.sleep(600)
    if os.environ.get("BROKEN_BUILD"):
        raise SystemExit("CMake Error: No space left on device")
    built = "BUILT_WITH = " + repr(os.environ.get("CMAKE_ARGS")) + "\\n"
    built += "VERSION = '{version}'\\n"
    return _wheel(directory, {{"{module}/__init__.py": built}})

def build_editable(directory, config_settings=None, metadata_directory=None):
    here = os.path.dirname(os.path.abspath(__file__))
    return _wheel(directory, {{"_{module}.pth": os.path.join(here, "{at}")}})
"""


class PackageEnvironment:
    """A test's environment, and the wheels that can be installed into it."""

    def __init__(self, folder: Path, wheels: Path, support: Path, installer: str = "uv") -> None:
        self.folder = folder
        self.wheels = wheels
        self.python = folder / "bin" / "python"
        self._support = support
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PIP_")},
            "PIP_NO_INDEX": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": str(wheels),
            "UV_NO_INDEX": "1",
            "UV_OFFLINE": "1",
            "UV_FIND_LINKS": str(wheels),
            "UV_CACHE_DIR": str(support / "uv cache"),
            "PIP_NO_COMPILE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(support)]),
            "PATH": os.defpath if installer == "pip" else uv_path(),
        }
        self.environ.pop("CMAKE_ARGS", None)

    def install(self, *words: str) -> None:
        """Install with this environment's pip."""
        environ = {k: v for k, v in self.environ.items() if k != "PYTHONPATH"}
        command = [str(self.python), "-m", "pip", "install", "--no-build-isolation", "-q", *words]
        subprocess.run(command, env=environ, check=True, capture_output=True)

    def link(self, project: Path, name: str, version: str = "1", at: str = "") -> None:
        """Write the files of an editable installation, which is quicker than running it."""
        info = f"{name}-{version}.dist-info"
        url = {"url": project.as_uri(), "dir_info": {"editable": True}}
        files = {
            f"_{name}.pth": str(project / at),
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/direct_url.json": json.dumps(url),
        }
        record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
        write(self.site, {**files, f"{info}/RECORD": record})

    def unpack(self, *names: str) -> None:
        """Install wheels by unpacking them, which is quicker than pip."""
        for name in names:
            with zipfile.ZipFile(next(self.wheels.glob(f"{name}-*.whl"))) as archive:
                archive.extractall(self.site)

    @property
    def site(self) -> Path:
        return next(self.folder.glob("lib/python*/site-packages"))

    def start(
        self, here: Path, there: Path, cache: Path, install: str = "", **environ: str
    ) -> subprocess.Popen[str]:
        """Start a process in this environment that asks for the environment of ``there``."""
        return subprocess.Popen(
            [str(self.python), "-c", _ASK, str(here), str(there), str(cache), install],
            env=self.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(
        self, here: Path, there: Path, cache: Path, install: str = "", **environ: str
    ) -> dict[str, Any]:
        """Run ``start`` to its end and return the outcome."""
        process = self.start(here, there, cache, install, **environ)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        outcome: dict[str, Any] = json.loads(out)
        return outcome

    def run(self, code: str, **environ: str) -> str:
        """Run Python code in this environment, with the plugin and its dependencies importable."""
        return run_python(self.python, code, self.environ | environ)


def make_wheels(folder: Path) -> Path:
    """Write wheels that installers find: toy 1.0 and 2.0 need dep, toy 2.0 also helper."""
    make_wheel(folder, "toy", "1.0", ["dep"])
    make_wheel(folder, "toy", "2.0", ["dep", "helper"])
    make_wheel(folder, "dep", "1.0")
    make_wheel(folder, "dep", "1.5")
    make_wheel(folder, "helper", "1.0")
    make_wheel(folder, "free", "1.0")
    return folder


def make_package_environment(
    folder: Path, support: Path, installer: str = "uv"
) -> PackageEnvironment:
    """Create an environment with toy 2.0, dep 1.0, helper, and free, which no package requires."""
    wheels = make_wheels(folder / "wheels")
    made = PackageEnvironment(
        make_environment(folder / "environment with space"), wheels, support, installer
    )
    made.unpack("toy-2.0", "dep-1.0", "helper-1.0", "free-1.0")
    return made


def uv_path() -> str:
    """Return a PATH on which uv is found; it comes with this repository's dev extra."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("uv", path=path)
    if program is None:
        pytest.skip("uv is not installed")
    return os.pathsep.join([str(Path(program).parent), os.defpath])


def run_python(python: str | Path, code: str, environ: Mapping[str, str] | None = None) -> str:
    """Run Python code and return its output."""
    clean = {k: v for k, v in (environ or os.environ).items() if environ or k != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), "-c", textwrap.dedent(code)],
        cwd=Path(python).parent,  # a folder without modules of this repository
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def versions(python: str | Path) -> dict[str, str]:
    """Return the versions of an environment's packages, by name."""
    code = """
        import json, importlib.metadata as m
        print(json.dumps({d.metadata["Name"]: d.version for d in m.distributions()}))
    """
    installed: dict[str, str] = json.loads(run_python(python, code))
    return installed


def make_environment(folder: Path, *, pip: bool = True) -> Path:
    """Create a venv that borrows this Python's pip, which is quicker than installing pip."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    found = importlib.metadata.distribution("pip") if pip else None
    for name in {file.parts[0] for file in (found and found.files) or () if ".." not in file.parts}:
        (site / name).symlink_to(str(found and found.locate_file(name)))
    return folder


def make_source(
    folder: Path,
    name: str,
    version: str,
    *,
    editable: str = "",
    requires: Iterable[str] | None = None,
) -> Path:
    """Write a project with its own build backend, so that installers need nothing else.

    The wheel notes the CMAKE_ARGS that it was built with. If SLOW_BUILD names a
    file, the build writes its process id into it and sleeps.

    Args:
        folder: the project's folder.
        name: the name of the project and of its package.
        version: the project's version.
        editable: the folder that an editable installation puts on the path, below ``folder``.
        requires: dependencies that only the backend knows; None if there are none.
    """
    listed = "".join(f"Requires-Dist: {line}\\n" for line in requires or ())
    module = name.replace("-", "_")
    text = _BACKEND.format(name=name, module=module, version=version, at=editable, requires=listed)
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    declared = "" if requires is not None else pyproject(name=name)
    return write(folder, {"backend.py": text, "pyproject.toml": build + declared})


def make_release(folder: Path, name: str, version: str) -> Path:
    """Write a source archive of the project that ``make_source`` writes."""
    top = f"{name.replace('-', '_')}-{version}"
    with tempfile.TemporaryDirectory() as scratch:
        source = make_source(Path(scratch) / top, name, version)
        (source / "PKG-INFO").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / f"{top}.tar.gz", "w:gz") as release:
            release.add(source, top)
    return folder / f"{top}.tar.gz"
