"""Stored calibrations: a machine's measured noise, one readable file each."""

from __future__ import annotations

import errno
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.folder import MAX_BYTES, add_file
from pytest_llmperf.baselines.json_text import dumps, explain_error, parse
from pytest_llmperf.baselines.match import belongs_to_cell
from pytest_llmperf.baselines.record import Settings, is_measurable
from pytest_llmperf.baselines.tolerances import Holds
from pytest_llmperf.config.extra_hashes import without_extra_values
from pytest_llmperf.stored_json import (
    LEFT_OUT,
    NOT_STORED,
    Number,
    ShapeError,
    Stored,
    Whole,
    read,
    unexpected,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmperf.baselines.record import ModelIdentity
    from pytest_llmperf.config.schema import PerfConfig

#: Raised whenever an older plugin would misread what a newer one writes.
SCHEMA_VERSION = 1
#: The subfolder of a machine's folder that holds its calibrations.
FOLDER = "calibrations"
#: Environment variable that names another folder of baselines to read calibrations from: all
#: commits of ``llmperf bisect`` are judged by those of the work tree.
CALIBRATIONS_VARIABLE = "LLMPERF_CALIBRATIONS_DIR"


@dataclass(frozen=True)
class StoredCheck(Stored):
    """The part of a calibrated check that later sessions need.

    Attributes:
        level: the metric's level on the side without a planted slowdown, in the base unit.
        within, between, pair: noise within a process, between processes, and within a pair.
        mde: the smallest slowdown that nine of ten sessions call regressed.
        holds: session length -> the smallest tolerance that sessions of that length hold.
        settings: engine settings of the test's cell of a sweep, plain JSON.
    """

    nodeid: str
    metric: str
    workload: str
    level: Number
    within: Number | None = None
    between: Number | None = None
    pair: Number | None = None
    mde: Number | None = None
    holds: Holds = field(default_factory=dict)
    settings: Settings = field(default_factory=dict, metadata=LEFT_OUT)


def _check_level(check: StoredCheck) -> StoredCheck:
    if not is_measurable(check.level, check.metric):
        raise unexpected("a number that the metric can have", check.level, "level")
    return check


@dataclass(frozen=True)
class StoredCalibration(Stored):
    """A stored calibration, with the parts that later sessions need.

    Attributes:
        recorded: time of the calibration, UTC.
        plant: the slowdown that was planted, empty for an A/A run.
        model: SHA-256 of the model file, or the model's name without a file.
        config: the resolved engine settings it ran with, plain JSON; ``extra`` as hashes.
        iterations, turns: the ``perf`` settings it ran with.
        path: its file.
    """

    schema: Whole
    recorded: str
    plant: str
    model: str
    config: Settings
    checks: tuple[Annotated[StoredCheck, AfterValidator(_check_level)], ...]
    iterations: Whole
    turns: str
    path: Path = field(default=Path(), metadata=NOT_STORED)

    @property
    def source(self) -> str:
        """The file, relative to the machine's folder."""
        return f"{FOLDER}/{self.path.name}"

    def measured_like(self, perf: PerfConfig) -> bool:
        """Whether it was measured with the iterations and turns that ``perf`` sets."""
        return (self.iterations, self.turns) == (perf.iterations, perf.turns)

    def is_of(self, model: str, config: Mapping[str, Any]) -> bool:
        """Whether it calibrated the model with this ``model_key`` and these engine settings."""
        return self.model == model and same_settings(self.config, config)

    def checks_of(
        self, nodeid: str, workload: str, settings: Mapping[str, Any]
    ) -> list[StoredCheck]:
        """Return the checks of a test with this workload hash.

        ``settings`` are those of the test's cell in a sweep; empty for a test in no sweep.
        """
        return [
            check
            for check in self.checks
            if (check.nodeid, check.workload) == (nodeid, workload)
            and belongs_to_cell(check.settings, settings)
        ]

    def summary(self) -> dict[str, Any]:
        """Return the part that the record of a session judged with this calibration keeps."""
        return {
            "file": self.source,
            "recorded": self.recorded,
            "checks": [
                {
                    name: getattr(check, name)
                    for name in ("nodeid", "metric", "within", "between", "pair", "mde")
                }
                for check in self.checks
            ],
        }


def model_key(model: ModelIdentity) -> str:
    """Return the identity of a model: the hash of its file, or its name if it has no file."""
    return model.sha256 or model.name


def same_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two resolved engine configurations are the same, apart from the model's path.

    They are compared in stored form, because settings read from a file are rounded.
    """
    plain = [
        {key: value for key, value in without_extra_values(config).items() if key != "model_path"}
        for config in (one, other)
    ]
    try:
        return bool(json.loads(dumps(plain[0])) == json.loads(dumps(plain[1])))
    except ValueError:  # cannot be stored, so it equals no stored configuration
        return False


def write_calibration(machine_folder: Path, recorded: str, data: Mapping[str, Any]) -> Path:
    """Store ``data`` (plain JSON) as a new file and return its path.

    Raises:
        BaselineError: it could not be written, with the path and what to do.
    """
    folder = machine_folder / FOLDER
    try:
        config = without_extra_values(data["config"])
        whole = {"schema": SCHEMA_VERSION, "recorded": recorded, **data, "config": config}
        content = dumps(whole).encode()
    except ValueError as error:
        raise BaselineError(f"{folder}: the calibration cannot be stored: {error}") from None
    try:
        return add_file(folder, re.sub(r"[-:]", "", recorded), content)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        room = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "make room" if room else "make the folder writable"
        raise BaselineError(
            f"{folder}: the calibration could not be stored: {reason}\n"
            f"  {remedy}, and run it again; nothing was left behind"
        ) from None


def read_calibrations(machine_folder: Path) -> tuple[list[StoredCalibration], list[str]]:
    """Return a machine's calibrations, oldest first, and a message for each unusable file.

    An unusable file raises no error, because a calibration alone decides no verdict.
    """
    folder = machine_folder / FOLDER
    calibrations: list[StoredCalibration] = []
    problems: list[str] = []
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return [], []
    for path in paths:
        if path.suffix != ".json" or path.name.startswith("."):
            continue
        try:
            calibrations.append(read_calibration(path))
        except (OSError, ValueError) as error:
            reason = explain_error(error) if isinstance(error, ValueError) else error
            problems.append(
                f"{path}: not a calibration that can be used ({reason}); "
                "restore it from git, or remove it and calibrate again"
            )
    return sorted(calibrations, key=lambda stored: (stored.recorded, stored.path.name)), problems


def read_calibration(path: Path) -> StoredCalibration:
    """Read the calibration in a file.

    Raises:
        OSError, ValueError: it can't be read, or holds no calibration that can be used.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("too long for a calibration")
    calibration = read(StoredCalibration, parse(path.read_bytes()))
    if calibration.schema > SCHEMA_VERSION:
        raise ShapeError(
            f"schema {calibration.schema} of a newer plugin; this one reads {SCHEMA_VERSION}"
        )
    return replace(calibration, path=path)
