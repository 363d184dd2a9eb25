"""Matching of stored records with this session: the same machine and the same model bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_llmperf.config.extra_hashes import EXTRA_HASHES, without_extra_values
from pytest_llmperf.machine.fingerprint import (
    Difference,
    compare,
    differences,
    info_differences,
    same_hardware,
)
from pytest_llmperf.secret_headers import is_secret_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pytest_llmperf.baselines.decisions import StoredDecision
    from pytest_llmperf.baselines.record import ModelIdentity, Provenance
    from pytest_llmperf.baselines.store import BaselineStore, Shelf, StoredRecord
    from pytest_llmperf.machine.fingerprint import Machine

#: Settings that locate the model's file: its SHA-256 is compared instead.
_NOT_COMPARED = {"model_path"}
#: Settings that name the program or the model that an engine runs.
_RUN = ("target", "model_path")
_NAMED = ("engine", "engine_version", "plugin", "python")
_EXTRA = "llm.extra."
_NOT_SET = "not set"


@dataclass(frozen=True)
class MismatchedRecord:
    """A record of another machine or model, and every strict item that differs."""

    path: Path
    differences: tuple[Difference, ...]

    @property
    def key(self) -> str:
        """The key of its machine."""
        return self.path.parent.name


@dataclass(frozen=True)
class BaselineSet:
    """The stored records for this machine and model.

    Attributes:
        records: those that match, oldest first.
        mismatched: records in this machine's folder that do not match.
        nearest: the closest record of another machine, if no record matches.
        other_backend: the records are of this hardware, but used another backend.
        decisions: about this machine's sessions, in the order they were made.
    """

    records: tuple[StoredRecord, ...]
    mismatched: tuple[MismatchedRecord, ...]
    nearest: MismatchedRecord | None = None
    decisions: tuple[StoredDecision, ...] = ()
    other_backend: bool = False


def find_baseline(store: BaselineStore, machine: Machine, model: ModelIdentity) -> BaselineSet:
    """Look up the records that ``machine`` running ``model`` may be compared with.

    Sessions that another tool measured are not among them.

    Raises:
        BaselineError: files of these machines cannot be used.
    """
    records: list[StoredRecord] = []
    mismatched: list[MismatchedRecord] = []
    shelf = store.read_shelf(machine.key)
    for stored in own_records(shelf.records):
        differing = _strict_differences(stored, machine, model)
        if differing:
            mismatched.append(MismatchedRecord(stored.path, differing))
        else:
            records.append(stored)
    other = None if records else _of_other_backend(store, machine, model)
    if other is not None:
        return BaselineSet(
            other.records, tuple(mismatched), decisions=other.decisions, other_backend=True
        )
    nearest = None if records else _nearest(store, machine, model)
    return BaselineSet(tuple(records), tuple(mismatched), nearest, shelf.decisions)


def own_records(records: Iterable[StoredRecord]) -> list[StoredRecord]:
    """Return the sessions that this plugin measured, without those of other tools."""
    return [stored for stored in records if stored.record.imported is None]


def group_comparable(records: Sequence[StoredRecord]) -> list[tuple[StoredRecord, ...]]:
    """Split records into groups that may be compared: one machine and model each.

    Each group keeps the order; the group of the newest record comes first.
    """
    groups: list[list[StoredRecord]] = []
    for stored in reversed(records):
        for group in groups:
            newest = group[0].record
            if not _strict_differences(stored, newest.machine, newest.model):
                group.append(stored)
                break
        else:
            groups.append([stored])
    return [tuple(reversed(group)) for group in groups]


def _strict_differences(
    stored: StoredRecord, machine: Machine, model: ModelIdentity
) -> tuple[Difference, ...]:
    differing = differences(machine, stored.record.machine)
    stored_model = stored.record.model
    if _is_other_model(stored_model, model):
        differing.append(Difference("model", _describe_model(stored_model), _describe_model(model)))
    return tuple(differing)


def _of_other_backend(store: BaselineStore, machine: Machine, model: ModelIdentity) -> Shelf | None:
    """Return the records of this hardware with another backend: of several, the one used last.

    A build without GPU code must not count as another machine: the most common slow run
    would not be judged.
    """
    shelves: list[Shelf] = []
    for key in store.machines():
        if key == machine.key:
            continue
        shelf = store.read_shelf(key)
        records = tuple(
            stored
            for stored in own_records(shelf.records)
            if same_hardware(machine, stored.record.machine)
            and not _is_other_model(stored.record.model, model)
        )
        if records:
            shelves.append(replace(shelf, records=records))
    return max(shelves, key=lambda shelf: shelf.records[-1].record.recorded, default=None)


def _is_other_model(stored: ModelIdentity, model: ModelIdentity) -> bool:
    return stored.sha256 != model.sha256 or (model.sha256 is None and stored.name != model.name)


def _describe_model(model: ModelIdentity) -> str:
    return f"{model.name} (SHA-256 {(model.sha256 or 'unknown')[:12]})"


def _nearest(
    store: BaselineStore, machine: Machine, model: ModelIdentity
) -> MismatchedRecord | None:
    """Return the newest record of the machine with the fewest differences."""
    others = [
        own_records(store.read_machine(key)) for key in store.machines() if key != machine.key
    ]
    newest = [records[-1] for records in others if records]
    candidates = [MismatchedRecord(s.path, _strict_differences(s, machine, model)) for s in newest]
    return min(candidates, key=lambda record: (len(record.differences), record.key), default=None)


def explaining_differences(
    stored: StoredRecord,
    machine: Machine,
    provenance: Provenance,
    config: Mapping[str, Any],
    nodeid: str = "",
) -> list[Difference]:
    """Return the differences from a matching record that may explain a test's change of speed.

    They are engine settings, versions, and facts about the machine that need not match.
    """
    return [
        *work_differences(stored, provenance, config, nodeid),
        *info_differences(machine, stored.record.machine),
    ]


def work_differences(
    stored: StoredRecord, provenance: Provenance, config: Mapping[str, Any], nodeid: str = ""
) -> list[Difference]:
    """Return the engine settings and versions that differ from a matching record's test."""
    return [
        *_changed_settings(_flat(config), _flat(stored.record.config_of(nodeid))),
        *compare(_versions(provenance), _versions(stored.record.provenance)),
    ]


