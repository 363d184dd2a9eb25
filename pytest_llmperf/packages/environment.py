"""The environment that another commit's tree runs in: this one, or one of its own, cached."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.packages.building import (
    BUILD_TIME,
    LONGEST_BUILD_S,
    Site,
    build,
    build_by_hand,
    compiles_engine,
    seen_base,
)
from pytest_llmperf.packages.declarations import declared
from pytest_llmperf.packages.editable import editable_below
from pytest_llmperf.packages.engine_build import build_flags
from pytest_llmperf.packages.errors import DeclarationError, InstallError
from pytest_llmperf.packages.identity import digest_of, engine_digest
from pytest_llmperf.packages.installed import (
    Distribution,
    Installed,
    installed_here,
    site_folders,
)
from pytest_llmperf.packages.plan import ENGINE, PLUGIN, Plan, make_plan, own_distributions
from pytest_llmperf.packages.requirement_file import repository_around
from pytest_llmperf.packages.store import Built, Store

__all__ = ["DeclarationError", "Environment", "InstallError", "environment_for"]

#: Differences told in one line.
_SHOWN = 6


@dataclass(frozen=True)
class Environment:
    """Where a tree's processes run.

    Attributes:
        python: the interpreter's path.
        shared: whether it is this one.
        note: one line for the report, such as ``own environment: toy 1.0 (2.0 here)``.
    """

    python: str
    shared: bool
    note: str


def environment_for(
    here: Path,
    there: Path,
    cache: Path,
    say: Callable[[str], None],
    install: str | None = None,
    seconds: float | None = None,
) -> Environment:
    """Return the environment for the tree ``there``, building it if the cache has none.

    This one if both trees declare the same; else one that differs from this one only
    in what the declarations differ in. It appears whole or not at all, whatever
    kills this process when; of several builders of the same one, one builds.

    Args:
        here: the project folder that this interpreter's environment is made for.
        there: the same folder of another work tree.
        cache: the folder under which environments and their logs are kept.
        say: gets a line before and while something takes long.
        install: a command line that installs the other tree's packages, in place of
            all deriving; ``{python}`` stands for the new environment's interpreter.
        seconds: how long that may take. An engine is not built from source if that may take
            longer; None builds it in any case.

    Raises:
        InstallError: it cannot be had; the message names the log and what to do.
    """
    if not sys.executable:
        raise InstallError("this Python does not know its own program; start it by its path")
    here, there = here.resolve(), there.resolve()
    installed = installed_here()
    editable = editable_below(repository_around(here), installed, site_folders())
    also = {Path(os.path.relpath(_home(each), here)).as_posix() for each in editable}
    ours, theirs = declared(here, also), declared(there, also)
    if ours.digest == theirs.digest:
        return Environment(sys.executable, True, "shared: both declare the same")
    if not install and not theirs.lists and not theirs.unreadable:
        return Environment(sys.executable, True, "shared: the other commit declares nothing")
    own = own_distributions(ours, theirs, installed, editable)
    plan = Plan(described=own) if install else make_plan(ours, theirs, installed, own)
    adds = bool(install) or plan.installs()
    flags = build_flags(installed.get(ENGINE), os.environ) if adds else ""
    differences = ours.differences(theirs)
    base = [] if install else seen_base()
    digest = digest_of(theirs, plan, install, flags, base)
    store = Store(cache / "environments", digest, say)

    def builder(site: Site) -> Built:
        engine = engine_digest(flags, os.environ)
        if install:
            place = build_by_hand(site, plan, installed, flags, install)
        else:
            place = build(site, plan, installed, flags, store.donors(engine))
        seen = Installed([place.purelib, place.platlib, *base])
        note = _note(plan, installed, seen, differences)
        built = not install and ENGINE in plan.needed
        return Built(place, note, engine if built else "")

    try:
        with store.locked():
            found = store.find()
            if found is None:
                donors = store.donors(engine_digest(flags, os.environ))
                compiles = not install and compiles_engine(plan, donors)
                if compiles and seconds is not None and seconds < LONGEST_BUILD_S:
                    raise InstallError(_no_time(plan, seconds))
                said = "declares others: " + _few(differences, "; ")
                said += f"; its engine is built from source, {BUILD_TIME}" if compiles else ""
                say(f"makes an environment for the other commit, which {said}")
                found = store.make(here, there, builder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InstallError(
            f"no environment for the other commit can be made in {store.folder}: {reason}; "
            "free space there, or set LLMPERF_CACHE_DIR to a folder on another disk"
        ) from None
    return Environment(str(found[0]), False, found[1])


def _no_time(plan: Plan, seconds: float) -> str:
    engine = " ".join(plan.needed[ENGINE])
    return (
        f"it needs {engine} built from source, {BUILD_TIME}, and {max(seconds, 0):.0f} s are left "
        "of perf.budget; raise perf.budget, or run the tests once with --llmperf-against that "
        "commit, which builds it before the budget begins and keeps it"
    )


def _home(each: Distribution) -> Path:
    return (each.source() or each.folder).resolve()


def _few(lines: Sequence[str], joint: str) -> str:
    more = [f"{len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return joint.join([*lines[:_SHOWN], *more])


def _note(plan: Plan, here: Installed, there: Installed, differences: Sequence[str]) -> str:
    """Say in which packages the environment differs from this one."""
    passed = {"pip", "uv", PLUGIN, *(each.name for each in plan.described)}
    changed, added, left_out = [], [], []
    for name in sorted({*here, *there} - passed):
        ours, theirs = here.get(name), there.get(name)
        if ours and theirs and ours.version != theirs.version:
            changed.append(f"{name} {theirs.version} ({ours.version} here)")
        elif theirs and not ours:
            added.append(f"{name} {theirs.version} (not here)")
        elif ours and not theirs:
            left_out.append(f"without {name} ({ours.version} here)")
    said = [*changed, *added, *left_out]
    if not said:
        return f"own environment: the same packages, declared differently ({differences[0]})"
    return f"own environment: {_few(said, ', ')}"
