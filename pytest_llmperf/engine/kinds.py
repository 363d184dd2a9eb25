"""The built-in kinds of engines: what each needs and reports."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_llmperf.engine.installed import installed_backend, llama_arguments
from pytest_llmperf.engine_kinds import EngineKind
from pytest_llmperf.text import count

#: Arguments that llama-cpp-python accepts, or swallows with other keyword arguments, and ignores.
_IGNORED_BY_LLAMA = {
    "rpc_servers": (
        "llama-cpp-python ignores it, so the model would be computed on this machine alone; start "
        "a server that computes on others as the engine instead: llm.engine: server, llm.start: "
        "llama-server -m model.gguf --rpc HOST:50052 --port {port}"
    ),
}


def _refused_by_llama(names: Iterable[str]) -> dict[str, str]:
    # Where the package is missing, that is reported elsewhere.
    known = llama_arguments()
    refused = {}
    for name in names:
        if name in _IGNORED_BY_LLAMA:
            refused[name] = _IGNORED_BY_LLAMA[name]
        elif known and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            refused[name] = f"the installed llama_cpp.Llama takes no such argument{hint}"
    return refused


#: Settings of a llama.cpp context; all others belong to the model or to the whole process.
_OF_CONTEXT = frozenset(
    {
        *("n_ctx", "n_batch", "n_ubatch", "n_threads", "n_threads_batch"),
        *("flash_attn", "type_k", "type_v", "offload_kqv"),
        *("extra.rope_scaling_type", "extra.rope_freq_base", "extra.rope_freq_scale"),
        *("extra.yarn_ext_factor", "extra.yarn_attn_factor", "extra.yarn_orig_ctx"),
        *("extra.yarn_beta_fast", "extra.yarn_beta_slow"),
        *("extra.op_offload", "extra.swa_full", "extra.no_perf"),
    }
)

LLAMA_CPP = EngineKind(
    name="llama_cpp",
    engine="pytest_llmperf.engine.llama_cpp:LlamaCppEngine",
    needs="model",
    refused_options=_refused_by_llama,
    package="llama-cpp-python",
    backend=installed_backend,
    uses_llama_settings=True,
    takes_token_ids=True,
    reports_layers=True,
    reports_prefill=True,
    side_by_side=True,
    pauses=True,
    restores_prompts=True,
    scores=True,
    takes_delay=True,
    context_settings=_OF_CONTEXT,
)

#: The hardware that an application uses is unknown, and its caches are its own matter. Two of its
#: processes may compete for something that exists only once, such as a port, or end up asking the
#: same server.
APP = EngineKind(
    name="app",
    engine="pytest_llmperf.engine.app:AppEngine",
    needs="target",
    resets=False,
    ends_by_itself=True,
    runs_project_code=True,
    pauses=True,
    takes_delay=True,
    takes_glance=True,
)


def replicas_text(replicas: Sequence[object]) -> str:
    """Return the number of replicas in words."""
    return count(len(replicas), "replica")


def place_text(llm: Mapping[str, Any], shown_url: str) -> str:
    """Describe where a server runs that was not started here: its address, replicas, routing."""
    replicas, routing = llm.get("replicas"), llm.get("routing")
    place = f"{replicas_text(replicas)} behind {shown_url}" if replicas else f"at {shown_url}"
    return f"{place} (routing: {routing})" if routing else place


def _server(llm: Mapping[str, Any]) -> str:
    """Name a server by its ``llm`` section, before it answers."""
    where = f"server of {llm['start']!r}"
    if url := llm.get("url"):
        where = f"{'' if llm.get('replicas') else 'server '}{place_text(llm, url)}"
    return f"{llm['model']} on {where}" if llm.get("model") else where


def _server_of_section(llm: Mapping[str, Any]) -> EngineKind:
    return ATTACHED_SERVER if llm.get("url") else SERVER


#: A server that is started for each sample, as a child of the engine's process.
SERVER = EngineKind(
    name="server",
    engine="pytest_llmperf.engine.server.engine:ServerEngine",
    identity=_server,
    names_model=True,
    variant=_server_of_section,
    package="aiohttp",
    resets=False,
    side_by_side=True,
    loads=True,
    counts=True,
)
#: A server that runs already, here or elsewhere: only its client is started for each sample.
ATTACHED_SERVER = replace(
    SERVER, variant=None, restarts=False, computes_here=False, side_by_side=False
)
