"""Gathers the facts for verdicts: machine, model, code and baselines."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf import __version__
from pytest_llmperf.baselines.calibrations import (
    CALIBRATIONS_VARIABLE,
    StoredCalibration,
    model_key,
    read_calibrations,
)
from pytest_llmperf.baselines.match import BaselineSet
from pytest_llmperf.baselines.record import Loaded, ModelIdentity, Provenance
from pytest_llmperf.baselines.store import BaselineStore
from pytest_llmperf.config.extra_hashes import without_extra_values
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine_kinds import UNKNOWN_BACKEND
from pytest_llmperf.machine.fingerprint import Machine, read_machine
from pytest_llmperf.machine.fitness import HostNeeds
from pytest_llmperf.machine.gpu.devices import Gpu, GpuReading, read_gpus
from pytest_llmperf.machine.gpu.telemetry import Telemetry
from pytest_llmperf.repository.state import read_provenance
from pytest_llmperf.session.baseline_source import read_baselines
from pytest_llmperf.session.machine_watch import WatchSettings
from pytest_llmperf.session.roofline import RooflineMeter

if TYPE_CHECKING:
    from pytest_llmperf.config.llm_section import LlmConfig
    from pytest_llmperf.session.base_side import BaseSide
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.setup import EngineSetup
    from pytest_llmperf.session.tolerances import Tolerances


@dataclass(frozen=True)
class SessionFacts:
    """The basis of a session's verdicts, besides its samples.

    Attributes:
        machine: the fingerprint of this machine.
        provenance: provenance of the code under test.
        model: the identity of the model's files.
        info: what the engine loaded.
        config: the resolved ``llm`` section, with paths as the user wrote them and ``extra``
            as hashes.
        store: where baselines live.
        baselines: matching and refused stored sessions, and the nearest other machine.
        notes: notes on the whole session, one line each.
        gpus: the GPUs that NVML sees.
        watch: how the machine is watched during engine processes.
        calibrations: the A/A calibrations of this machine, model and configuration, oldest first.
        tolerances: tolerances from calibrations, by node id and metric.
    """

    machine: Machine
    provenance: Provenance
    model: ModelIdentity
    info: EngineInfo
    config: dict[str, Any]
    store: BaselineStore
    baselines: BaselineSet
    notes: tuple[str, ...]
    gpus: GpuReading
    watch: WatchSettings
    calibrations: tuple[StoredCalibration, ...] = ()
    tolerances: Tolerances = field(default_factory=dict)

    @property
    def calibration(self) -> dict[str, Any] | None:
        """The noise in the newest calibration, as a record stores it; None without one."""
        return self.calibrations[-1].summary() if self.calibrations else None

    @property
    def loaded(self) -> Loaded:
        """The facts about the loaded engine that a record stores."""
        return Loaded.of(self.info)

    def for_test(self, test: RecordedTest) -> SessionFacts:
        """Return these facts with the settings and engine of a test's sweep cell, if it has one."""
        cell = test.cell
        if cell is None:
            return self
        return replace(self, config=cell.config, info=cell.info or self.info)

    @property
    def roofline(self) -> RooflineMeter:
        """The meter that computes the limits set by this machine's memory."""
        return self.watch.roofline

    @contextmanager
    def watching(
        self, base: BaseSide | None, setup: EngineSetup, tests: Sequence[RecordedTest]
    ) -> Iterator[SessionFacts]:
        """Provide these facts for a comparison with a base side, whose engine is watched, too.

        Telemetry that only the base needs ends with the context.
        """
        # All engines share one need, or load would void the samples of only some of them.
        sides = [setup.llm, *(test.cell.setup.llm for test in tests if test.cell is not None)]
        sides += [llm for test in tests if base and (llm := base.for_test(test).llm)]
        sides += [base.llm] if base is not None and base.llm is not None else []
        uses = any(map(_may_use_gpu, sides))
        opened, telemetry = None, self.watch.telemetry
        # Other processes on a GPU matter only if an engine uses one.
        if telemetry is None and uses and self.gpus.gpus:
            opened = telemetry = Telemetry.open({**os.environ, **setup.spec.env})
        watch = replace(
            self.watch,
            need=replace(self.watch.need, threads=max(map(_needed_cores, sides))),
            telemetry=telemetry,
            no_gpu="" if telemetry is not None else _why_no_gpu(self.gpus, uses=uses),
        )
        try:
            yield replace(self, watch=watch)
        finally:
            if opened is not None:
                opened.close()


