"""What is known of machine, model, code and baselines once the bodies have run."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf import __version__
from pytest_llmperf.baselines.calibrations import model_key, read_calibrations
from pytest_llmperf.baselines.loaded import Loaded
from pytest_llmperf.baselines.match import BaselineSet
from pytest_llmperf.baselines.record import ModelIdentity, Provenance
from pytest_llmperf.baselines.store import BaselineStore
from pytest_llmperf.config.model_hash import model_sha256
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.installed import installed_backend
from pytest_llmperf.environment.busy import BusyReport, LoadWatch
from pytest_llmperf.environment.fitness import FitnessFinding, judge, with_severities
from pytest_llmperf.environment.gpus import Gpu, read_gpus
from pytest_llmperf.environment.host import HostReport, HostWatch
from pytest_llmperf.environment.host_fitness import Need, judge_host
from pytest_llmperf.environment.machine import Machine, read_machine
from pytest_llmperf.fitness_checks import Severity
from pytest_llmperf.plugin.against import current_against
from pytest_llmperf.plugin.baseline_source import read_baselines
from pytest_llmperf.plugin.options import Options
from pytest_llmperf.plugin.settings import Settings
from pytest_llmperf.repository.provenance import read_provenance
from pytest_llmperf.timeline import Timeline

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import LlmConfig


#: Seconds of watching after which an unfit machine is given up on for this process.
_CLEARLY_S = 5.0


@dataclass(frozen=True)
class SessionFacts:
    """What the verdicts of a session rest on besides its samples.

    Attributes:
        machine: the fingerprint of this machine.
        provenance: of the code under test.
        model: the model file's identity.
        info: what the engine loaded.
        config: the resolved ``llm`` section, paths as the user wrote them.
        store: where baselines live.
        baselines: those that match, those refused, and the nearest other machine.
        notes: about the whole session, one line each.
        n_threads: most threads the engine of any arm uses at once.
        watch_gpu: whether the engine of any arm may use a GPU that NVML can watch.
        calibration: what the newest A/A calibration of this machine, model and configuration
            said, or None.
        severities: the configured ones of fitness checks, by name.
    """

    machine: Machine
    provenance: Provenance
    model: ModelIdentity
    info: EngineInfo
    config: dict[str, Any]
    store: BaselineStore
    baselines: BaselineSet
    notes: tuple[str, ...]
    n_threads: int
    watch_gpu: bool
    calibration: dict[str, Any] | None = None
    severities: Mapping[str, Severity] = field(default_factory=dict)

    @property
    def loaded(self) -> Loaded:
        """What a record keeps of what the engine loaded."""
        return Loaded.of(self.info)

    @property
    def need(self) -> Need:
        """What the engine needs of its host."""
        return Need(_mapped_bytes(self.info, self.config), self.n_threads, usable_cpus())


def gather_facts(config: pytest.Config, settings: Settings) -> SessionFacts:
    """Look at machine, model, repository and baselines."""
    info = settings.engine.last_info or settings.engine.info
    llm = settings.loaded.config.llm
    backend = _backend(llm)
    against = current_against(config)
    arms = [llm] if against is None or against.llm is None else [llm, against.llm]
    reading = read_gpus()
    machine = read_machine(
        "cpu" if backend == "app" and not reading.gpus else backend,
        _gpus(reading.gpus, info),
        driver=reading.driver,
        # What CUDA_VISIBLE_DEVICES hides is in the machine all the same.
        present=_gpus(read_gpus({}).gpus, info),
    )
    baselines_dir = settings.loaded.baselines_dir
    git = read_provenance(config.rootpath, baselines_dir)
    model = ModelIdentity(
        name=info.model_name,
        sha256=model_sha256(settings.model_file) if settings.model_file is not None else None,
        size_bytes=info.file_bytes or None,
        quantization=info.quantization or None,
    )
    resolved = llm.resolved()
    store = BaselineStore(baselines_dir)
    calibrations, broken = read_calibrations(store.root / machine.key)
    alike = [one for one in calibrations if not one.plant and one.is_of(model_key(model), resolved)]
    asked = Options.of(config).baselines_from
    baselines, told = read_baselines(store, machine, model, asked)
    notes = [*settings.loaded.warnings, *broken, *told]
    if reading.problem:
        notes.append(reading.problem)
    return SessionFacts(
        machine=machine,
        provenance=Provenance(
            commit=git.commit,
            dirty=git.dirty,
            branch=git.branch,
            plugin=__version__,
            python=platform.python_version(),
            engine=info.engine,
            engine_version=info.engine_version,
            backend=backend,
        ),
        model=model,
        info=info,
        config=resolved,
        store=store,
        baselines=baselines,
        notes=tuple(notes),
        # Both arms are watched with one need, or load would void the samples of one of them only.
        n_threads=max(_needed_cores(arm, arm.resolved()) for arm in arms),
        # A stranger on a card that no engine uses is no business of ours.
        watch_gpu=bool(reading.gpus)
        and any(_may_use_gpu(_backend(arm), arm.resolved()) for arm in arms),
        calibration=alike[-1].summary() if alike else None,
        severities=settings.loaded.config.perf.fitness,
    )


def _backend(llm: LlmConfig) -> str:
    return installed_backend() if llm.engine == "llama_cpp" else "app"


def _may_use_gpu(backend: str, resolved: dict[str, Any]) -> bool:
    """Whether an engine may use a GPU; what an application does nobody can tell."""
    return backend == "app" or (backend != "cpu" and resolved["n_gpu_layers"] != 0)


def _gpus(seen: tuple[Gpu, ...], info: EngineInfo) -> tuple[Gpu, ...]:
    """Return the GPUs NVML sees, or else those the engine names: other vendors' cards."""
    if seen or info.gpu is None:
        return seen
    return tuple(
        Gpu(name=device.description or device.name)
        for device in info.gpu.devices
        if device.name != "CPU"
    )


