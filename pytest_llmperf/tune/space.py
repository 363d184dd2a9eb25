"""Search space: the keys that may change, their values, and invalid combinations."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmperf.config.fields import QUANTIZED_CACHE_TYPES
from pytest_llmperf.config.tune_section import EXTRA
from pytest_llmperf.text import shown_value

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
#: Settings that change how answers are computed, but not the answers, except by rounding.
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
    """Numbers of tokens that the workload needs.

    Attributes:
        context: tokens of its longest request, prompt and answer.
        prompt: tokens of its longest prompt; 0 if unknown.
    """

    context: int
    prompt: int


@dataclass(frozen=True)
class Space:
    """Keys with the values to try, and today's value of each key.

    Attributes:
        choices: the values to try by key, today's included; numbers in ascending order.
        today: today's value of every key.
        usable_cpus: number of usable CPUs; more threads would only wait for each other.
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

    def all_values(self, changed: Settings) -> dict[str, Any]:
        """Return the values of all keys; unchanged keys have today's values."""
        return {**self.today, **changed}

    def changed(self, values: Settings) -> dict[str, Any]:
        """Return the values that differ from today's."""
        return {
            key: value
            for key, value in values.items()
            if key not in self.today or value != self.today[key]
        }

    def repaired(self, values: Settings) -> dict[str, Any]:
        """Return the nearest settings that are valid together."""
        settings = dict(values)
        for key in _THREADS:
            if key in settings and settings[key] > self.usable_cpus:
                fitting = [choice for choice in self.choices[key] if choice <= self.usable_cpus]
                settings[key] = max(fitting, default=settings[key])
        if _of(settings, "n_ubatch", 0) > _of(settings, "n_batch", math.inf):
            fitting = [size for size in self.choices["n_ubatch"] if size <= settings["n_batch"]]
            settings["n_ubatch"] = max(fitting, default=settings["n_batch"])
        if settings.get("type_v") in QUANTIZED_CACHE_TYPES and settings.get("flash_attn") is False:
            can = "flash_attn" in self.choices and True in self.choices["flash_attn"]
            settings["flash_attn" if can else "type_v"] = True if can else "f16"
        return settings

    def why_not(self, changed: Settings) -> str:
        """Return why settings are invalid together, or useless; empty if they are fine."""
        values = self.all_values(changed)
        for key in _THREADS:
            if key in changed and changed[key] > self.usable_cpus:
                return f"{key}: {changed[key]} is more than the {self.usable_cpus} usable CPUs"
        # Today's own values may break this rule; only a change of either key must keep it.
        if {"n_batch", "n_ubatch"} & {*changed} and _of(values, "n_ubatch", 0) > _of(
            values, "n_batch", math.inf
        ):
            return f"n_ubatch: {values['n_ubatch']} is larger than n_batch: {values['n_batch']}"
        if values.get("type_v") in QUANTIZED_CACHE_TYPES and values.get("flash_attn") is False:
            return f"type_v: {values['type_v']} needs flash_attn: true"
        if _of(values, "n_ctx", math.inf) < self.n_ctx_min:
            return f"n_ctx: {values['n_ctx']} is less than the {self.n_ctx_min} tokens needed"
        return ""

    def half_way(self, values: Settings) -> Iterator[tuple[str, Any, int]]:
        """Yield a key, an adjacent value of its choices, and the number half-way to it."""
        for key, choices in self.choices.items():
            numbers = [value for value in choices if _is_number(value)]
            # -1 layers means all of them, so it has no half-way point.
            if values.get(key) not in numbers or len(numbers) != len(choices) or -1 in numbers:
                continue
            index = numbers.index(values[key])
            for other in (*numbers[max(index - 1, 0) : index], *numbers[index + 1 : index + 2]):
                middle = _between(values[key], other)
                if middle is not None:
                    yield key, other, middle


def _of(settings: Settings, key: str, default: float) -> float:
    value = settings.get(key)
    return default if value is None else float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _between(one: int, other: int) -> int | None:
    """Return the integer midway between two, on the log scale; None if there is none."""
    low, high = sorted((one, other))
    if high - low < 2:
        return None
    middle = round(math.sqrt(low * high)) if low > 0 else (low + high) // 2
    return min(max(middle, low + 1), high - 1)


