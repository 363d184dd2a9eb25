"""Makes one environment: a venv with copied packages, and what the installer adds."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.packages import specs
from pytest_llmperf.packages.commands import clean_environment, run_logged
from pytest_llmperf.packages.copying import Place, copy, copy_paths, describe, remove
from pytest_llmperf.packages.errors import BY_HAND, InstallError
from pytest_llmperf.packages.installed import Installed, site_folders
from pytest_llmperf.packages.installers import find_installer
from pytest_llmperf.packages.plan import ENGINE, Plan
from pytest_llmperf.packages.requirement_file import repository_around

Say = Callable[[str], None]

#: How long an engine takes to be built from source, on two to a dozen cores.
BUILD_TIME, LONGEST_BUILD_S = "3 to 6 minutes", 360.0

_PATHS = (
    "import json, sysconfig; p = sysconfig.get_paths(); "
    "print(json.dumps([p['purelib'], p['platlib'], p['scripts']]))"
)
_NO_VENV = (
    "a Python without the venv module cannot make environments: install it (Debian, Ubuntu: "
    "python3-venv), or run the session with another Python"
)


@dataclass(frozen=True)
class Site:
    """Where to build, and how to tell of it.

    Attributes:
        folder: of the environment.
        log: the file for the installers' output.
        here: the project folder of this environment.
        tree: the project folder that it is for.
        say: gets a line before and while something takes long.
    """

    folder: Path
    log: Path
    here: Path
    tree: Path
    say: Say

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return interpreter(self.folder)


def interpreter(folder: Path) -> Path:
    """Return the path of a venv's interpreter."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def place_here() -> Place:
    """Return this environment's folders."""
    paths = sysconfig.get_paths()
    return Place(*map(Path, (sys.prefix, paths["purelib"], paths["platlib"], paths["scripts"])))


def build(site: Site, plan: Plan, installed: Installed, flags: str, donors: list[Place]) -> Place:
    """Make the environment that ``plan`` describes.

    Args:
        site: where.
        plan: what goes in.
        installed: this environment's distributions.
        flags: CMAKE_ARGS for an engine that has to be built.
        donors: other such environments, whose engine was built with the same flags.

    Raises:
        InstallError: an installer failed.
        OSError: the disk is full, or the like.
    """
    base = seen_base()
    place = make_venv(site, sees_base=bool(base))
    here = place_here()
    left: list[str] = []
    for each in plan.copied:
        if each.folder in base or copy(each, here, place):
            continue
        if each.name in installed.closure(plan.asked):
            left.append(f"{each.name}=={each.version}")
    own = [folder for folder in site_folders() if folder not in base]
    copy_paths(own, installed.values(), repository_around(site.here), place)
    _install(site, plan, installed, place, flags, donors, left)
    there = place.installed()
    for name in there.keys() & plan.surplus(there):
        remove(there[name])
    for each in plan.described:
        describe(each, place)
    return place


def build_by_hand(site: Site, plan: Plan, installed: Installed, flags: str, install: str) -> Place:
    """Make an environment with the user's own command; the project itself is taken out again.

    Args:
        site: where.
        plan: of which only the project's own distributions are used.
        installed: this environment's distributions.
        flags: CMAKE_ARGS, for an engine that the command builds.
        install: the command line; ``{python}`` stands for the environment's interpreter.

    Raises:
        InstallError: it cannot be split into words, or failed.
        OSError: the disk is full, or the like.
    """
    try:
        words = [word.replace("{python}", str(site.python)) for word in shlex.split(install)]
    except ValueError as error:
        raise InstallError(f"perf.base_install: {error} in {install!r}; check its quotes") from None
    if not words:
        raise InstallError("perf.base_install is empty; leave it out, or name a command")
    place = make_venv(site, sees_base=False)
    _add_pip(site, installed, place)
    environ = clean_environment(
        os.environ,
        VIRTUAL_ENV=str(site.folder),
        UV_PROJECT_ENVIRONMENT=str(site.folder),
        PATH=os.pathsep.join([str(place.scripts), os.environ.get("PATH", os.defpath)]),
        **_engine_variables(flags),
    )
    advice = "this is the command of perf.base_install; correct it there"
    site.say(f"runs {shlex.join(words)}; log: {site.log}")
    run_logged(
        words,
        site.log,
        "perf.base_install",
        cwd=site.tree,
        environ=environ,
        say=site.say,
        advice=advice,
    )
    # The environment outlives this tree, so that its modules must not be in there, nor
    # a pointer to them; they come from the tree itself.
    there, area = place.installed(), repository_around(site.tree)
    own = {each.name for each in plan.described}
    for name, each in there.items():
        source = each.source()
        if name in own or (source and source.resolve().is_relative_to(area)):
            remove(each, keep_description=True)
    for each in plan.described:
        if each.name not in there:
            describe(each, place)
    return place


def make_venv(site: Site, *, sees_base: bool) -> Place:
    """Make a venv of this Python without pip, which works on it from outside.

    Raises:
        InstallError: this Python cannot.
    """
    options = ["--system-site-packages"] if sees_base else []
    run_logged(
        [sys.executable, "-I", "-m", "venv", "--without-pip", *options, str(site.folder)],
        site.log,
        f"making an environment in {site.folder}",
        cwd=site.log.parent,
        environ=clean_environment(os.environ),
        say=site.say,
        advice=_NO_VENV,
    )
    return _place_of(site)


