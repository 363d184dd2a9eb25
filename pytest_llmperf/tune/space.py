"""The space of a search: the keys that may change, their values, and what does not go together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmperf.config.fields import QUANTIZED_CACHE_TYPES
from pytest_llmperf.config.tune_section import EXTRA

if TYPE_CHECKING:
    from pytest_llmperf.session.setup import EngineSetup

#: Values by key of the ``llm`` section.
Settings = Mapping[str, Any]

#: Keys in the order in which they usually matter.
ORDER = (
    "n_gpu_layers",
    "n_threads",
    "n_threads_batch",
    "flash_attn",
    "n_batch",
    "n_ubatch",
    "n_ctx",
    "type_k",
    "type_v",
    "use_mmap",
)
#: Settings that give the same answers, but for rounding: they say how, not what, is computed.
SAME_ANSWERS = frozenset(
    {
        "n_batch",
        "n_ctx",
        "n_threads",
        "n_threads_batch",
        "n_ubatch",
        "use_mlock",
        "use_mmap",
    }
)
_BATCHES = (128, 256, 512, 1024, 2048)
_THREADS = ("n_threads", "n_threads_batch")


@dataclass(frozen=True)
class Demand:
    """What the workload asks of a configuration, in tokens.

    Attributes:
        context: of its longest request, prompt and answer.
        prompt: of its longest prompt; 0 if unknown.
    """

    context: int
    prompt: int


@dataclass(frozen=True)
class Space:
    """Keys with their values, and today's value of each.

    Attributes:
        choices: the values to try by key, today's included; numbers in ascending order.
        today: the present value of every key.
        usable_cpus: threads beyond these only wait for each other.
        n_ctx_min: smallest context that holds the workload.
    """

    choices: Mapping[str, tuple[Any, ...]]
    today: Settings
    usable_cpus: int
    n_ctx_min: int = 0

    @property
    def size(self) -> int:
        """Number of combinations, impossible ones included."""
        return math.prod(map(len, self.choices.values()))

    def whole(self, changed: Settings) -> dict[str, Any]:
        """Return the values of all keys; those that are not changed are today's."""
        return {**self.today, **changed}

    def changed(self, whole: Settings) -> dict[str, Any]:
        """Return the values that differ from today's."""
        return {
            key: value
            for key, value in whole.items()
            if key not in self.today or value != self.today[key]
        }

    def repaired(self, whole: Settings) -> dict[str, Any]:
        """Return the nearest settings that go together."""
        found = dict(whole)
        for key in _THREADS:
            if key in found and found[key] > self.usable_cpus:
                fitting = [one for one in self.choices[key] if one <= self.usable_cpus]
                found[key] = max(fitting, default=found[key])
        if _of(found, "n_ubatch", 0) > _of(found, "n_batch", math.inf):
            fitting = [one for one in self.choices["n_ubatch"] if one <= found["n_batch"]]
            found["n_ubatch"] = max(fitting, default=found["n_batch"])
        if found.get("type_v") in QUANTIZED_CACHE_TYPES and found.get("flash_attn") is False:
            can = "flash_attn" in self.choices and True in self.choices["flash_attn"]
            found["flash_attn" if can else "type_v"] = True if can else "f16"
        return found

    def why_not(self, changed: Settings) -> str:
        """Return why these settings can't go together, or are of no use; empty if they can."""
        whole = self.whole(changed)
        for key in _THREADS:
            if key in changed and changed[key] > self.usable_cpus:
                return f"{key}: {changed[key]} is more than the {self.usable_cpus} usable CPUs"
        # Both may be today's, which only a change must not make worse.
        if {"n_batch", "n_ubatch"} & {*changed} and _of(whole, "n_ubatch", 0) > _of(
            whole, "n_batch", math.inf
        ):
            return f"n_ubatch: {whole['n_ubatch']} is larger than n_batch: {whole['n_batch']}"
        if whole.get("type_v") in QUANTIZED_CACHE_TYPES and whole.get("flash_attn") is False:
            return f"type_v: {whole['type_v']} needs flash_attn: true"
        if _of(whole, "n_ctx", math.inf) < self.n_ctx_min:
            return f"n_ctx: {whole['n_ctx']} is less than the {self.n_ctx_min} tokens in use"
        return ""

    def half_way(self, whole: Settings) -> Iterator[tuple[str, Any, int]]:
        """Yield a key, the next value of its choices, and the number half-way to it."""
        for key, values in self.choices.items():
            numbers = [one for one in values if _is_number(one)]
            # -1 layers are no number but all of them.
            if whole.get(key) not in numbers or len(numbers) != len(values) or -1 in numbers:
                continue
            place = numbers.index(whole[key])
            for other in (*numbers[max(place - 1, 0) : place], *numbers[place + 1 : place + 2]):
                middle = _between(whole[key], other)
                if middle is not None:
                    yield key, other, middle