@contextmanager
def gather_facts(
    context: SessionContext,
    info: EngineInfo,
    base: BaseSide | None = None,
    tests: Sequence[RecordedTest] = (),
) -> Iterator[SessionFacts]:
    """Inspect machine, model, repository and baselines, while no engine holds a device.

    Telemetry ends with the context.

    Args:
        context: the session's context.
        info: what its engine loaded.
        base: the base side, or None.
        tests: the tests to measure.

    Raises:
        BaselineError: stored sessions can't be used.
        GitError: the commit whose baselines count can't be read.
    """
    setup, llm = context.setup, context.setup.llm
    backend = llm.kind.backend_name
    reading = read_gpus()
    machine = _machine(backend, reading, info)
    git = read_provenance(context.root, context.baselines_dir)
    model = ModelIdentity(
        name=info.model_name,
        sha256=setup.model.sha256() if setup.model is not None else None,
        size_bytes=info.file_bytes or None,
        quantization=info.quantization or None,
    )
    resolved = without_extra_values(llm.resolved())
    store = BaselineStore(context.baselines_dir)
    calibrated = Path(os.environ.get(CALIBRATIONS_VARIABLE) or store.root)
    calibrations, broken = read_calibrations(calibrated / machine.key)
    alike = [c for c in calibrations if not c.plant and c.is_of(model_key(model), resolved)]
    baselines, remarks = read_baselines(store, machine, model, context.request.baselines_from)
    notes = [*setup.loaded.warnings, *broken, *remarks]
    if git.problem:
        notes.append(f"no commit is recorded, because git can't be used: {git.problem}")
    if reading.problem:
        notes.append(reading.problem)
    elif not reading.gpus and info.gpu is not None and info.gpu.layers_on_gpu:
        notes.append("GPU load, memory, power and heat are not monitored: NVML sees no GPU here")
    facts = SessionFacts(
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
        gpus=reading,
        watch=WatchSettings(
            HostNeeds(
                info.mapped_bytes(locked=resolved.get("use_mlock", False)), cores=usable_cpus()
            ),
            setup.perf.fitness,
            roofline=RooflineMeter(check for test in tests for check in test.checks),
        ),
        calibrations=tuple(alike),
    )
    with facts.watching(base and base.for_tests(tests), setup, tests) as watched:
        yield watched


def machine_before_loading(llm: LlmConfig) -> Machine | None:
    """Return this machine if it can be identified without loading an engine; else None.

    Only an engine knows GPUs of vendors other than NVIDIA.
    """
    reading, backend = read_gpus(), llm.kind.backend_name
    if not reading.gpus and backend not in ("cpu", UNKNOWN_BACKEND):
        return None
    return _machine(backend, reading, None)


def _machine(backend: str, reading: GpuReading, info: EngineInfo | None) -> Machine:
    return read_machine(
        "cpu" if backend == UNKNOWN_BACKEND and not reading.gpus else backend,
        _gpus(reading.gpus, info),
        driver=reading.driver,
        # Includes cards hidden by CUDA_VISIBLE_DEVICES.
        present=_gpus(read_gpus({}).gpus, info),
    )


def _may_use_gpu(llm: LlmConfig) -> bool:
    """Whether an engine may use a GPU; True if its backend is unknown."""
    off = llm.kind.uses_llama_settings and llm.resolved()["n_gpu_layers"] == 0
    return llm.kind.may_use_gpu and not off


def _why_no_gpu(reading: GpuReading, *, uses: bool) -> str:
    if not reading.gpus:
        return (
            reading.problem
            or "NVML, NVIDIA's library, sees no GPU here; remove the marker, or measure on a "
            "machine that has one"
        )
    if not uses:
        return (
            "the engine uses no GPU (a CPU build of llama.cpp, or n_gpu_layers: 0); remove the "
            "marker, or put layers on the GPU"
        )
    return "the NVIDIA driver stopped answering"


def _gpus(seen: tuple[Gpu, ...], info: EngineInfo | None) -> tuple[Gpu, ...]:
    """Return the GPUs NVML sees, or else those the engine names: other vendors' cards."""
    if seen or info is None or info.gpu is None:
        return seen
    return tuple(
        Gpu(name=device.description or device.name)
        for device in info.gpu.devices
        if device.name != "CPU"
    )


def _needed_cores(llm: LlmConfig) -> int:
    """Return how many cores the engine keeps busy.

    An engine without llama.cpp's settings counts as one core, unless its threads are a number.
    """
    resolved = llm.resolved()
    asked = [
        resolved[name]
        for name in ("n_threads", "n_threads_batch")
        if llm.kind.uses_llama_settings or getattr(llm, name, "auto") != "auto"
    ]
    return max(asked, default=1)
