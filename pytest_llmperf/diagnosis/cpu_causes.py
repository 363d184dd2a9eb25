"""Causes on the CPU: too many or too few threads, a build for an older CPU."""

from __future__ import annotations

from pytest_llmperf.baselines.causes import beyond_cores
from pytest_llmperf.cpus import AUTO_LIMIT
from pytest_llmperf.diagnosis.cause import Cause, CauseEvidence, Remedy
from pytest_llmperf.diagnosis.gpu_causes import rebuild
from pytest_llmperf.diagnosis.situation import Situation
from pytest_llmperf.engine.installed import installed_backend
from pytest_llmperf.gate.words import count

#: Share of layers on the CPU up to which it only submits work to the GPU.
_IDLE_CPU = 0.02


def _threads(situation: Situation) -> dict[str, int]:
    llama = situation.llama
    if llama is None:
        return {}
    return {"n_threads": llama.n_threads, "n_threads_batch": llama.n_threads_batch}


def _threads_above_cores(situation: Situation) -> CauseEvidence | None:
    usable = situation.hardware.usable_cpus
    above = {key: n for key, n in _threads(situation).items() if n > usable}
    if not above:
        return None
    # The same text as in a test's report, which then shows it only once.
    (finding,) = beyond_cores(above, usable)
    remedy = Remedy.of_settings(dict.fromkeys(above, min(usable, AUTO_LIMIT)))
    busy = situation.cpu_share > _IDLE_CPU
    slower = 2.0 * max(above.values()) / usable if busy else 1.1
    return CauseEvidence(finding.text, remedy, slower, certain=busy)


def _threads_too_few(situation: Situation) -> CauseEvidence | None:
    if situation.cpu_share <= _IDLE_CPU:
        return None
    wanted = min(situation.hardware.usable_cpus, AUTO_LIMIT)
    below = {key: n for key, n in _threads(situation).items() if 0 < n < wanted}
    if not below:
        return None
    asked = " and ".join(f"{key}: {n}" for key, n in below.items())
    text = f"{asked}, and this process may use {count(situation.hardware.usable_cpus, 'CPU')}"
    slower = 1.0 + 0.7 * (wanted / min(below.values()) - 1.0)
    return CauseEvidence(
        text, Remedy.of_settings(dict.fromkeys(below, wanted)), slower, certain=False
    )


def _build_below_avx2(situation: Situation) -> CauseEvidence | None:
    llama, offered = situation.llama, situation.hardware.cpu_instructions
    if llama is None or situation.cpu_share <= _IDLE_CPU or "avx2" not in offered:
        return None
    # A build prints its flags: "CPU : SSE3 = 1 | AVX = 1 | ...". Builds without them (another
    # vendor's, another format) are not reported.
    if "SSE3 = 1" not in llama.build_flags or "AVX2 = 1" in llama.build_flags:
        return None
    text = (
        "llama.cpp was compiled without AVX2, which this CPU has: its own report names "
        f"{_sets(llama.build_flags)}"
    )
    backend = installed_backend()
    # The new build must keep the GPU code.
    gpu = f" -DGGML_{backend.upper()}=on" if llama.supports_gpu and backend != "cpu" else ""
    return CauseEvidence(text, rebuild(f"-DGGML_NATIVE=OFF{gpu}", llama.engine_version), 2.5)


def _sets(flags: str) -> str:
    flags_set = [part.split("=")[0].strip() for part in flags.partition(":")[2].split("|")]
    return ", ".join(name for name in flags_set if name and ("AVX" in name or "SSE" in name))


CPU_CAUSES = (
    Cause("threads_above_cores", "more threads than CPUs", "CPU", _threads_above_cores),
    Cause("threads_too_few", "fewer threads than CPUs", "CPU", _threads_too_few),
    Cause("build_below_avx2", "the engine was built for an older CPU", "CPU", _build_below_avx2),
)