def _of(settings: Settings, key: str, default: float) -> float:
    value = settings.get(key)
    return default if value is None else float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _between(one: int, other: int) -> int | None:
    """Return a number between two, in the middle on the log scale; None if there is none."""
    low, high = sorted((one, other))
    if high - low < 2:
        return None
    middle = round(math.sqrt(low * high)) if low > 0 else (low + high) // 2
    return min(max(middle, low + 1), high - 1)


def build_space(setup: EngineSetup, demand: Demand, cpus: int, *, gpu_layers: int = 0) -> Space:
    """Return the space of the configuration's ``tune`` section, or the default one.

    Args:
        setup: today's configuration.
        demand: of the workload.
        cpus: usable CPUs.
        gpu_layers: layers of the model where a GPU can take them; 0 without a GPU.
    """
    resolved = setup.llm.resolved()
    declared = setup.loaded.config.tune.space
    given = declared or _defaults(resolved, demand, cpus, gpu_layers)
    least = max(demand.context, setup.llm.max_tokens + 1)
    choices = {}
    for key in sorted(given, key=_rank):
        # Settings that are not given follow others, as the engine itself has it.
        today = plain(key, _today(resolved, key), cpus)
        values = [plain(key, one, cpus) for one in given[key]]
        choices[key] = _in_order({json.dumps(one): one for one in (*values, today)}.values())
    today = {key: plain(key, _today(resolved, key), cpus) for key in choices}
    return Space(choices, today, cpus, least)


def _today(resolved: Settings, key: str) -> Any:
    """Return a key's present value; an argument that ``extra`` does not have is left out: null."""
    if key.startswith(EXTRA):
        return resolved["extra"].get(key.removeprefix(EXTRA))
    return resolved[key]


def _defaults(
    resolved: Settings, demand: Demand, cpus: int, gpu_layers: int
) -> dict[str, Sequence[Any]]:
    threads = sorted({cpus, *(2**n for n in range(cpus.bit_length()) if 2**n <= cpus)})
    # Larger batches than the prompt are one batch, too.
    longest = max(demand.prompt, 1)
    batches = [one for one in _BATCHES if one < 2 * longest] or [_BATCHES[0]]
    found: dict[str, Sequence[Any]] = {
        "n_threads": threads,
        "n_threads_batch": threads,
        "flash_attn": [False, True],
        "n_batch": batches,
        "n_ubatch": [one for one in batches if one <= 1024],
        "type_k": ["f16", "q8_0"],
        "type_v": ["f16", "q8_0"],
        "n_ctx": _contexts(resolved, demand),
        "use_mmap": [True, False],
    }
    if gpu_layers:
        found["n_gpu_layers"] = [0, gpu_layers // 4, gpu_layers // 2, gpu_layers * 3 // 4, -1]
    return found


def _contexts(resolved: Settings, demand: Demand) -> list[int]:
    least = max(demand.context, int(resolved["max_tokens"]) + 1, 1)
    found, size = [], 1 << (least - 1).bit_length()
    while size < resolved["n_ctx"]:
        found.append(size)
        size *= 2
    return [*found, int(resolved["n_ctx"])]


def plain(key: str, value: Any, cpus: int) -> Any:
    """Return a setting's value as the engine takes it: no ``auto``, no implied type."""
    if key in _THREADS and value == "auto":
        return min(cpus, 8)
    if key in ("type_k", "type_v") and value is None:
        return "f16"
    return value


def _in_order(values: Any) -> tuple[Any, ...]:
    found = list(values)
    # -1 layers are all of them.
    if all(map(_is_number, found)):
        found.sort(key=lambda one: math.inf if one == -1 else one)
    return tuple(found)


def _rank(key: str) -> int:
    return ORDER.index(key) if key in ORDER else len(ORDER)


def answer_settings(changed: Settings) -> dict[str, Any]:
    """Return the changed settings that can change answers, such as the model and the KV types."""
    return {key: value for key, value in changed.items() if key not in SAME_ANSWERS}


def shown(settings: Settings) -> str:
    """Return settings as they are written in a file: ``n_threads: 2, flash_attn: true``."""
    return ", ".join(f"{key}: {_yaml(value)}" for key, value in settings.items()) or "no change"


def _yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def same_key(settings: Settings) -> str:
    """Return a text that is equal for equal settings."""
    return json.dumps(settings, sort_keys=True)