def _add_pip(site: Site, installed: Installed, place: Place) -> None:
    """Put a pip into a new environment: this one's, or Python's own copy if it has one."""
    if "pip" in installed and copy(installed["pip"], place_here(), place):
        return
    try:
        run_logged(
            [str(site.python), "-I", "-m", "ensurepip"],
            site.log,
            "adding pip",
            cwd=site.log.parent,
            environ=clean_environment(os.environ),
            say=site.say,
        )
    except InstallError:  # the command may do without, and says so if not
        return


def _place_of(site: Site) -> Place:
    """Ask a new environment where its folders are."""
    done = subprocess.run(
        [str(site.python), "-I", "-c", _PATHS],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise InstallError(f"{site.python} does not run: {done.stderr.strip()}; {_NO_VENV}")
    return Place(site.folder, *map(Path, json.loads(done.stdout)))


def seen_base() -> list[Path]:
    """Return the folders of packages that an environment sees rather than copies.

    A venv that sees the packages of the Python it is made of begets one that does,
    too. Conda's packages find their libraries from where they lie, and so stay there.
    """
    folders = site_folders()
    if sys.prefix == sys.base_prefix:
        return folders if Path(sys.prefix, "conda-meta").is_dir() else []
    try:
        text = Path(sys.prefix, "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    if "include-system-site-packages=true" not in text.lower().replace(" ", ""):
        return []
    return [folder for folder in folders if not folder.is_relative_to(sys.prefix)]


def _install(
    site: Site,
    plan: Plan,
    installed: Installed,
    place: Place,
    flags: str,
    donors: list[Place],
    left: list[str],
) -> None:
    """Let the installer add what is needed, the engine first and from source."""
    lines = [*plan.lines(), *left]
    if not lines:
        return
    environ = clean_environment(os.environ, **_engine_variables(flags))
    engine = _engine_lines(plan)
    engine += [line for line in left if specs.name_of(line) == ENGINE]
    installer = find_installer(installed, os.environ)

    def run(name: str, what: list[str], advice: str, unbuilt: str | None = None) -> None:
        needed = site.folder / f"llmperf-{name}.txt"
        limits = site.folder / f"llmperf-{name}-constraints.txt"
        needed.write_text("\n".join([*plan.options, *what, ""]), encoding="utf-8")
        limits.write_text("\n".join([*sorted(set(plan.constraints)), ""]), encoding="utf-8")
        files = ["-r", str(needed), "-c", str(limits)]
        run_logged(
            installer.command(site.python, files, unbuilt=unbuilt),
            site.log,
            f"installing {' '.join(map(specs.without_options, what))} with {installer.name}",
            cwd=site.tree,
            environ=environ,
            say=site.say,
            advice=advice,
        )

    if engine and not _from_donor(engine, donors, place):
        built = f" with {flags}" if flags else ""
        site.say(f"builds {' '.join(engine)}{built}, {BUILD_TIME}; log: {site.log}")
        scratch = site.folder / "build"
        scratch.mkdir()
        # The build's gigabyte lies where it is removed even after a kill.
        environ["TMPDIR"] = str(scratch)
        advice = f"set CMAKE_ARGS to build it in another way; or {BY_HAND}"
        run("engine", engine, advice, unbuilt=ENGINE)
        shutil.rmtree(scratch, ignore_errors=True)
        environ.pop("TMPDIR")
        environ |= {"TMPDIR": os.environ["TMPDIR"]} if "TMPDIR" in os.environ else {}
        if len(engine) == len(lines):
            return
    shown = ", ".join(specs.without_options(line) for line in lines)
    site.say(f"installs {shown} with {installer.name}; log: {site.log}")
    run("needed", lines, f"or {BY_HAND}")


def compiles_engine(plan: Plan, donors: Sequence[Place]) -> bool:
    """Whether the engine has to be built from source: no other environment has it."""
    engine = _engine_lines(plan)
    return bool(engine) and _donor_of(engine, donors) is None


def _engine_lines(plan: Plan) -> list[str]:
    return [specs.without_options(line) for line in plan.needed.get(ENGINE, ())]


def _donor_of(engine: Sequence[str], donors: Sequence[Place]) -> Place | None:
    """Return the environment to copy the engine from, rather than build it again."""
    requirements = [specs.parse(line) for line in engine]
    for donor in donors:
        installed = donor.installed()
        if all(each and not each.url and installed.satisfies(each) for each in requirements):
            return donor
    return None


def _from_donor(engine: Sequence[str], donors: Sequence[Place], place: Place) -> bool:
    """Copy the engine from an environment that has it, where there is one."""
    left = list(donors)
    while (donor := _donor_of(engine, left)) is not None:
        if copy(donor.installed()[ENGINE], donor, place):
            return True
        left.remove(donor)
    return False


def _engine_variables(flags: str) -> dict[str, str]:
    return {"CMAKE_ARGS": flags, "FORCE_CMAKE": "1"} if flags else {}
