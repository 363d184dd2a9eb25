"""Writes settings into ``config.yaml``: changes only their values, with a backup, or nothing."""

from __future__ import annotations

import difflib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf.atomic_write import atomic_write, write_new
from pytest_llmperf.config.errors import ConfigError, Problem
from pytest_llmperf.config.layers import Layers
from pytest_llmperf.config.llm_section import LLM_FIELDS
from pytest_llmperf.config.load import load_config, validated
from pytest_llmperf.config.schema import Config
from pytest_llmperf.config.yaml_edit import set_value
from pytest_llmperf.config.yaml_file import Document, parse_document, read_bytes
from pytest_llmperf.metrics import load_installed_metrics

#: Digest of a file that does not exist.
ABSENT = "absent"


class EditError(ConfigError):
    """The settings can't be written; nothing was changed, and ``str()`` is the whole message."""

    def __init__(self, where: Path | str, text: str) -> None:
        super().__init__([Problem(str(where), text)])


@dataclass(frozen=True)
class Applied:
    """Result of writing settings.

    Attributes:
        diff: unified diff of the file, without line ends; empty if it already had the settings.
        backup: copy of the old file; None if there was none, or nothing was written.
    """

    diff: str
    backup: Path | None


def file_digest(file: Path) -> str:
    """Return a digest of the file's content, to find out later whether it changed.

    Raises:
        ConfigError: it can't be read.
    """
    content = _content(file)
    return ABSENT if content is None else hashlib.sha256(content).hexdigest()


def check_editable(file: Path) -> None:
    """Check that settings can be written into a file, before hours are spent on finding them.

    Raises:
        ConfigError: the file is not valid.
        EditError: it can't be written.
    """
    _edited(file, _content(file), {})
    _writable(file)


def apply_settings(
    file: Path,
    changes: Mapping[str, Any],
    *,
    digest: str | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Sequence[str] = (),
    show: Callable[[str], None] | None = None,
) -> Applied:
    """Write settings into a configuration file, which is created if it does not exist.

    Only the lines of the changed values differ afterwards. The old file is kept beside the new one
    as ``config.yaml.bak-<time>``. The new file is loaded again, and must give exactly the wanted
    settings; otherwise the old content is restored.

    Args:
        file: such as ``config.yaml``.
        changes: dotted key, such as ``llm.n_batch``, -> new value as plain JSON.
        digest: ``file_digest`` of the file from when the settings were found; None: not checked.
        environ: environment, searched for variables that override a changed key.
        overrides: arguments such as ``llm.n_batch=512``, searched in the same way.
        show: called with the diff before anything is written.

    Raises:
        ConfigError: the file is not valid, or a new value is not.
        EditError: the file changed meanwhile, can't be written, or a changed key is overridden.
    """
    before = _content(file)
    if digest is not None and digest != _digest(before):
        raise EditError(file, "the file was changed since these settings were measured; start over")
    _check_overrides(file, changes, environ, overrides)
    new, wanted = _edited(file, before, changes)
    old = "" if before is None else before.decode()
    diff = "\n".join(_diff(file, old, new, created=before is None))
    if before is not None and not diff:
        return Applied("", None)
    like = _writable(file)
    if show is not None:
        show(diff)
    if _content(file) != before:
        raise EditError(file, "the file was changed by another program meanwhile; start over")
    backup = None
    try:
        if before is not None:
            backup = _back_up(file, before, like)
        atomic_write(file, new.encode(), like)
    except OSError as error:
        if backup is not None:
            backup.unlink(missing_ok=True)
        raise EditError(file, f"can't be written: {error.strerror or error}") from None
    _check_written(file, wanted, before, backup, like)
    return Applied(diff, backup)


def _content(file: Path) -> bytes | None:
    return read_bytes(file, str(file)) if os.path.lexists(file) else None


def _digest(content: bytes | None) -> str:
    return ABSENT if content is None else hashlib.sha256(content).hexdigest()


def _check_overrides(
    file: Path, changes: Mapping[str, Any], environ: Mapping[str, str], overrides: Sequence[str]
) -> None:
    """Refuse keys whose value in the file would have no effect."""
    layers = Layers()
    if problems := layers.add_environment(environ) + layers.add_overrides(overrides):
        raise ConfigError(problems)
    texts = [
        f"{key} is set by {where}"
        for key in changes
        for name, where in layers.provenance().items()
        if key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.")
    ]
    if texts:
        text = f"{'; '.join(texts)}. The file's value would have no effect: remove that setting"
        raise EditError(file, f"{text} and try again")


