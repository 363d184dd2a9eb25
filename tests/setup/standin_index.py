"""A folder in place of the package index, with a tiny source release named like the engine.

Its build backend lies in the release itself, so pip needs nothing from outside.
The wheel it makes records the CMAKE_ARGS it was built with.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

VERSION = "0.0.1"

_PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

_BACKEND = """\
import os, pathlib, time, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    mark = os.environ.get("STANDIN_SLEEP_MARK")
    if mark:
        pathlib.Path(mark).write_text(str(os.getpid()))
        time.sleep(600)
    if os.environ.get("STANDIN_FAIL"):
        raise SystemExit("CMake Error: No space left on device")
    name = "llama_cpp_python-0.0.1-py3-none-any.whl"
    info = "llama_cpp_python-0.0.1.dist-info"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("llama_cpp/built_with.txt", os.environ.get("CMAKE_ARGS", ""))
        wheel.writestr(
            info + "/METADATA", "Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: 0.0.1\\n"
        )
        tag = "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(info + "/WHEEL", tag)
        wheel.writestr(info + "/RECORD", "")
    return name
"""

_METADATA = f"Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: {VERSION}\n"


def make_standin_index(folder: Path) -> None:
    """Write the source release into ``folder``."""
    top = f"llama_cpp_python-{VERSION}"
    files = {"pyproject.toml": _PYPROJECT, "backend.py": _BACKEND, "PKG-INFO": _METADATA}
    with tarfile.open(folder / f"{top}.tar.gz", "w:gz") as release:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(text.encode())
            release.addfile(member, io.BytesIO(text.encode()))
