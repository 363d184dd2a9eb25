"""Conditions and data sources of the fitness checks, for the reference."""

from __future__ import annotations

from typing import NamedTuple


class CheckText(NamedTuple):
    """Text of the documentation about a fitness check.

    Attributes:
        found: condition under which it finds something, with thresholds.
        source: where it gets its data.
    """

    found: str
    source: str


#: Check's name -> its text, as Markdown.
CHECK_TEXTS: dict[str, CheckText] = {
    "busy_cores": CheckText(
        "other processes left the engine's threads 0.3 of a core or more short; `warn` from a "
        "tenth of the cores",
        "`/proc/*/stat`, CPU times",
    ),
    "stolen_cores": CheckText(
        "the host gave 10% of the CPU time to other machines; `warn` from 5%",
        "steal time",
    ),
    "swapping": CheckText(
        "1 MiB or more came back from swap",
        "`pswpin`",
    ),
    "memory_pressure": CheckText(
        "all processes waited for memory for 1% of the time; `warn` if some waited for 5%, or if"
        " less memory is available than a mapped model takes",
        "`/proc/pressure/memory`, the own cgroup's `memory.pressure`, `MemAvailable`",
    ),
    "major_faults": CheckText(
        "the engine waited 16 times or more, while it was timed, for a page to come from a file:"
        " a mapped model did not stay in memory. Warm-up does not count",
        "`majflt` of the engine's process",
    ),
    "cpu_quota": CheckText(
        "a container's CPU quota stopped the processes for 1% of the quota's core time; `note` "
        "below. With as many threads as usable cores, or more, it is a `warn`, because the "
        "configuration asks for that",
        "`cpu.stat` of the own cgroup and those above it",
    ),
    "cpu_throttled": CheckText(
        "the CPU was too hot for 1% of the time, or at all if it does not report for how long; "
        "otherwise `warn`",
        "`thermal_throttle`",
    ),
    "cpu_clock": CheckText(
        "the clock fell by 10% from the first readings to the last; not checked with more than 8"
        " CPUs",
        "`scaling_cur_freq`",
    ),
    "clocks_differ": CheckText(
        "between the two processes of a pair a clock differed by more than 10%: the CPU's, where "
        "llama.cpp has layers on it, or one of the engine's GPUs' that was not at its power limit; "
        "`warn` if the sides use other numbers of threads, or of layers on GPUs",
        "`scaling_cur_freq`, NVML",
    ),
    "cpu_governor": CheckText(
        "the governor is `powersave` or `conservative`; with `intel_pstate` and `amd-pstate`, "
        "whose `powersave` follows the load, only with an energy preference for saving",
        "`cpufreq`",
    ),
    "busy_gpu": CheckText(
        "another process computes on a GPU that the engine is on (on any it may use, if that is "
        "unknown); `note` if that process also draws",
        "NVML",
    ),
    "gpu_throttled": CheckText(
        "a GPU of the engine lowered its clocks in 5% of the samples while decoding: heat, power"
        " brake, hardware slowdown; in fewer: `warn`",
        "NVML's clock event reasons",
    ),
    "gpu_power_cap": CheckText(
        "a GPU of the engine ran at its power limit, as many do all the time",
        "NVML's clock event reasons",
    ),
    "gpu_clocks_low": CheckText(
        "its SM clock was below 60%, or its memory clock below 80%, of the highest, under load "
        "and with no reason given",
        "NVML",
    ),
    "gpu_clock_drift": CheckText(
        "a clock of the last third differs by more than 10% from that of the first, with no "
        "reason given",
        "NVML",
    ),
    "gpu_hot": CheckText(
        "it came within 5 °C of its slowdown temperature",
        "NVML",
    ),
    "gpu_memory_pressure": CheckText(
        "less than 2% of its memory, or 512 MiB where that is less, was free; `invalid` while "
        "the processes of a pair take turns, because it could hit one of them alone",
        "NVML",
    ),
    "gpu_others_grew": CheckText(
        "others' memory on it grew by more than 256 MiB",
        "NVML",
    ),
    "gpu_pcie": CheckText(
        "its link is narrower than card and slot allow, or of a lower generation under load",
        "NVML",
    ),
    "gpu_ecc": CheckText(
        "its memory had uncorrected errors; older ones: `warn`",
        "NVML",
    ),
    "gpu_xid": CheckText(
        "the driver reported a critical error",
        "NVML's events",
    ),
    "gpu_lost": CheckText(
        "it stopped answering",
        "NVML",
    ),
    "gpu_persistence": CheckText(
        "persistence mode is off: the card is initialised again for every process",
        "NVML",
    ),
    "prompt_cached": CheckText(
        "a replay evaluated less of its prompt than was recorded; a server took prompts of a load "
        "from its cache, although `llm.cache` is `unique`",
        "tokens evaluated; the server's counts, and its `/metrics` where its answers say nothing",
    ),
    "cache_hits_differ": CheckText(
        "the shares of the prompt tokens that caches served differ between the two processes of a "
        "pair by 10 points or more",
        "the server's counts, and its `/metrics` where its answers say nothing",
    ),
    "cache_unknown": CheckText(
        "neither the answers nor the server's `/metrics` say how much of the prompts came out of "
        "its cache; `note` for requests one at a time",
        "the server's counts, its `/metrics`",
    ),
    "failed_requests": CheckText(
        "requests of a load got no complete answer, and their share is above `max_errors`",
        "outcomes of the requests",
    ),
    "client_slip": CheckText(
        "5% of a load's requests were sent later than a twentieth of the time to the first token, "
        "or the client's event loop was so late",
        "the client's clock",
    ),
    "client_busy": CheckText(
        "the process that sends a load, or the busiest of `llm.client_processes`, computed on 70% "
        "of a core or more",
        "its CPU time, without busy waits",
    ),
    "rate_not_reached": CheckText(
        "a load sent less than 98% of the requests per second that it asks for",
        "the client's clock",
    ),
    "other_lengths": CheckText(
        "answers to a load have another number of tokens than was asked for",
        "the server's counts",
    ),
    "over_saturated": CheckText(
        "the requests in flight grew over the first, second and last third of an open load, each "
        "time by more than chance, the time of a first answer left out; slow growth in a short "
        "load is not found",
        "due and end times of the requests",
    ),
    "server_restarted": CheckText(
        "the output tokens that the server at `llm.url`, or a replica, had counted since its start "
        "became fewer between two samples of a session",
        "the server's `/metrics`",
    ),
    "cut_short": CheckText(
        "a replay generated fewer tokens than were recorded",
        "output tokens",
    ),
    "other_work": CheckText(
        "a replay generated more tokens, had another prompt, or found less of it in the cache",
        "token ids",
    ),
    "traced": CheckText(
        "a tracer, profiler or debugger was on in the engine's process",
        "[its own state](../fitness.md#tracers-and-debug-modes)",
    ),
    "debug_mode": CheckText(
        "Python or its libraries ran in a debug mode there",
        "its own state, variables, libraries",
    ),
    "threads_beyond_cores": CheckText(
        "`n_threads` or `n_threads_batch` is above the usable cores",
        "configuration",
    ),
    "other_backend": CheckText(
        "the engine's build computes on another backend than the baseline's",
        "`libggml-*` of the engine",
    ),
    "other_layers": CheckText(
        "another number of layers is on the GPU than in the baseline, or on the base side",
        "llama.cpp's load report",
    ),
    "other_threads": CheckText(
        "`n_threads` or `n_threads_batch` differs",
        "configuration",
    ),
    "other_build": CheckText(
        "the engine was compiled with other flags",
        "`llama_print_system_info`",
    ),
}
