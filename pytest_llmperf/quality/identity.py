"""Identities of engines and material: equal ones give equal figures."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf import __version__
from pytest_llmperf.config.model_files import ModelFiles
from pytest_llmperf.engine.installed import installed_build
from pytest_llmperf.engine_kinds import OWN
from pytest_llmperf.quality.passages import Prompt, Text

if TYPE_CHECKING:
    from pytest_llmperf.engine.launch import LaunchSpec

#: Settings that change no probability. The number of threads does not, as each computes whole
#: rows.
_WITHOUT_EFFECT = frozenset(
    {
        "chat_format",
        "generation_timeout",
        "load_timeout",
        "max_tokens",
        "model_path",
        "n_threads",
        "n_threads_batch",
        "seed",
        "target",
        "use_mlock",
        "use_mmap",
    }
)


def engine_identity(spec: LaunchSpec) -> dict[str, Any] | None:
    """Return all that decides the probabilities an engine computes; None if it is unknown.

    Raises:
        OSError: a file of the model can't be read.
    """
    if spec.python != sys.executable or spec.engine not in OWN or spec.kind.needs != "model":
        # Another environment may have another build, and another package's engine any state.
        return None
    config = spec.config
    files = ModelFiles.of(
        Path(str(config["model_path"])), config.get("extra"), Path(spec.cwd or ".")
    )
    return {
        "model": files.sha256(),
        "settings": {k: v for k, v in sorted(config.items()) if k not in _WITHOUT_EFFECT},
        "environment": dict(sorted(spec.env.items())),
        "build": installed_build(),
        "processor": [platform.machine(), platform.processor()],
    }


def material_identity(material: Sequence[Prompt | Text]) -> list[Any]:
    """Return all that decides which passages are scored."""
    return [
        {"text": part.text} if isinstance(part, Text) else {"prompt": list(astuple(part))}
        for part in material
    ]


def key_of(*identity: Any) -> str:
    """Return a digest of identities, as a file name; other versions of this plugin have others."""
    text = json.dumps([__version__, *identity], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
