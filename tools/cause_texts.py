"""The sign of each cause and the change that removes it, for the reference documentation."""

from __future__ import annotations

from typing import NamedTuple


class CauseText(NamedTuple):
    """The documentation of a cause.

    Attributes:
        sign: how it shows in general; a finding has the numbers.
        change: the change that removes it; Markdown.
    """

    sign: str
    change: str


#: Texts by the cause's name.
CAUSE_TEXTS: dict[str, CauseText] = {
    "cpu_only_build": CauseText(
        "a CPU-only build, and a card worth computing on: NVML, `/dev/nvidia0`, or an AMD card "
        "with memory of its own",
        '`CMAKE_ARGS="-DGGML_CUDA=on" pip install ...`',
    ),
    "no_gpu_visible": CauseText(
        "llama.cpp lists no device; `CUDA_VISIBLE_DEVICES` and the driver are checked",
        "unset the variable, repair the driver, give the container its GPU",
    ),
    "layers_not_asked": CauseText(
        "fewer layers asked for than fit in the card's free memory",
        "`n_gpu_layers: -1`, or as many as fit; tried",
    ),
    "gpu_memory_short": CauseText(
        "fewer layers than asked, or a buffer that could not be allocated",
        "a quantized KV cache where that is enough (tried), else a quantization of at most the "
        "stated size",
    ),
    "kv_cache_on_cpu": CauseText(
        "`offload_kqv: false` with layers on the GPU",
        "`offload_kqv: true`; tried",
    ),
    "threads_above_cores": CauseText(
        "threads against the CPUs this process may use (affinity and quotas counted)",
        "`n_threads: 4`; tried",
    ),
    "threads_too_few": CauseText(
        "the same; worth trying only",
        "`n_threads: 8`; tried",
    ),
    "build_below_avx2": CauseText(
        "the CPU has AVX2, the engine's own report names none",
        '`CMAKE_ARGS="-DGGML_NATIVE=OFF" pip install ...`',
    ),
    "flash_attention_off": CauseText(
        "with layers on the GPU; on a CPU where a fifth of what decoding reads is KV cache; "
        "worth trying only",
        "`flash_attn: true`; tried",
    ),
    "batch_small": CauseText(
        "`n_batch` or `n_ubatch` below 512 and below the prompt; worth trying only",
        "`n_ubatch: 512`; tried",
    ),
    "context_large": CauseText(
        "four times what the workload uses or more, for half of the model's size or more; saves "
        "that memory; certain where it is short, or the load fails",
        "`n_ctx: 2048`; tried",
    ),
    "weights_not_quantized": CauseText(
        "15 bits or more for a weight, and 64 MiB or more of them; worth trying only",
        "`model_path` of a quantization in the same folder, named as `llmperf model quantize` "
        "does; tried. Without one, that command",
    ),
    "memory_short": CauseText(
        "what is on no GPU exceeds the machine's memory or its control group's limit, or the "
        "load fails",
        "a quantization of at most the stated size",
    ),
    "not_mapped": CauseText(
        "`use_mmap: false`, with weights in system memory; saves that memory; certain where pages "
        "are read back from swap",
        "`use_mmap: true`; tried",
    ),
    "swapping": CauseText(
        "pages read back from swap",
        "close programs that hold memory",
    ),
    "requests_queued": CauseText(
        "a request in the server's queue in a third of the readings of `/metrics` or more, while "
        "its KV cache has room",
        "`--max-num-seqs` (vLLM), `--max-running-requests`, `--schedule-conservativeness` "
        "(SGLang), `--parallel` with `--ctx-size` (llama-server), fewer requests at once, or "
        "another server",
    ),
    "requests_preempted": CauseText(
        "preemptions (vLLM) or retractions (SGLang) counted during the load",
        "`--gpu-memory-utilization`, `--kv-cache-dtype fp8` (vLLM), `--mem-fraction-static` "
        "(SGLang), or fewer requests at once",
    ),
    "kv_cache_full": CauseText(
        "95% of the server's KV cache or more in use; worth a look only, unless requests wait too",
        "as for `requests_preempted`; `--ctx-size`, `--cache-type-k` (llama-server)",
    ),
    "fewer_cache_hits": CauseText(
        "the server's cache served a share of the prompt tokens that is 10 points below the other "
        "side's",
        "`--enable-prefix-caching` (vLLM), no `--disable-radix-cache` (SGLang), `--cache-prompt` "
        "(llama-server)",
    ),
    "prompts_stall_answers": CauseText(
        "chunks come later while another request waits for its first token, by 10% of the time "
        "between chunks or more; worth a look only, below 25%",
        "smaller pieces of prompts: `--max-num-batched-tokens` (vLLM), `--chunked-prefill-size` "
        "(SGLang), `--batch-size` (llama-server)",
    ),
    "replica_idle": CauseText(
        "a replica of `llm.replicas` generated nothing during a load, by more than chance (1 in "
        "256)",
        "the balancer's list of servers, its health checks, no session affinity",
    ),
    "replica_overloaded": CauseText(
        "a replica generated 1.5 times its even share of a load's tokens or more, and by more than "
        "chance (1 in 256)",
        "round robin or least connections, no session affinity",
    ),
    "other_traffic": CauseText(
        "the server generated over 10% more tokens than the requests asked for, and one more for "
        "each answer",
        "stop the other clients",
    ),
    "gpu_lost": CauseText(
        "NVML",
        "reset the card",
    ),
    "cpu_quota": CauseText(
        "the control group's throttling",
        "raise the quota",
    ),
    "busy_gpu": CauseText(
        "NVML; a desktop does not count",
        "`close process 4242 (train)`",
    ),
    "busy_cores": CauseText(
        "CPU time of others while measuring",
        "`close process 4242 (stress)`",
    ),
    "memory_pressure": CauseText(
        "the kernel's pressure account",
        "close programs that hold memory",
    ),
    "gpu_throttled": CauseText(
        "NVML's clock event reasons",
        "cool the card",
    ),
    "cpu_throttled": CauseText(
        "the kernel's count of thermal throttling",
        "cool the CPU",
    ),
    "stolen_cores": CauseText(
        "steal time of a virtual machine",
        "cores of its own",
    ),
    "gpu_power_cap": CauseText(
        "at a power limit below the card's default",
        "`nvidia-smi -pl WATTS`",
    ),
    "cpu_governor": CauseText(
        "the kernel's governor; worth a look only",
        "`cpupower frequency-set -g performance`",
    ),
    "gpu_pcie": CauseText(
        "the link against its maximum; a finding where layers are on both sides of it",
        "seat the card in a slot of its full width",
    ),
    "traced": CauseText(
        "`sys.settrace`, `sys.setprofile`, `sys.monitoring` and debuggers in the engine's process",
        "run without it",
    ),
    "debug_mode": CauseText(
        "variables, sanitizers and debug builds in the engine's process",
        "unset the variable",
    ),
    "unfit_machine": CauseText(
        "any other fitness check that makes a run invalid",
        "as the check says",
    ),
}