def _versions(provenance: Provenance) -> dict[str, Any]:
    return {item.replace("_", " "): getattr(provenance, item) for item in _NAMED}


def belongs_to_cell(stored: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether a stored test belongs to this cell of a sweep; without a cell, whether to no sweep.

    Args:
        stored: the stored test's own settings, with those that follow from its cell's.
        settings: the cell's settings, in the same form; empty for a test in no sweep.
    """
    known, wanted = _flat(stored), _flat(settings)
    same = not compare(wanted, {item: known.get(item, _NOT_SET) for item in wanted})
    return bool(stored) == bool(settings) and same


def setting_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Return the engine settings that differ in two configurations, including the model's path.

    For two different engines, only settings that both have and the program or model they run
    are compared. Numbers and switches in ``extra`` are shown.
    """
    flat = [
        {
            **_flat(side),
            **_shown_extra(side.get("extra")),
            **{f"llm.{key}": side.get(key) or _NOT_SET for key in _RUN},
        }
        for side in (one, other)
    ]
    if one.get("engine") != other.get("engine"):
        both = flat[0].keys() & flat[1].keys()
        flat = [{item: side[item] for item in side if item in both} for side in flat]
    return _changed_settings(*flat)


def _shown_extra(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the numbers and switches in ``extra``, except those named like a secret key."""
    return {
        f"{_EXTRA}{name}": value
        for name, value in (extra or {}).items()
        if isinstance(value, bool | int | float)
        and math.isfinite(value)
        and not is_secret_name(name)
    }


def _changed_settings(current: dict[str, Any], baseline: dict[str, Any]) -> list[Difference]:
    """Compare flat settings; an extra setting that only one side has is unset on the other."""
    extra = {item: _NOT_SET for item in (*baseline, *current) if item.startswith(_EXTRA)}
    absent = {item: value for item, value in extra.items() if item not in baseline}
    return compare(extra | current, baseline | absent)


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Name settings as a user writes them: ``llm.extra.rope_freq_base``, its value hidden."""
    flat: dict[str, Any] = {}
    for key, value in without_extra_values(config).items():
        if key == EXTRA_HASHES:
            flat |= {f"{_EXTRA}{k}": f"hidden (SHA-256 {digest})" for k, digest in value.items()}
        elif key not in _NOT_COMPARED:
            flat[f"llm.{key}"] = _NOT_SET if value is None else value
    return flat