def build_space(setup: EngineSetup, demand: Demand, cpus: int, *, gpu_layers: int = 0) -> Space:
    """Return the search space of the configuration's ``tune`` section, or the default one.

    Args:
        setup: today's configuration.
        demand: tokens that the workload needs.
        cpus: number of usable CPUs.
        gpu_layers: layers of the model, if a GPU can take them; otherwise 0.
    """
    resolved = setup.llm.resolved()
    declared = setup.loaded.config.tune.space
    given = declared or _defaults(resolved, demand, cpus, gpu_layers)
    least = max(demand.context, setup.llm.max_tokens + 1)
    choices = {}
    for key in sorted(given, key=_rank):
        # Unset settings take their value from others, as they do in the engine.
        today = plain(key, _today(resolved, key), cpus)
        values = [plain(key, value, cpus) for value in given[key]]
        choices[key] = _in_order({json.dumps(value): value for value in (*values, today)}.values())
    today = {key: plain(key, _today(resolved, key), cpus) for key in choices}
    return Space(choices, today, cpus, least)


def _today(resolved: Settings, key: str) -> Any:
    """Return a key's value of today; None for an argument that ``extra`` does not have."""
    if key.startswith(EXTRA):
        return resolved["extra"].get(key.removeprefix(EXTRA))
    return resolved[key]


def _defaults(
    resolved: Settings, demand: Demand, cpus: int, gpu_layers: int
) -> dict[str, Sequence[Any]]:
    threads = sorted({cpus, *(2**n for n in range(cpus.bit_length()) if 2**n <= cpus)})
    # Batches larger than the prompt make no difference: the prompt is one batch anyway.
    longest = max(demand.prompt, 1)
    batches = [size for size in _BATCHES if size < 2 * longest] or [_BATCHES[0]]
    space: dict[str, Sequence[Any]] = {
        "n_threads": threads,
        "n_threads_batch": threads,
        "flash_attn": [False, True],
        "n_batch": batches,
        "n_ubatch": [size for size in batches if size <= 1024],
        "type_k": ["f16", "q8_0"],
        "type_v": ["f16", "q8_0"],
        "n_ctx": _contexts(resolved, demand),
        "use_mmap": [True, False],
    }
    if gpu_layers:
        space["n_gpu_layers"] = [0, gpu_layers // 4, gpu_layers // 2, gpu_layers * 3 // 4, -1]
    return space


def _contexts(resolved: Settings, demand: Demand) -> list[int]:
    least = max(demand.context, int(resolved["max_tokens"]) + 1, 1)
    sizes, size = [], 1 << (least - 1).bit_length()
    while size < resolved["n_ctx"]:
        sizes.append(size)
        size *= 2
    return [*sizes, int(resolved["n_ctx"])]


def plain(key: str, value: Any, cpus: int) -> Any:
    """Return a setting's value as the engine gets it, with ``auto`` and default types resolved."""
    if key in _THREADS and value == "auto":
        return min(cpus, 8)
    if key in ("type_k", "type_v") and value is None:
        return "f16"
    return value


def _in_order(values: Any) -> tuple[Any, ...]:
    ordered = list(values)
    # -1 layers means all of them.
    if all(map(_is_number, ordered)):
        ordered.sort(key=lambda number: math.inf if number == -1 else number)
    return tuple(ordered)


def _rank(key: str) -> int:
    return ORDER.index(key) if key in ORDER else len(ORDER)


def answer_settings(changed: Settings) -> dict[str, Any]:
    """Return the changed settings that can change answers, such as the model and the KV types."""
    return {key: value for key, value in changed.items() if key not in SAME_ANSWERS}


def shown(settings: Settings) -> str:
    """Return settings as in a YAML file, on one line: ``n_threads: 2, flash_attn: true``."""
    pairs = (f"{key}: {shown_value(value)}" for key, value in settings.items())
    return ", ".join(pairs) or "no change"


def same_key(settings: Settings) -> str:
    """Return a text key that is equal for equal settings."""
    return json.dumps(settings, sort_keys=True)
