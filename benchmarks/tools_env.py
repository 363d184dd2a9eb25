"""A separate environment with llama.cpp's programs and the library they were built with."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT, ROOT / "tools"):
    sys.path.insert(0, str(folder))

from engine_wheel import SetupError as SetupError  # noqa: E402
from engine_wheel import cache_root as cache_root  # noqa: E402
from engine_wheel import ensure_wheel, plan_build  # noqa: E402
from locks import FileLock  # noqa: E402
from setup import ensure_venv as ensure_venv  # noqa: E402
from setup import pinned_version, venv_python  # noqa: E402
from setup import run as run  # noqa: E402


@dataclass(frozen=True)
class ToolsEnvironment:
    """Paths in an installed tools build.

    Attributes:
        python: its interpreter, which imports ``llama_cpp``.
        site: its site-packages.
        wheel_sha256: of the wheel that both programs and library came from.
    """

    python: Path
    site: Path
    wheel_sha256: str

    @property
    def llama_bench(self) -> Path:
        """The program to compare with."""
        return self.site / "bin" / ("llama-bench.exe" if os.name == "nt" else "llama-bench")

    @property
    def library_path(self) -> str:
        """LD_LIBRARY_PATH for the programs: Python's own copy of the library first."""
        return os.pathsep.join((str(self.site / "llama_cpp" / "lib"), str(self.site / "lib")))


def ensure_tools() -> ToolsEnvironment:
    """Return the environment, building and installing what is missing.

    Raises:
        SetupError: the build or an installation failed.
    """
    environ = dict(os.environ)
    constraints = ROOT / "constraints.txt"
    cache = cache_root(environ)
    build = plan_build("tools", pinned_version(constraints), environ)
    python_tag = f"py{sys.version_info[0]}{sys.version_info[1]}"
    home = cache / "tools" / f"{build.key}-{python_tag}"
    note = home / "installed.json"
    with FileLock(home.with_suffix(".lock"), "another installation of the tools build"):
        python = ensure_venv(home / "venv", ROOT)
        _, digest = wheel = ensure_wheel(cache, build, python)
        if not _installed(note, digest):
            note.unlink(missing_ok=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--progress-bar", "off"]
            needs = ["numpy", "typing-extensions", "diskcache", "jinja2"]
            run(
                "tools: installing what llama_cpp imports",
                [*pip, "-c", str(constraints), *needs],
                ROOT,
            )
            run(
                "tools: installing the tools build",
                [*pip, "--no-index", "--no-deps", "--force-reinstall", str(wheel[0])],
                ROOT,
            )
            where = "import sysconfig; print(sysconfig.get_path('platlib'))"
            site = Path(
                run("tools: looking where it went", [str(python), "-c", where], ROOT).strip()
            )
            _make_executable(site / "bin")
            note.write_text(json.dumps({"wheel_sha256": digest, "site": str(site)}) + "\n")
    site = Path(json.loads(note.read_text())["site"])
    return ToolsEnvironment(venv_python(home / "venv"), site, digest)


def _installed(note: Path, digest: str) -> bool:
    try:
        record = json.loads(note.read_text())
        return bool(record["wheel_sha256"] == digest and Path(record["site"], "bin").is_dir())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make_executable(folder: Path) -> None:
    """Make programs executable: a wheel does not say which of its plain files are programs."""
    for program in folder.glob("*llama*") if folder.is_dir() else ():
        program.chmod(0o755)
    for program in folder.glob("ggml-*") if folder.is_dir() else ():
        program.chmod(0o755)
