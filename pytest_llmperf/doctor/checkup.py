"""The steps of a diagnosis: load, measure, find causes, and try their remedies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

from pytest_llmperf.diagnosis.cause import FoundCause
from pytest_llmperf.diagnosis.registry import examine
from pytest_llmperf.diagnosis.situation import (
    Hardware,
    Situation,
    WorkloadSize,
    look_at_hardware,
    model_size,
)
from pytest_llmperf.diagnosis.sizes import mapped_bytes
from pytest_llmperf.doctor.bench import Bench, Measured
from pytest_llmperf.doctor.probe import Probe, Sizes, probe
from pytest_llmperf.doctor.server import ServerCheck, look_at_running, server_load, short_load
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.server.counters import NOT_PUBLISHED
from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.machine.fitness import HostNeeds, worst_of_each
from pytest_llmperf.machine.gpu.telemetry import Telemetry
from pytest_llmperf.measure.fresh_model import read_model_again
from pytest_llmperf.measure.roofline import Limit
from pytest_llmperf.session.machine_watch import WatchSettings
from pytest_llmperf.session.roofline import RooflineMeter, RooflineShare
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from pytest_llmperf.doctor.gain import RemedyGain
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.engine.launch import LaunchSpec
    from pytest_llmperf.fitness_checks import Severity

#: Largest part of the budget for one replay, so that there is time for pairs of them.
_REPLAY_PART = 1 / 60
#: Largest part of the budget for measuring the configuration itself.
_MEASURE_PART = 0.4
#: Note about the checks that are left out for a server.
_NOT_OF_SERVERS = (
    "not checked, because a server does not report them: its build, threads, layer placement and "
    "memory limit; its settings are not tried either: llmperf tune searches the arguments of "
    "llm.start, --llmperf-against-config compares two commands"
)


@dataclass(frozen=True)
class CheckupFinding(FoundCause):
    """A cause that was found, and the gain of its remedy.

    Attributes:
        gain: the measured gain; None if the remedy was not tried.
    """

    gain: RemedyGain | None = None

    @property
    def is_kept_untried(self) -> bool:
        """Whether it is reported as a finding even if its remedy is not tried."""
        return self.evidence.certain or bool(self.evidence.saves)

    @property
    def slower(self) -> float:
        """How many times slower the cause makes the run: measured if possible, else estimated."""
        if self.gain is not None and self.gain.outcome == "gain":
            return self.gain.largest
        return self.evidence.slower


@dataclass
class Checkup:
    """Results of a diagnosis so far.

    Attributes:
        situation: the known facts; None before the engine was loaded.
        probe: the workload; None if none could be run.
        measured: the configuration's own speed; None if it was not measured.
        findings: causes found, the most costly first.
        without_gain: remedies that were tried without gain.
        not_tried: remedies worth trying that were not tried, or not to the end.
        server: observations of a server; None for another engine.
        together: gain of all helpful remedies together; None unless tried.
        notes: further remarks for the reader, a sentence each.
        error: why the engine could not be loaded or measured; empty if it could.
        interrupted: whether the user stopped it.
    """

    situation: Situation | None = None
    probe: Probe | None = None
    measured: Measured | None = None
    findings: list[CheckupFinding] = field(default_factory=list)
    without_gain: list[CheckupFinding] = field(default_factory=list)
    not_tried: list[CheckupFinding] = field(default_factory=list)
    server: ServerCheck | None = None
    together: RemedyGain | None = None
    notes: list[str] = field(default_factory=list)
    error: str = ""
    interrupted: bool = False


class Doctor:
    """Diagnoses one configuration.

    Args:
        spec: how its engine is started.
        sizes: sizes of the workload.
        budget: seconds to measure in, loading not counted.
        severities: configured severities of fitness findings.
        try_remedies: whether to try remedies by measuring.
        say: called with a line when a step begins.
    """

    def __init__(
        self,
        spec: LaunchSpec,
        sizes: Sizes,
        budget: float,
        severities: Mapping[str, Severity],
        *,
        try_remedies: bool,
        say: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._sizes = sizes
        self._budget = budget
        self._severities = severities
        self._try = try_remedies
        self._say = say
        self._began = 0.0
        self._start_seconds = 0.0
        self._telemetry: Telemetry | None = None
        self.checkup = Checkup()

    def run(self) -> Checkup:
        """Run the whole diagnosis; results found before Ctrl-C are kept."""
        try:
            self._diagnose()
            return self.checkup
        except KeyboardInterrupt:
            pass
        finally:
            if self._telemetry is not None:
                self._telemetry.close()
        self.checkup.interrupted = True
        self._sort()
        return self.checkup

    def _diagnose(self) -> None:
        checkup, hardware = self.checkup, look_at_hardware()
        if self._spec.kind.may_use_gpu:
            # Before any engine starts, so that others' use of the cards is known.
            self._telemetry = Telemetry.open()
        config = self._spec.config
        size = WorkloadSize(0, 0, 0)
        if self._sizes.prompt_tokens is not None:
            output = self._sizes.max_tokens or 0
            size = WorkloadSize(
                self._sizes.prompt_tokens, output, self._sizes.prompt_tokens + output, True
            )
        known = Situation(config, hardware, None, size, model_bytes=model_size(config))
        info, error = self._load(known)
        checkup.error = error
        if checkup.situation is None:
            checkup.situation = replace(known, info=info, load_error="" if info else error)
        self._examine()
        if checkup.probe is None or info is None:
            return
        bench = Bench(
            self._spec,
            checkup.probe,
            self._start_seconds,
            self._budget,
            self._watch(info, hardware),
        )
        self._say("measuring the configuration as it is")
        measured = bench.measure(self._budget * _MEASURE_PART)
        checkup.measured, checkup.error = measured, measured.error
        checkup.situation = replace(
            checkup.situation,
            metrics={name: _middle(rows) for name, rows in measured.rows.items()},
            findings=worst_of_each(measured.findings),
        )
        self._examine()
        if not measured.error and checkup.server is not None:
            self._send_load(bench, info)
        if not measured.error:
            self._try_all(bench)

    def _send_load(self, bench: Bench, info: EngineInfo) -> None:
        """Send a short load to a server, and look for causes in its counters."""
        checkup = self.checkup
        assert checkup.situation is not None
        assert checkup.probe is not None
        assert checkup.server is not None
        checkup.notes.append(_NOT_OF_SERVERS)
        seconds = checkup.probe.seconds
        pattern = short_load(info.slots, seconds, self._budget, self._sizes.at_once)
        if pattern is None:
            checkup.notes.append(
                f"no load was sent, because one answer takes {format_duration(seconds)}: raise "
                "--budget, or set a load with --concurrency"
            )
            return
        self._say(f"sending a load: {pattern}")
        samples = bench.send_load(pattern, self._budget)
        load = server_load(pattern, samples)
        if load is None:
            checkup.notes.append(f"the load failed: {samples.error or 'no request was answered'}")
            return
        why = checkup.server.no_counters
        if not any(load.figures.servers.values()) and not why:
            why = NOT_PUBLISHED
        checkup.server = replace(checkup.server, load=load, no_counters=why)
        findings = [f for s in (*samples.processes, *samples.voided) for f in s.findings]
        checkup.notes += [
            f"under load: {finding.text}"
            for finding in findings
            if finding.name in CHECKS and CHECKS[finding.name].origin == "measurement"
        ]
        checkup.situation = replace(
            checkup.situation,
            loads=(load.figures,),
            uses=(load.figures.use,),
            findings=worst_of_each([*checkup.situation.findings, *findings]),
        )
        self._examine()

    def _load(self, known: Situation) -> tuple[EngineInfo | None, str]:
        """Load the engine and run the workload once; return its load report and the error."""
        self._say("starting the engine" if self._spec.kind.loads else "loading the model")
        read_model_again(self._spec)
        began = time.monotonic()
        try:
            client = EngineClient.start(self._spec)
        except EngineError as error:
            return None, str(error)
        self._start_seconds = time.monotonic() - began
        self._began = time.monotonic()
        self.checkup.situation = replace(known, info=client.info)
        # Keep the load report in case the workload hangs or is interrupted.
        self._examine()
        if self._spec.kind.loads:
            runs = self._spec.config.get("url")
            self.checkup.server = look_at_running(self._spec.config) if runs else ServerCheck()
        try:
            probed = probe(client, self._sizes, self._budget * _REPLAY_PART)
        except EngineError as error:
            return client.info, f"the engine loads, and can't generate: {error}"
        except BaseException:
            client.kill()
            raise
        finally:
            client.close()
        self.checkup.probe = probed
        self.checkup.situation = replace(self.checkup.situation, workload_size=probed.size)
        if probed.shortened:
            self.checkup.notes.append(
                f"the workload was shortened to {probed.size.prompt_tokens} prompt and "
                f"{probed.size.output_tokens} output tokens to fit the budget; set its size with "
                "--prompt-tokens and --max-tokens, or raise --budget"
            )
        return client.info, ""

    def _watch(self, info: EngineInfo, hardware: Hardware) -> WatchSettings:
        """Return the settings of the watch; a disturbed machine is reported, not waited for."""
        cores = hardware.usable_cpus
        # The thread count of an engine without llama.cpp's settings is unknown: at least one.
        threads, mapped = 1, 0
        if self._spec.kind.uses_llama_settings:
            threads = max(info.n_threads, info.n_threads_batch)
            assert self.checkup.situation is not None
            mapped = mapped_bytes(self.checkup.situation)
        need = HostNeeds(mapped, threads, min(cores, threads))
        return WatchSettings(need, self._severities, self._telemetry, diagnosing=True)

    def _examine(self) -> None:
        """Look for causes again, without trying remedies."""
        checkup = self.checkup
        assert checkup.situation is not None
        causes = examine(checkup.situation)
        findings = [CheckupFinding(found.cause, found.evidence) for found in causes]
        checkup.findings = [finding for finding in findings if finding.is_kept_untried]
        checkup.not_tried = [finding for finding in findings if not finding.is_kept_untried]

    def _try_all(self, bench: Bench) -> None:
        checkup = self.checkup
        assert checkup.situation is not None
        waiting = [
            untried
            for untried in sorted((*checkup.findings, *checkup.not_tried), key=lambda f: -f.slower)
            if untried.evidence.remedy.settings
        ]
        if not self._try or not waiting:
            return
        unfit = next((f for f in checkup.situation.findings if f.severity == "invalid"), None)
        if unfit is not None:
            checkup.notes.append(
                f"no change was tried because the machine is disturbed: {unfit.text}"
            )
            return
        helpful = 0
        for number, finding in enumerate(waiting):
            remedy = finding.evidence.remedy
            left = self._left()
            if left < 2 * bench.pair_seconds():
                checkup.notes.append(
                    "the time budget ran out before everything was tried: raise --budget"
                )
                break
            self._say(f"trying {remedy.change} ({number + 1} of {len(waiting)})")
            gain = bench.attempt(remedy.settings, left / (len(waiting) - number))
            self._file(finding, gain)
            if gain.outcome == "gain":
                bench.adopt(remedy.settings, gain)
                helpful += 1
        self._sort()
        if helpful > 1 and self._left() >= 2 * bench.pair_seconds(adopted=False):
            self._say("trying all that helped together")
            checkup.together = bench.attempt_adopted(self._left())

    def _file(self, finding: CheckupFinding, gain: RemedyGain) -> None:
        """Move a tried remedy to the list for its outcome."""
        checkup = self.checkup
        for group in (checkup.findings, checkup.not_tried):
            if finding in group:
                group.remove(finding)
        tried = replace(finding, gain=gain)
        kept = finding.is_kept_untried and gain.outcome in ("undecided", "failed")
        saves = finding.evidence.saves and gain.outcome == "no gain"
        if gain.outcome == "gain" or kept or saves:
            checkup.findings.append(tried)
        elif gain.outcome == "undecided":
            checkup.not_tried.append(tried)
        else:
            checkup.without_gain.append(tried)

    def _sort(self) -> None:
        self.checkup.findings.sort(key=lambda finding: -finding.slower)

    def _left(self) -> float:
        return self._began + self._budget - time.monotonic()


def _middle(rows: tuple[tuple[float, ...], ...]) -> float:
    return median(median(row) for row in rows)


def limit_of(checkup: Checkup) -> RooflineShare | None:
    """Return the roofline limit of decoding and the share of it that was reached.

    None if either is unknown: an application, a machine too busy to measure its
    bandwidth, a workload without a decode step. Call it while no engine is running.
    """
    situation, probe, measured = checkup.situation, checkup.probe, checkup.measured
    info = situation.info if situation is not None else None
    rows = measured.rows.get("tokens_per_sec") if measured is not None else None
    if info is None or probe is None or not rows or checkup.interrupted:
        return None
    meter = RooflineMeter()
    meter.is_asked = True
    meter.prepare(info)
    limit = meter.limit_of(info, probe.workload)
    if not isinstance(limit, Limit):
        return None
    return RooflineShare(limit, limit.share(_middle(rows)))
