"""Requirements of a Vulkan build besides a compiler: glslc, the loader, headers and a driver.

Debian 12's Vulkan headers are too old for llama.cpp. There, apt itself downloads
Debian 13's header packages into the cache folder, and checks their signatures. It
uses the machine's own sources with only the suite replaced, and keeps its
configuration and state in a folder of this set-up. The system's apt is not
touched, nothing is installed, and no root is needed. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine_wheel import SetupError
from locks import FileLock

#: The oldest headers that are known to work; 1.3.239 (Debian 12) are known not to.
OLDEST_HEADERS = (1, 3, 275)
_PACKAGES = ("libvulkan-dev", "spirv-headers")
_NEWER_SUITE = {"bookworm": "trixie"}
_DRIVER_FOLDERS = ("/usr/share/vulkan", "/usr/local/share/vulkan", "/etc/vulkan")
_DRIVER_VARIABLES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES")
_HINTS = (
    ("No space left on device", "the disk is full: free about 200 MB"),
    ("NO_PUBKEY", "this system lacks the key of the newer release: upgrade debian-archive-keyring"),
    ("Temporary failure resolving", "the package source could not be reached"),
    ("Could not connect", "the package source could not be reached"),
    ("Unable to locate package", "the package source could not be reached, or lacks it"),
)


def vulkan_needs(cache: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables a Vulkan build needs; fetch headers if the system's are too old.

    Headers are named in variables and not in CMake's flags, so that the same
    build has the same name in the wheel cache wherever the headers lie.

    Raises:
        SetupError: naming every package that is missing.
    """
    if not sys.platform.startswith("linux"):
        return {}
    missing = []
    if shutil.which("glslc", path=environ.get("PATH")) is None:
        missing.append("glslc, the shader compiler (Debian: glslc)")
    if not _driver_known(environ):
        missing.append("a Vulkan driver (Debian: mesa-vulkan-drivers, which has a software device)")
    loader = _loader()
    if loader is None:
        missing.append("the Vulkan loader, libvulkan.so.1 (Debian: libvulkan1)")
    if missing or loader is None:
        raise SetupError("ENGINE=vulkan needs " + "\n  and ".join(missing))
    given = shlex.split(environ.get("CMAKE_ARGS_EXTRA", ""))
    if any("Vulkan_INCLUDE_DIR" in word for word in given) or _system_has_headers(environ):
        return {}
    headers = ensure_headers(cache, loader)
    return {
        "CMAKE_PREFIX_PATH": _in_front(str(headers / "usr"), environ.get("CMAKE_PREFIX_PATH")),
        "CPATH": _in_front(str(headers / "usr/include"), environ.get("CPATH")),
    }


def header_version(prefix: Path) -> tuple[int, int, int] | None:
    """Return the version of the Vulkan headers below ``prefix``/include, or None without any."""
    try:
        text = (prefix / "include/vulkan/vulkan_core.h").read_text(encoding="utf-8")
    except OSError:
        return None
    whole = re.search(r"VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION\(0, (\d+), (\d+),", text)
    patch = re.search(r"#define VK_HEADER_VERSION (\d+)", text)
    return (int(whole[1]), int(whole[2]), int(patch[1])) if whole and patch else None


def ensure_headers(cache: Path, loader: Path) -> Path:
    """Return a folder of the cache with Debian's Vulkan and SPIR-V headers, fetched once.

    Args:
        cache: the cache folder.
        loader: the system's libvulkan.so.1, which the build is to link with.

    Raises:
        SetupError: the headers can't be fetched here.
    """
    home = cache / "vulkan-headers"
    with FileLock(cache / "locks/vulkan-headers.lock", "another set-up that brings the headers"):
        for leftover in home.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)
        have = [folder for folder in sorted(home.glob("*")) if _new_enough(folder / "usr")]
        if have:
            return have[-1]
        home.mkdir(parents=True, exist_ok=True)
        print("engine: bringing Vulkan headers: the system's are too old, or absent", flush=True)
        with _scratch(home) as scratch:
            packages = _download(scratch)
            tree = scratch / "tree"
            for package in packages:
                _run(["dpkg", "-x", str(package), str(tree)], scratch)
            # The package's own link points to a library that the package lacks.
            for folder in tree.glob("usr/lib/*-linux-*"):
                link = folder / "libvulkan.so"
                link.unlink(missing_ok=True)
                link.symlink_to(loader)
            if not _new_enough(tree / "usr"):
                names = ", ".join(package.name for package in packages)
                raise SetupError(f"Vulkan headers: {names} hold none that are new enough")
            folder = home / "_".join(sorted(package.stem for package in packages))
            shutil.rmtree(folder, ignore_errors=True)
            tree.rename(folder)
        return folder


