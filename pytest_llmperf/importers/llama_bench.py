"""Reads ``llama-bench -o json`` and ``-o jsonl``: prefill (pp) and decode (tg) rates.

According to its source (llama.cpp, tools/llama-bench): ``tg`` times ``n_gen`` decode steps of
random tokens, from depth ``n_depth`` on, each followed by ``llama_synchronize``; nothing is sampled
or turned into text, and no prompt is included. ``pp`` times the evaluation of ``n_prompt`` tokens.
Each of the ``-r`` repetitions starts from a cleared cache; all run in one process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pytest_llmperf.importers.items import (
    FieldTable,
    Item,
    digest_of,
    model_name,
    objects,
    shortened,
    time_of,
)
from pytest_llmperf.importers.protocol import ImportedRun, LayoutError, ToolIdentity, ToolResults
from pytest_llmperf.text import count

_SIGNS = frozenset({"build_commit", "n_prompt", "n_gen", "avg_ts"})
#: Engine settings, in the order of the file; a matrix run varies them.
_SETTINGS = (
    *("n_batch", "n_ubatch", "n_threads", "cpu_mask", "cpu_strict", "poll", "type_k", "type_v"),
    *("n_gpu_layers", "n_cpu_moe", "split_mode", "main_gpu", "no_kv_offload", "flash_attn"),
    *("devices", "tensor_split", "tensor_buft_overrides", "load_mode", "use_mmap"),
    *("use_direct_io", "lazy_mode", "no_op_offload", "no_host", "repack"),
    *("fit_target", "fit_min_ctx"),
)
_OF_SAMPLES = ("avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns")
_DESCRIBES_MODEL = ("model_type", "model_size", "model_n_params")


class LlamaBench:
    """Reads the results of llama.cpp's ``llama-bench``."""

    tool = "llama-bench"
    written_by = "llama-bench -o json (or jsonl)"
    signs = "objects with build_commit, n_prompt, n_gen and avg_ts"

    def recognises(self, documents: Sequence[Any]) -> bool:
        """Whether every document is a result, or a list of them."""
        rows = _rows(documents)
        return bool(rows) and all(isinstance(row, dict) and row.keys() >= _SIGNS for row in rows)

    def read(self, documents: Sequence[Any]) -> ToolResults:
        """Return a run for each result with repetitions of prefill or of decode.

        Raises:
            LayoutError: a field is missing or impossible, or nothing can be imported.
        """
        table = FieldTable()
        runs = [
            run
            for item in objects(_rows(documents), "result", self.tool)
            for run in _runs(item, table)
        ]
        if not runs:
            raise LayoutError(
                "it holds only results of prompt and generation together (-pg), and those are no "
                "rate of either",
                "run llama-bench with -p and -n",
            )
        return ToolResults(tuple(runs), table.uses())


def _rows(documents: Sequence[Any]) -> list[Any]:
    """Return the results: the list of ``-o json``, or the lines of ``-o jsonl``."""
    return list(documents[0]) if documents and isinstance(documents[0], list) else list(documents)


def _runs(item: Item, table: FieldTable) -> Iterator[ImportedRun]:
    prompt, generated = item.whole("n_prompt"), item.whole("n_gen")
    depth = item.optional_whole("n_depth") or 0
    rates = item.numbers("samples_ts")
    if not rates:
        raise item.wrong("samples_ts", "at least one repetition", [])
    if 0 in rates:
        raise item.wrong("samples_ts", "numbers above 0", list(rates))
    _note_left_out(item, table)
    if prompt and generated:
        table.add_unused(
            f"samples_ts of pp{prompt}+tg{generated}",
            "prompt and generation in one number: neither a decode nor a prefill rate",
        )
        return
    if not prompt and not generated:
        raise item.wrong("n_gen", "a number above 0, as n_prompt is 0", 0)
    if prompt:
        table.add_used(
            "samples_ts of pp", "prefill_tokens_per_sec", "n_prompt / time, tokens per s"
        )
        name, metrics = f"pp{prompt}", {"prefill_tokens_per_sec": rates}
        what = f"{count(prompt, 'prompt token')} evaluated"
    else:
        table.add_used(
            "samples_ts of tg",
            "tokens_per_sec",
            "decode steps / time, tokens per s; without sampling, text and prompt",
        )
        table.add_used("samples_ts of tg", "time_per_output_token", "its inverse, seconds")
        name = f"tg{generated}"
        metrics = {
            "tokens_per_sec": rates,
            "time_per_output_token": tuple(1.0 / rate for rate in rates),
        }
        what = f"{count(generated, 'token')} decoded, nothing sampled"
    embeddings = bool(item.data.get("embeddings"))
    yield ImportedRun(
        test=f"{name}@d{depth}" if depth else name,
        workload={
            "prompt_tokens": prompt,
            "output_tokens": generated,
            "depth": depth,
            "embeddings": embeddings,
            "concurrency": 1,
        },
        summary=f"{what}, from depth {depth}, one sequence at a time",
        metrics=metrics,
        identity=_identity(item),
        recorded=time_of(item, "test_time"),
        digest=digest_of(item.data),
        settings={name: _setting(item.data[name]) for name in _SETTINGS if name in item.data},
    )


def _setting(value: Any) -> Any:
    """Return a setting as plain JSON; texts are made printable and cut if they are long."""
    if isinstance(value, str):
        return shortened(value)
    return value if value is None or isinstance(value, bool | int | float) else repr(value)


def _note_left_out(item: Item, table: FieldTable) -> None:
    table.add_unused_if_present(
        item, _OF_SAMPLES, "computed from the same repetitions as samples_ts"
    )
    table.add_unused_if_present(
        item, _DESCRIBES_MODEL, "describes the model; its file's hash is not in it"
    )
    used = ("build_number", "backends", "cpu_info", "gpu_info", "model_filename", "n_depth")
    table.add_other_fields(
        item, {*_SETTINGS, *_SIGNS, *used, "test_time", "samples_ts", "embeddings"}
    )


def _identity(item: Item) -> ToolIdentity:
    number = item.optional_whole("build_number")
    commit = item.text("build_commit") or "unknown"
    build = f"build {number} ({commit})" if number else f"build {commit}"
    facts = {
        name: item.text(field)
        for name, field in (("backend", "backends"), ("cpu", "cpu_info"), ("gpus", "gpu_info"))
    }
    return ToolIdentity(
        version=build,
        engine="llama.cpp",
        engine_version=build,
        model=model_name(item.text("model_filename")),
        machine={name: value for name, value in facts.items() if value is not None},
    )
