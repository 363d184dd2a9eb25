"""Runs a comparison of stored sessions: a request in, a ``ComparisonResult`` out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.compare.judge import ComparisonRules, judge_pair
from pytest_llmperf.compare.pairing import Selection, pair_sides
from pytest_llmperf.compare.sources import SideSources
from pytest_llmperf.config.load import load_config
from pytest_llmperf.config.project import ProjectFolders
from pytest_llmperf.units import without_calibration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_llmperf.compare.result import ComparisonResult


@dataclass(frozen=True)
class ComparisonRequest:
    """Everything that a user asks of a comparison.

    Attributes:
        base: names the stored sessions to compare with: a commit, a folder or a file.
        candidate: names the stored sessions to judge.
        selection: which machine and model.
        baselines: the folder of a commit's baselines; None for the configured one.
        tolerance: the slowdown to catch, a fraction; None for the configured one.
        metrics: names of the metrics to judge; None for those that the gate would judge.
        strict: whether an inconclusive comparison fails.
    """

    base: str
    candidate: str
    selection: Selection
    baselines: Path | None = None
    tolerance: float | None = None
    metrics: tuple[str, ...] | None = None
    strict: bool = False


def compare(
    request: ComparisonRequest, folder: Path, environ: Mapping[str, str]
) -> ComparisonResult:
    """Compare the stored sessions that a request names.

    Args:
        request: what to compare.
        folder: the current folder; the project around it has the configuration.
        environ: environment variables, which may hold settings, too.

    Raises:
        CompareError: the sessions cannot be compared.
        BaselineError: a stored file cannot be used.
        ConfigError: the project's configuration is wrong.
        GitError: git cannot read a commit.
    """
    project = ProjectFolders.around(folder)
    loaded = load_config(None, project, environ)
    layer = loaded.provenance.get("perf.baselines", "")
    sources = SideSources(
        project,
        request.baselines or loaded.baselines_dir,
        fixed=request.baselines is not None or layer.startswith("environment"),
    )
    base, candidate = sources.side(request.base), sources.side(request.candidate)
    perf = loaded.config.perf
    rules = ComparisonRules(
        tolerance=without_calibration(
            perf.tolerance if request.tolerance is None else request.tolerance
        ),
        false_alarms=perf.false_alarms,
        use_report_tolerances=request.tolerance is None,
        use_calibrated_tolerances=request.tolerance is None and perf.tolerance == "auto",
        metrics=request.metrics,
        targets=tuple(perf.targets),
    )
    return judge_pair(pair_sides(base, candidate, request.selection), rules, request.strict)