def _download(scratch: Path) -> list[Path]:
    """Let apt download the header packages, checked, into ``scratch``."""
    release = os_release()
    if release.get("ID") != "debian" or shutil.which("apt-get") is None:
        raise SetupError(
            "ENGINE=vulkan needs Vulkan headers of "
            f"{'.'.join(map(str, OLDEST_HEADERS))} or newer, and the SPIR-V headers: install them "
            "(the Vulkan SDK has both; VULKAN_SDK names its folder)"
        )
    codename = release.get("VERSION_CODENAME", "")
    text = own_sources(_sources(), codename, _NEWER_SUITE.get(codename, codename))
    if not text:
        raise SetupError(
            f"Vulkan headers: apt has no source of {codename} main here to take them from; "
            "add one, or unpack them yourself (docs/engine-builds.md)"
        )
    for folder in ("sources", "lists/partial", "archives/partial", "debs"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "sources/own.sources").write_text(text, encoding="utf-8")
    (scratch / "status").touch()
    settings = scratch / "apt.conf"
    settings.write_text(_apt_settings(scratch), encoding="utf-8")
    apt = ["apt-get", "-q", "-c", str(settings)]
    try:
        _run([*apt, "update"], scratch)
        _run([*apt, "download", *_PACKAGES], scratch / "debs")
    except SetupError as error:
        raise SetupError(
            f"Vulkan headers: {error}\nEither fix that, or install {' and '.join(_PACKAGES)} "
            f"of {'.'.join(map(str, OLDEST_HEADERS))} or newer yourself (docs/engine-builds.md)"
        ) from None
    return sorted((scratch / "debs").glob("*.deb"))


def own_sources(files: Mapping[str, str], codename: str, suite: str) -> str:
    """Return apt's sources of ``codename`` main, as deb822 text that says ``suite`` instead.

    Args:
        files: the texts of apt's source files, by name; those named ``*.sources`` are deb822.
        codename: of the running release.
        suite: that replaces the codename.
    """
    rewritten = []
    for name, text in files.items():
        stanzas = _deb822(text) if name.endswith(".sources") else _one_line(text)
        for stanza in stanzas:
            if (
                "deb" in stanza.get("types", "").split()
                and codename in stanza.get("suites", "").split()
                and "main" in stanza.get("components", "").split()
                and stanza.get("enabled", "yes").lower() not in ("no", "false", "0")
            ):
                own = {
                    "Types": "deb",
                    "URIs": stanza.get("uris", ""),
                    "Suites": suite,
                    "Components": "main",
                }
                if "signed-by" in stanza:
                    own["Signed-By"] = stanza["signed-by"]
                rewritten.append("\n".join(f"{key}: {value}" for key, value in own.items()))
    return "".join(f"{stanza}\n\n" for stanza in dict.fromkeys(rewritten))