def _needed_cores(llm: LlmConfig, resolved: dict[str, Any]) -> int:
    """Return how many cores the engine keeps busy; an application is taken to need one.

    What ``auto`` stands for says nothing about an application; a number it is given does.
    """
    asked = [
        resolved[name]
        for name in ("n_threads", "n_threads_batch")
        if llm.engine != "app" or getattr(llm, name) != "auto"
    ]
    return max(asked, default=1)


def _mapped_bytes(info: EngineInfo, resolved: dict[str, Any]) -> int:
    """Return how much of the model the host reads from its file as it is needed."""
    if not resolved["use_mmap"] or resolved["use_mlock"]:
        return 0
    if info.gpu is None:
        return info.model_bytes
    return sum(device.model_bytes for device in info.gpu.devices if device.name == "CPU")


def machine_findings(
    facts: SessionFacts, load: BusyReport, host: HostReport | None = None
) -> list[FitnessFinding]:
    """Return what makes the machine unfit, as severe as configured, worst first."""
    found = judge(load, usable_cpus(), facts.n_threads)
    if host is not None:
        found += judge_host(host, facts.need)
    return with_severities(found, facts.severities)


class MachineWatch:
    """Watches the machine while one test is replayed in the process of ``client``.

    ``early`` is what was found right before, while the process started: told, and no
    reason to leave out what was measured after it.
    """

    def __init__(
        self, facts: SessionFacts, client: EngineClient, early: Sequence[FitnessFinding] = ()
    ) -> None:
        self._facts = facts
        self._client = client
        self._early = early
        self._load = LoadWatch.start(watch_gpu=facts.watch_gpu)
        self._host = HostWatch(client.pid)

    def measured(self, timelines: Sequence[Timeline]) -> Mapping[str, float]:  # noqa: ARG002
        """Nothing is measured beside an iteration yet."""
        self._host.timed()
        return {}

    def whole(self, iterations: Sequence[Sequence[Timeline]]) -> Mapping[str, float]:  # noqa: ARG002
        """Nothing is measured beside a process yet."""
        return {}

    def sample(self) -> str | None:
        """Look once more, between two replays; say why the process is clearly lost.

        An engine that waits for its cores can be fifty times slower: there is no need to
        wait for it to the end. A short window proves nothing, a neighbour may be gone again.
        """
        self._load.sample()
        self._host.look()
        report = self._load.stop()
        if report.seconds < _CLEARLY_S:
            return None
        found = machine_findings(self._facts, report, self._host.report())
        return next((str(one) for one in found if one.severity == "invalid"), None)

    def stop(self) -> Sequence[FitnessFinding]:
        """End the watch and say what was found."""
        found = machine_findings(self._facts, self._load.stop(), self._host.report())
        known = {one.name for one in found}
        return [*found, *(one for one in self._early if one.name not in known)]
