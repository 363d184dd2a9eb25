"""The vendored chart library is identical to that in its npm package."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from pytest_llmperf.report.html.assets import VENDORED, script

RECORD = json.loads((VENDORED / "vendored.json").read_text())


def test_each_file_has_its_recorded_checksum() -> None:
    files = {path.name for path in VENDORED.iterdir()} - {"vendored.json"}
    assert files == RECORD["files"].keys()
    for name, about in RECORD["files"].items():
        content = (VENDORED / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == about["sha256"], name
        assert b"\r" not in content  # a browser drops it, and then the policy's hash is wrong
    assert RECORD["version"] in script()[:200]
    assert "MIT" in (VENDORED / "LICENSE").read_text()


def test_the_files_are_those_of_the_npm_package(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    package = f"{RECORD['package']}@{RECORD['version']}"
    command = [npm, "pack", package, "--silent", "--fetch-retries=1", "--fetch-timeout=20000"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False
    )
    if done.returncode and any(code in done.stderr for code in _OUT_OF_REACH):
        pytest.skip(f"the npm registry is out of reach: {done.stderr.strip().splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as packed:
        for name, about in RECORD["files"].items():
            member = packed.extractfile(f"package/{about['in_package']}")
            assert member is not None
            assert member.read() == (VENDORED / name).read_bytes(), name
        about_package = packed.extractfile("package/package.json")
        assert about_package is not None
        assert json.loads(about_package.read())["license"] == RECORD["license"]


_OUT_OF_REACH = (
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "ENETUNREACH",
    "EIDLETIMEOUT",
    "ERR_SOCKET_TIMEOUT",
)
