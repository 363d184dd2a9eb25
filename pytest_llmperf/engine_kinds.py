"""Kinds of engines: their needs in the configuration, and their capabilities.

``llm.engine`` names a kind. The kinds of this and other packages are found through
the entry-point group ``pytest_llmperf.engines`` (docs/extending.md); the code
checks a kind's capabilities, never its name.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmperf.entry_points import EntryPointError, broken, installed, load_unique, package_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel

GROUP = "pytest_llmperf.engines"
_PACKAGE = "pytest-llmperf"
#: This copy's own kinds. They work without metadata, too: in another commit's environment this
#: copy runs while another version of the plugin, or none, is installed.
OWN = {
    "app": "pytest_llmperf.engine.kinds:APP",
    "llama_cpp": "pytest_llmperf.engine.kinds:LLAMA_CPP",
    "server": "pytest_llmperf.engine.kinds:SERVER",
}
#: The backend in the records of engines that report no backend.
UNKNOWN_BACKEND = "app"
#: Form of the path of a class or a callable: ``package.module:name``.
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class EngineKindError(LookupError):
    """No engine of that name can be used; the message has the cause and the fix."""


@dataclass(frozen=True)
class EngineKind:
    """A kind of engine and its capabilities, by default as few as possible.

    Attributes:
        name: its name in ``llm.engine``.
        engine: its class, ``package.module:Class``, which follows the protocol ``Engine``. The
            class is imported only in the engine's process, and built there with the resolved
            ``llm`` section as a dict of plain JSON types.
        needs: ``model``: a GGUF file that ``llm.model_path`` names; ``target``: a callable that
            ``llm.target`` names; None: neither.
        options: pydantic model of its options in ``llm.extra``; None takes any.
        refused_options: function from names in ``llm.extra`` to the refused ones, each with the
            reason.
        identity: function from the resolved ``llm`` section to a name that distinguishes
            baselines without a model file or target; the kind's name by default.
        names_model: the model is known only once the engine runs: ``info()`` names it
            (``model_name``), and baselines are distinguished by that name.
        variant: function from the ``llm`` section to the kind with that engine's capabilities;
            None: they are the same for every section.
        package: the package with its class, for messages about its import.
        backend: function that returns its backend (``cpu``, ``cuda``, ...) before it is started;
            None if the backend is unknown.
        uses_llama_settings: it uses ``llm.n_threads``, ``n_gpu_layers``, ``n_ctx`` and the other
            settings of llama.cpp: they decide how many cores it needs, and the doctor may judge
            and change them.
        restarts: a fresh process of it can be started for every sample, so that samples are
            independent.
        resets: its ``reset()`` empties every cache; otherwise it is not called between replays.
        computes_here: it computes in its own process and that process's descendants; otherwise
            none of this machine's processes is watched as the engine's own.
        takes_token_ids: a prompt may be token ids, and a generation reports those of its prompt.
        reports_layers: ``info()`` reports where the layers are (``gpu``).
        reports_prefill: its timelines report when the prompt was read.
        ends_by_itself: a request without ``max_tokens`` is answered until the engine stops;
            otherwise it gets ``llm.max_tokens``.
        side_by_side: two of its processes may live at the same time and take turns.
        pauses: its ``generate`` takes a third argument, ``pause``, which it calls between tokens
            (``Pause`` in ``pytest_llmperf.extension``), so that two processes can take turns within
            a generation.
        restores_prompts: a request with ``cache="keep"`` and the same prompt as the request before
            evaluates only its last token, and decode is the same work as after the whole prompt.
            If a model can't do that, ``prompt_tokens_evaluated`` reports more.
        loads: its class has ``load(requests, schedule)``, which sends requests by a schedule,
            several at a time, and returns the outcome of each (``LoadResult``).
        counts: its class has ``counters()``, which returns the servers' own counters by address
            (the fields of ``ServerCounters``), or None.
        scores: its class has ``vocabulary``, ``tokenize`` and ``score``, which give the
            probabilities of a text's tokens (``Scoring`` in ``pytest_llmperf.extension``), so that
            its quality can be measured.
        runs_project_code: its process imports the project's own modules, as the tests do.
        takes_delay: its class takes ``delay=``, which slows its token loop on purpose.
        takes_glance: its class takes ``glance=``, a function to call once in each request, after
            its first token, to detect active tracers and debug modes.
        context_settings: settings of ``llm`` (``n_ctx``, ``extra.rope_freq_base``) that a running
            engine can change without loading its model again, by its method ``configure(config)``;
            other settings take another process.

    Raises:
        ValueError: an argument has the wrong type, or ``engine`` or ``needs`` another form than
            described.
    """

    name: str
    engine: str
    needs: Literal["model", "target"] | None = None
    options: type[BaseModel] | None = None
    refused_options: Callable[[Iterable[str]], Mapping[str, str]] | None = None
    identity: Callable[[Mapping[str, Any]], str] | None = None
    names_model: bool = False
    variant: Callable[[Mapping[str, Any]], EngineKind] | None = None
    package: str = ""
    backend: Callable[[], str] | None = None
    uses_llama_settings: bool = False
    restarts: bool = True
    resets: bool = True
    computes_here: bool = True
    takes_token_ids: bool = False
    reports_layers: bool = False
    reports_prefill: bool = False
    ends_by_itself: bool = False
    side_by_side: bool = False
    pauses: bool = False
    restores_prompts: bool = False
    loads: bool = False
    counts: bool = False
    scores: bool = False
    runs_project_code: bool = False
    takes_delay: bool = False
    takes_glance: bool = False
    context_settings: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            expected = _expected(str(field.type), value)
            if expected:
                raise ValueError(f"{field.name}: expected {expected}, got {value!r}")
        if DOTTED.fullmatch(self.engine) is None:
            raise ValueError(f"engine: expected package.module:Class, got {self.engine!r}")
        if self.needs not in ("model", "target", None):
            raise ValueError(f"needs: expected 'model', 'target' or None, got {self.needs!r}")

    @property
    def backend_name(self) -> str:
        """Name of its backend in machines and records.

        Raises:
            EngineKindError: ``backend`` failed.
        """
        return self._text("backend", self.backend) if self.backend is not None else UNKNOWN_BACKEND

    @property
    def may_use_gpu(self) -> bool:
        """Whether it may use a GPU; True if its backend is unknown."""
        return self.backend_name != "cpu"

    def of_section(self, config: Mapping[str, Any]) -> EngineKind:
        """Return the kind with the capabilities of this section's engine.

        Raises:
            EngineKindError: ``variant`` failed.
        """
        if self.variant is None:
            return self
        kind = self._call("variant", self.variant, config)
        if not isinstance(kind, EngineKind):
            raise self._fault("variant", f"expected an EngineKind, got {kind!r}")
        return kind

    def title(self, config: Mapping[str, Any]) -> str:
        """Return the engine's name in messages; for an application its target."""
        target = config.get("target") if self.needs == "target" else None
        return str(target) if target is not None else f"the {self.name} engine"

    def load_settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that a running process can't change; ``extra.NAME`` for extra's."""
        settings = {name: value for name, value in config.items() if name != "extra"}
        settings |= {f"extra.{name}": value for name, value in config.get("extra", {}).items()}
        kept = settings.keys() - self.context_settings
        return {name: settings[name] for name in sorted(kept)}

    def refused(self, extra: Collection[str]) -> Mapping[str, str]:
        """Return the keys of ``llm.extra`` that the installed engine refuses, with the reasons.

        Raises:
            EngineKindError: ``refused_options`` failed.
        """
        if self.refused_options is None or not extra:
            return {}
        refused: object = self._call("refused_options", self.refused_options, extra)
        if not isinstance(refused, Mapping):
            raise self._fault("refused_options", f"expected a dict, got {refused!r}")
        return refused

    def identity_without_model(self, config: Mapping[str, Any]) -> str:
        """Return the identity of this configuration's engine if it has no model file.

        Raises:
            EngineKindError: ``identity`` failed.
        """
        if self.needs == "target":
            return str(config["target"])
        return self._text("identity", self.identity, config) if self.identity else self.name

    def _text(self, argument: str, function: Callable[..., object], *given: object) -> str:
        text = self._call(argument, function, *given)
        if not isinstance(text, str):
            raise self._fault(argument, f"expected text, got {text!r}")
        return text

    def _call(self, argument: str, function: Callable[..., object], *given: object) -> object:
        try:
            return function(*given)
        except Exception as error:
            why = f"it raised {type(error).__name__}: {error}"
            raise self._fault(argument, why) from error

    def _fault(self, argument: str, why: str) -> EngineKindError:
        return EngineKindError(
            f"the engine {self.name!r} can't be used: its {argument}: {why}; fix or uninstall the "
            "package that provides it"
        )


def _expected(annotation: str, value: object) -> str:
    """Return the expected type for this annotation if the value has another type; else ''."""
    if annotation == "bool" and not isinstance(value, bool):
        return "True or False"
    if annotation == "str" and not isinstance(value, str):
        return "package.module:Class" if isinstance(value, type) else "text"
    if annotation.startswith("frozenset") and not isinstance(value, frozenset):
        return "a frozenset of names"
    if annotation.startswith("Callable") and value is not None and not callable(value):
        return "a function"
    if annotation.startswith("type[") and value is not None:
        return "" if hasattr(value, "model_validate") else "a pydantic model"
    return ""


def engine_kind(name: str) -> EngineKind:
    """Return the kind of engine named ``name`` in ``llm.engine``.

    Raises:
        EngineKindError: no package provides it, several do, or its package is broken.
    """
    return _engine_kind(name, tuple(map(str, sys.path)))


@lru_cache(maxsize=32)
def _engine_kind(name: str, _path: tuple[str, ...]) -> EngineKind:
    entry_points = _entry_points()
    named = entry_points.get(name)
    if named is None:
        raise EngineKindError(_unknown(name, entry_points))
    try:
        kind = load_unique(named, "engine")
        if not isinstance(kind, EngineKind):
            raise broken(named[0], "engine", f"expected an EngineKind, got {type(kind).__name__}")
        if kind.name != name:
            raise broken(named[0], "engine", f"its EngineKind is called {kind.name!r}")
    except EntryPointError as error:
        raise EngineKindError(str(error)) from error
    return kind


def _entry_points() -> dict[str, tuple[EntryPoint, ...]]:
    from importlib.metadata import EntryPoint

    by_name = dict(installed(GROUP))
    for name, value in OWN.items():
        others = [ep for ep in by_name.get(name, ()) if _canonical(package_of(ep)) != _PACKAGE]
        by_name[name] = (EntryPoint(name, value, GROUP), *others)
    return by_name


def _unknown(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else "install the package that provides it"
    return f"no engine {name!r} is installed (installed: {', '.join(names)}); {remedy}"


def _canonical(package: str) -> str:
    return package.lower().replace("_", "-")