def _edited(file: Path, before: bytes | None, changes: Mapping[str, Any]) -> tuple[str, Config]:
    """Return the file's new text and the configuration that it must result in."""
    document = parse_document(before, str(file)) if before is not None else None
    load_installed_metrics()
    now = _validated(file, document, {})
    wanted = _validated(file, document, changes)
    values, wanted_values = now.model_dump(), wanted.model_dump()
    text = "" if before is None else before.decode()
    for key, value in changes.items():
        path = tuple(key.split("."))
        if _at(values, path) != _at(wanted_values, path):
            existing = _at(document.value if document is not None else {}, path)
            for below, leaf in _leaves(path, value, existing):
                text = set_value(text, below, leaf, _order(below))
    try:
        again = _validated(file, parse_document(text.encode(), str(file)), {})
    except ConfigError:
        again = None
    if again != wanted:
        keys = ", ".join(changes)
        raise EditError(file, f"{keys} can't be changed in this file's notation; edit it by hand")
    return text, wanted


def _validated(file: Path, document: Document | None, changes: Mapping[str, Any]) -> Config:
    layers = Layers()
    if document is not None:
        # The changes go into a copy, not into the document.
        layers.add_document(deepcopy(document), str(file))
    layers.add_changes(changes)
    config, problems = validated(layers)
    if problems:
        raise ConfigError(problems)
    return config


def _at(tree: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree


def _leaves(
    path: tuple[str, ...], value: Any, existing: Any
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values to write; of a mapping that loses no key, only those that differ."""
    both = isinstance(value, Mapping) and isinstance(existing, Mapping)
    if not both or not existing.keys() <= value.keys():
        yield path, value
        return
    for key, inner in value.items():
        if key not in existing or existing[key] != inner:
            yield from _leaves((*path, key), inner, existing.get(key))


def _order(path: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of this key's section, in the schema's order."""
    if len(path) != 2:
        return ()
    section = Config.model_fields.get(path[0])
    known = () if section is None else getattr(section.annotation, "model_fields", ())
    return tuple(LLM_FIELDS if path[0] == "llm" else known)


def _diff(file: Path, old: str, new: str, *, created: bool) -> Iterator[str]:
    before, after = old.splitlines(), new.splitlines()
    name = "/dev/null" if created else str(file)
    return difflib.unified_diff(before, after, name, str(file), lineterm="")


def _writable(file: Path) -> os.stat_result | None:
    """Return the file's mode and owner; None if it does not exist."""
    try:
        status = file.stat()
    except FileNotFoundError:
        if file.is_symlink():
            raise EditError(file, "is a link to a file that does not exist") from None
        if not file.absolute().parent.is_dir():
            raise EditError(file, f"there is no folder {file.parent}") from None
        return None
    # The administrator may write to any file, but this one was protected on purpose.
    if not status.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(
        file, os.W_OK
    ):
        raise EditError(file, "is read-only; make it writable and try again")
    return status


def _back_up(file: Path, content: bytes, like: os.stat_result | None) -> Path:
    """Write a copy under a new name, and return its path."""
    name = f"{file.name}.bak-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while True:
        backup = file.with_name(name if number == 1 else f"{name}-{number}")
        try:
            write_new(backup, content, like)
        except FileExistsError:
            number += 1
        else:
            return backup


def _check_written(
    file: Path,
    wanted: Config,
    before: bytes | None,
    backup: Path | None,
    like: os.stat_result | None,
) -> None:
    """Load the new file; restore the old one if the settings are not the wanted ones."""
    why = "loading the new file gave other settings"
    try:
        if load_config(file, file.absolute().parent, {}).config == wanted:
            return
    except ConfigError as error:
        why = str(error)
    except BaseException:
        _restore(file, before, backup, like)
        raise
    _restore(file, before, backup, like)
    raise EditError(file, f"the new settings were written, then undone: {why}")


def _restore(
    file: Path, before: bytes | None, backup: Path | None, like: os.stat_result | None
) -> None:
    if before is None:
        file.unlink(missing_ok=True)
        return
    atomic_write(file, before, like)
    if backup is not None:
        with suppress(OSError):
            backup.unlink()
