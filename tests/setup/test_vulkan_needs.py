"""Needs of a Vulkan build: packages to install, and headers that apt fetches without root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import vulkan_build
from engine_wheel import SetupError
from vulkan_build import ensure_headers, header_version, own_sources, vulkan_needs

needs_debian = pytest.mark.skipif(
    not all(map(shutil.which, ("apt-get", "apt-config", "dpkg-deb")))
    or vulkan_build.os_release().get("ID") != "debian",
    reason="Debian's own tools",
)
LOADER = Path("/lib/libvulkan.so.1")

DEB822 = """\
# A comment
Types: deb deb-src
URIs: mirror+file:/etc/mirrors/debian.list
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://mirror.example/off
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://mirror.example/source
Suites: bookworm
Components: main

Types: deb
URIs: http://mirror.example/inline
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
"""
ONE_LINE = """\
# deb http://mirror.example/commented bookworm main
deb [arch=amd64 signed-by=/etc/a.gpg,/etc/b.gpg trusted=yes] http://mirror.example/one bookworm main
deb http://mirror.example/two bookworm main non-free # why
deb http://mirror.example/three bookworm stable
deb-src http://mirror.example/four bookworm main
"""


def test_the_machines_own_sources_are_taken_with_another_suite():
    first, inline = own_sources({"debian.sources": DEB822}, "bookworm", "trixie").split("\n\n")[:2]

    assert first.splitlines() == [
        "Types: deb",
        "URIs: mirror+file:/etc/mirrors/debian.list",
        "Suites: trixie",
        "Components: main",
        "Signed-By: /usr/share/keyrings/debian.gpg",
    ]
    assert "example/inline" in inline
    assert inline.endswith(" -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF")


def test_what_is_off_of_source_or_of_another_suite_is_left_out():
    text = own_sources({"debian.sources": DEB822}, "bookworm", "trixie")

    assert text.count("Types: deb\n") == 2
    assert not any(word in text for word in ("security", "/off", "/source"))


def test_one_line_sources_keep_their_keys_and_no_other_option():
    text = own_sources({"sources.list": ONE_LINE}, "bookworm", "trixie")

    assert [line for line in text.splitlines() if line.startswith(("URIs", "Signed"))] == [
        "URIs: http://mirror.example/one",
        "Signed-By: /etc/a.gpg /etc/b.gpg",
        "URIs: http://mirror.example/two",
    ]
    assert "trusted" not in text


def test_a_source_that_two_files_name_is_asked_once():
    twice = {"a.sources": DEB822, "b.sources": DEB822}
    assert own_sources(twice, "bookworm", "x") == own_sources(
        {"a.sources": DEB822}, "bookworm", "x"
    )


def headers(prefix: Path, patch: int = 309, minor: int = 4) -> Path:
    """Write the parts of Vulkan and SPIR-V headers that the set-up reads."""
    core = prefix / "include/vulkan/vulkan_core.h"
    core.parent.mkdir(parents=True)
    core.write_text(
        f"#define VK_HEADER_VERSION {patch}\n"
        "#define VK_HEADER_VERSION_COMPLETE "
        f"VK_MAKE_API_VERSION(0, 1, {minor}, VK_HEADER_VERSION)\n"
    )
    spirv = prefix / "share/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake"
    spirv.parent.mkdir(parents=True)
    spirv.touch()
    return prefix


def test_the_version_of_headers_is_read_from_themselves(tmp_path):
    assert header_version(headers(tmp_path / "new")) == (1, 4, 309)
    assert header_version(tmp_path / "none") is None


@pytest.fixture
def equipped(tmp_path, monkeypatch):
    """Variables of a machine with glslc, a driver and a loader."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "glslc").touch(0o755)
    monkeypatch.setattr(vulkan_build, "_loader", lambda: LOADER)
    return {"PATH": str(programs), "VK_DRIVER_FILES": "/some/driver.json"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there packages are named")
def test_everything_that_is_missing_is_named_with_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(vulkan_build, "_loader", lambda: None)
    monkeypatch.setattr(vulkan_build, "_DRIVER_FOLDERS", ())
    with pytest.raises(SetupError) as caught:
        vulkan_needs(tmp_path, {"PATH": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)})
    for package in ("glslc", "mesa-vulkan-drivers", "libvulkan1"):
        assert f"(Debian: {package}" in str(caught.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there headers are brought")
@pytest.mark.parametrize("how", ["sdk", "flag"])
def test_headers_that_the_user_names_are_taken(tmp_path, equipped, how):
    own = headers(tmp_path / "sdk")
    given = {
        "sdk": {"VULKAN_SDK": str(own)},
        "flag": {"CMAKE_ARGS_EXTRA": f"-DVulkan_INCLUDE_DIR='{own}/include'"},
    }
    assert vulkan_needs(tmp_path / "cache", {**equipped, **given[how]}) == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there headers are brought")
def test_elsewhere_than_on_debian_the_headers_are_asked_for(tmp_path, equipped, monkeypatch):
    monkeypatch.setattr(vulkan_build, "os_release", lambda: {"ID": "fedora"})
    old = headers(tmp_path / "sdk", patch=239, minor=3)
    with pytest.raises(SetupError, match=r"Vulkan headers of 1\.3\.275 or newer, and the SPIR-V"):
        vulkan_needs(tmp_path / "cache", {**equipped, "VULKAN_SDK": str(old)})


@pytest.fixture
def packages(tmp_path):
    """The two header packages, as Debian builds them."""
    folder = tmp_path / "packages"
    folder.mkdir()
    tree = headers(tmp_path / "tree/usr").parent
    library = tree / "usr/lib/x86_64-linux-gnu/libvulkan.so"
    library.parent.mkdir(parents=True)
    library.symlink_to("libvulkan.so.1")
    control = tree / "DEBIAN/control"
    control.parent.mkdir()
    for name in ("libvulkan-dev", "spirv-headers"):
        control.write_text(
            f"Package: {name}\nVersion: 1.4\nArchitecture: all\n"
            "Maintainer: a <a@b>\nDescription: x\n"
        )
        command = ["dpkg-deb", "--build", str(tree), str(folder / f"{name}_1.4_all.deb")]
        subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def apt(tmp_path, monkeypatch, packages):
    """A stand-in for apt-get, which would need a mirror; it records how it was called."""
    programs = tmp_path / "programs"
    programs.mkdir()
    record = tmp_path / "told"
    script = programs / "apt-get"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$4" >> "{record}"\n'
        f'apt-config -c "$3" dump > "{record}.settings"\n'
        f'cat "$(dirname "$3")"/sources/* > "{record}.sources"\n'
        '[ -z "$APT_FAILS" ] || { echo "E: No space left on device"; exit 100; }\n'
        f'[ "$4" != download ] || cp "{packages}"/*.deb .\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(vulkan_build, "_sources", lambda: {"one.sources": DEB822})
    monkeypatch.setattr(
        vulkan_build, "os_release", lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"}
    )
    return record


@needs_debian
def test_headers_are_unpacked_once_and_link_to_the_systems_loader(cache, apt):
    folder = ensure_headers(cache, LOADER)

    assert folder.name == "libvulkan-dev_1.4_all_spirv-headers_1.4_all"
    assert header_version(folder / "usr") == (1, 4, 309)
    link = folder / "usr/lib/x86_64-linux-gnu/libvulkan.so"
    assert link.readlink() == LOADER
    assert ensure_headers(cache, LOADER) == folder
    assert apt.read_text().split() == ["update", "download"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@needs_debian
def test_the_build_is_told_by_variables_and_keeps_those_of_the_user(
    cache, apt, equipped, monkeypatch
):
    monkeypatch.setattr(vulkan_build, "_system_has_headers", lambda _: False)
    variables = vulkan_needs(cache, {**equipped, "CPATH": "/own/include"})

    (folder,) = (cache / "vulkan-headers").iterdir()
    assert variables == {
        "CMAKE_PREFIX_PATH": f"{folder}/usr",
        "CPATH": f"{folder}/usr/include{os.pathsep}/own/include",
    }


@needs_debian
def test_apt_is_kept_to_a_folder_of_its_own_with_its_checks_on(cache, apt):
    ensure_headers(cache, LOADER)

    lines = Path(f"{apt}.settings").read_text().splitlines()
    settings = dict(line.rstrip(";").split(" ", 1) for line in lines if " " in line)
    for name in ("Dir::State::lists", "Dir::State::status", "Dir::Cache", "Dir::Cache::archives"):
        assert settings[name].strip('"').startswith(str(cache / "vulkan-headers"))
    assert settings["Acquire::AllowInsecureRepositories"] == '"false"'
    assert settings["APT::Get::AllowUnauthenticated"] == '"false"'
    # Hooks of other packages after an update are for the system's own state.
    assert not [line for line in lines if line.startswith("APT::Update::") and ":: " in line]
    assert "Suites: trixie" in Path(f"{apt}.sources").read_text()
    assert "bookworm" not in Path(f"{apt}.sources").read_text()


@needs_debian
def test_a_failing_apt_is_shown_with_the_cause_and_leaves_nothing(cache, apt, monkeypatch):
    monkeypatch.setenv("APT_FAILS", "1")
    with pytest.raises(SetupError) as caught:
        ensure_headers(cache, LOADER)

    message = str(caught.value)
    assert "| E: No space left on device" in message
    assert "Likely cause: the disk is full" in message
    assert "install libvulkan-dev and spirv-headers of 1.3.275 or newer yourself" in message
    assert [*(cache / "vulkan-headers").iterdir()] == []
    monkeypatch.delenv("APT_FAILS")
    assert ensure_headers(cache, LOADER).is_dir()


@needs_debian
def test_what_an_interrupted_set_up_left_is_removed(cache, apt):
    leftover = cache / "vulkan-headers/.abc/lists"
    leftover.mkdir(parents=True)
    ensure_headers(cache, LOADER)
    assert not leftover.exists()


@needs_debian
def test_two_set_ups_at_once_bring_the_headers_once(cache, apt):
    threads = [threading.Thread(target=ensure_headers, args=(cache, LOADER)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert apt.read_text().split() == ["update", "download"]


@needs_debian
def test_packages_that_are_still_too_old_are_refused(cache, apt, packages, tmp_path, monkeypatch):
    monkeypatch.setattr(vulkan_build, "OLDEST_HEADERS", (1, 5, 0))
    with pytest.raises(SetupError, match="hold none that are new enough"):
        ensure_headers(cache, LOADER)


@needs_debian
def test_a_machine_without_a_source_is_told(cache, apt, monkeypatch):
    monkeypatch.setattr(vulkan_build, "_sources", dict)
    with pytest.raises(SetupError, match="apt has no source of bookworm main here"):
        ensure_headers(cache, LOADER)