def _deb822(text: str) -> Iterator[dict[str, str]]:
    """Yield the stanzas of a deb822 file, field names in lower case."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        stanza: dict[str, str] = {}
        field = ""
        for line in block.splitlines():
            if line[:1].isspace() and field:
                # A signing key may lie in the file itself, over many lines.
                stanza[field] += f"\n{line}"
            elif ":" in line:
                field, _, value = line.partition(":")
                field = field.strip().lower()
                stanza[field] = value.strip()
        if stanza:
            yield stanza


def _one_line(text: str) -> Iterator[dict[str, str]]:
    """Yield the entries of a one-line-style file as deb822 stanzas."""
    entry = re.compile(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)")
    for line in text.splitlines():
        match = entry.match(line.strip())
        if match:
            stanza = {
                "types": "deb",
                "uris": match[2],
                "suites": match[3],
                "components": match[4].strip(),
            }
            options = dict(word.partition("=")[::2] for word in (match[1] or "").split())
            if "signed-by" in options:
                stanza["signed-by"] = options["signed-by"].replace(",", " ")
            yield stanza


def _sources() -> dict[str, str]:
    """Return the texts of the machine's apt source files, by name."""
    command = ["apt-config", "shell", "ONE", "Dir::Etc::sourcelist/f"]
    command += ["MANY", "Dir::Etc::sourceparts/d"]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    places = dict(word.partition("=")[::2] for word in shlex.split(output))
    many = Path(places.get("MANY", "/etc/apt/sources.list.d"))
    files = [Path(places.get("ONE", "/etc/apt/sources.list"))]
    files += sorted([*many.glob("*.list"), *many.glob("*.sources")])
    texts = {}
    for file in files:
        with contextlib.suppress(OSError):
            texts[str(file)] = file.read_text(encoding="utf-8", errors="replace")
    return texts


def _apt_settings(scratch: Path) -> str:
    """Return apt settings that keep all of its state below ``scratch``, and its checks on."""
    return f"""\
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{scratch}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "{scratch}/lists";
Dir::State::status "{scratch}/status";
Dir::Cache "{scratch}";
Dir::Cache::archives "{scratch}/archives";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


@contextlib.contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".", dir=home))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str], cwd: Path) -> None:
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
        tail = "\n".join(f"  | {line}" for line in done.stdout.splitlines()[-15:])
        hint = next((hint for sign, hint in _HINTS if sign in done.stdout), None)
        advice = f"\nLikely cause: {hint}." if hint else ""
        raise SetupError(f"'{shlex.join(command)}' failed:\n{tail}{advice}")


def os_release() -> dict[str, str]:
    """Return the system's description of itself (os-release); empty if it has none."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _driver_known(environ: Mapping[str, str]) -> bool:
    """Whether any driver is registered with the Vulkan loader."""
    if any(environ.get(name) for name in _DRIVER_VARIABLES):
        return True
    home = environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    folders = [*map(Path, _DRIVER_FOLDERS), Path(home) / "vulkan"]
    return any(any((folder / "icd.d").glob("*.json")) for folder in folders)


def _loader() -> Path | None:
    """Return the system's Vulkan loader, by the path a program would load it from."""
    machine = platform.machine()
    patterns = (
        f"lib/{machine}-linux-*/libvulkan.so.1",
        "lib64/libvulkan.so.1",
        "lib/libvulkan.so.1",
    )
    for prefix in (Path("/usr/local"), Path("/usr")):
        for pattern in patterns:
            for library in prefix.glob(pattern):
                return library
    return None


def _system_has_headers(environ: Mapping[str, str]) -> bool:
    """Whether CMake will find new enough Vulkan headers, and the SPIR-V headers."""
    named = [environ.get("VULKAN_SDK", "")]
    named += environ.get("CMAKE_PREFIX_PATH", "").replace(";", os.pathsep).split(os.pathsep)
    prefixes = [Path(prefix) for prefix in (*named, "/usr/local", "/usr") if prefix]
    version = next((found for prefix in prefixes if (found := header_version(prefix))), None)
    return (version or (0,)) >= OLDEST_HEADERS and any(map(_has_spirv, prefixes))


def _new_enough(prefix: Path) -> bool:
    return (header_version(prefix) or (0,)) >= OLDEST_HEADERS and _has_spirv(prefix)


def _has_spirv(prefix: Path) -> bool:
    pattern = "cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake"
    return any((prefix / place / pattern).is_file() for place in ("share", "lib", "lib64"))


def _in_front(path: str, others: str | None) -> str:
    return os.pathsep.join((path, others)) if others else path
