"""Kinds of engines: what each needs of the configuration and what it can tell.

``llm.engine`` names a kind. Ours and those of other packages are found through
the entry-point group ``pytest_llmperf.engines`` (docs/extending.md); the code
asks a kind for what it can, never for its name.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmperf.entry_points import (
    EntryPointError,
    broken,
    installed,
    load_only,
    package_of,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel

GROUP = "pytest_llmperf.engines"
_PACKAGE = "pytest-llmperf"
#: This copy's own kinds. They are known without metadata, too: in another commit's environment
#: this copy runs where another version of the plugin, or none, is installed.
OWN = {
    "app": "pytest_llmperf.engine.kinds:APP",
    "llama_cpp": "pytest_llmperf.engine.kinds:LLAMA_CPP",
}
#: The backend of an engine that does not say what it computes on, as records have it.
UNKNOWN_BACKEND = "app"
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class EngineKindError(LookupError):
    """No engine of that name can be used; the message says why, and what to do."""


@dataclass(frozen=True)
class EngineKind:
    """One kind of engine. Every default claims the least.

    Attributes:
        name: what ``llm.engine`` calls it.
        engine: its class, ``package.module:Class``, which follows the protocol ``Engine``. It is
            imported in the engine's process only, and built there with the resolved ``llm``
            section as a dict of plain JSON types.
        needs: ``model``: a GGUF file that ``llm.model_path`` names; ``target``: a callable that
            ``llm.target`` names; None: neither.
        options: the pydantic model of its own options in ``llm.extra``; None takes any.
        refused_options: names of ``llm.extra`` -> those that it does not take, each with the
            reason.
        identity: the resolved ``llm`` section -> what answers, by which baselines are told apart
            where there is no model file and no target; the kind's name by default.
        package: the package that its class comes with; messages about its import name it.
        backend: finds out what it computes on (``cpu``, ``cuda``, ...) before it is started;
            None where nobody can tell.
        uses_llama_settings: ``llm.n_threads``, ``n_gpu_layers``, ``n_ctx`` and the other settings
            of llama.cpp are its own: its need of cores follows from them, and the doctor may
            judge and change them.
        takes_token_ids: a prompt may be token ids, and a generation tells those of its prompt.
        tells_layers: ``info()`` says where the layers are (``gpu``).
        tells_prefill: its timelines say when the prompt was read.
        ends_by_itself: a request without ``max_tokens`` is answered until the engine is done;
            otherwise it gets ``llm.max_tokens``.
        side_by_side: two of its processes may live at the same time and take turns.
        runs_project_code: its process imports the project's own modules, as the tests do.
        takes_delay: its class takes ``delay=``, which slows its token loop on purpose.
        takes_glance: its class takes ``glance=``, to be called once in each request, after its
            first token: it sees tracers and debug modes that are on just then.

    Raises:
        ValueError: ``engine`` is no such path, or ``needs`` no such word.
    """

    name: str
    engine: str
    needs: Literal["model", "target"] | None = None
    options: type[BaseModel] | None = None
    refused_options: Callable[[Iterable[str]], Mapping[str, str]] | None = None
    identity: Callable[[Mapping[str, Any]], str] | None = None
    package: str = ""
    backend: Callable[[], str] | None = None
    uses_llama_settings: bool = False
    takes_token_ids: bool = False
    tells_layers: bool = False
    tells_prefill: bool = False
    ends_by_itself: bool = False
    side_by_side: bool = False
    runs_project_code: bool = False
    takes_delay: bool = False
    takes_glance: bool = False

    def __post_init__(self) -> None:
        if _DOTTED.fullmatch(self.engine) is None:
            raise ValueError(f"engine: expected package.module:Class, got {self.engine!r}")
        if self.needs not in ("model", "target", None):
            raise ValueError(f"needs: expected 'model', 'target' or None, got {self.needs!r}")

    @property
    def backend_name(self) -> str:
        """What it computes on, as machines and records name it."""
        return self.backend() if self.backend is not None else UNKNOWN_BACKEND

    @property
    def may_use_gpu(self) -> bool:
        """Whether it may use a GPU; of an engine that does not say nobody can tell."""
        return self.backend_name != "cpu"

    def title(self, config: Mapping[str, Any]) -> str:
        """Return what messages call an engine of this configuration: an application its target."""
        target = config.get("target") if self.needs == "target" else None
        return str(target) if target is not None else f"the {self.name} engine"

    def refused(self, extra: Collection[str]) -> Mapping[str, str]:
        """Return the keys of ``llm.extra`` that the installed engine does not take, with why."""
        return self.refused_options(extra) if self.refused_options is not None and extra else {}

    def answers_with(self, config: Mapping[str, Any]) -> str:
        """Return what answers in this configuration, where that is no model file."""
        if self.needs == "target":
            return str(config["target"])
        return self.identity(config) if self.identity is not None else self.name


def engine_kind(name: str) -> EngineKind:
    """Return the kind of engine that ``llm.engine`` calls ``name``.

    Raises:
        EngineKindError: no package brings one, several do, or the one that does is broken.
    """
    return _engine_kind(name, tuple(map(str, sys.path)))


@lru_cache(maxsize=32)
def _engine_kind(name: str, _path: tuple[str, ...]) -> EngineKind:
    entry_points = _entry_points()
    found = entry_points.get(name)
    if found is None:
        raise EngineKindError(_unknown(name, entry_points))
    try:
        kind = load_only(found, "engine")
        if not isinstance(kind, EngineKind):
            raise broken(found[0], "engine", f"it is no EngineKind but {type(kind).__name__}")
        if kind.name != name:
            raise broken(found[0], "engine", f"its EngineKind is called {kind.name!r}")
    except EntryPointError as error:
        raise EngineKindError(str(error)) from error
    return kind


def _entry_points() -> dict[str, tuple[EntryPoint, ...]]:
    from importlib.metadata import EntryPoint

    found = dict(installed(GROUP))
    for name, value in OWN.items():
        others = [one for one in found.get(name, ()) if _canonical(package_of(one)) != _PACKAGE]
        found[name] = (EntryPoint(name, value, GROUP), *others)
    return found


def _unknown(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else "install the package that brings it"
    return f"no engine {name!r} is installed (installed: {', '.join(names)}); {remedy}"


def _canonical(package: str) -> str:
    return package.lower().replace("_", "-")
