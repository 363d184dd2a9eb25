"""Machines and models of two sides: which are compared, refused, or only shown."""

from __future__ import annotations

import json
from collections.abc import Callable

from command_outputs import Output
from compare_sessions import KEY, OTHER_KEY, OTHER_MODEL, Project

Compare = Callable[..., Output]


def test_another_machine_is_refused_with_what_differs(
    project: Project, llmperf_compare: Compare
) -> None:
    base = project.record(1)
    judged = project.record(2, key=OTHER_KEY)
    status, out, err = llmperf_compare(str(base), str(judged))
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        f"llmperf: {base} and {judged} were not measured on the same machine with the same model:",
        "  cpu: base Xeon, candidate Ryzen",
        "  usable cores: base 2, candidate 8",
        "  to see both side by side, without a verdict, add: --any",
    ]


def test_another_model_is_refused_with_what_differs(
    project: Project, llmperf_compare: Compare
) -> None:
    base = project.record(1)
    judged = project.record(2, model=OTHER_MODEL)
    status, _, err = llmperf_compare(str(base), str(judged))
    assert status == 2
    assert (
        "  model: base smollm2-135m Q4_1 (SHA-256 b1b1b1b1b1b1), candidate smollm2-360m Q4_1" in err
    )


def test_what_is_unlike_is_shown_without_a_verdict(
    project: Project, llmperf_compare: Compare
) -> None:
    base = project.record(1)
    judged = project.record(2, 3.0, key=OTHER_KEY)
    status, out, err = llmperf_compare("--any", str(base), str(judged))
    assert (status, err) == (0, "")
    flat = " ".join(out.split())
    assert "not judged, since cpu differs: base Xeon, candidate Ryzen" in flat
    assert "1 test: nothing was judged" in flat
    assert "regressed" not in flat
    row = next(line for line in out.splitlines() if "tokens/s" in line)
    assert row.startswith("-")
    assert "80.3 tok/s" in row
    assert "202% slower" in row


def test_unlike_sides_are_not_failed_by_strict(project: Project, llmperf_compare: Compare) -> None:
    base = project.record(1)
    judged = project.record(2, 3.0, model=OTHER_MODEL)
    assert llmperf_compare("--any", "--strict", str(base), str(judged)).status == 0


def test_unlike_sides_with_other_work_show_both_values_and_no_change(
    project: Project, llmperf_compare: Compare
) -> None:
    base = project.record(1)
    judged = project.record(2, key=OTHER_KEY, workload="w2", summary="2 requests")
    status, out, _ = llmperf_compare("--any", "--format", "json", str(base), str(judged))
    assert status == 0
    (test,) = json.loads(out)["tests"]
    assert all(metric["change"] is None for metric in test["metrics"])
    assert all(metric["baseline"] and metric["value"] for metric in test["metrics"])
    assert "workload changed: the baseline measured 1 request" in test["findings"][0]


def test_the_same_machine_is_judged_whatever_was_allowed(
    project: Project, llmperf_compare: Compare
) -> None:
    base, judged = project.record(1), project.record(2, 1.6)
    assert llmperf_compare("--any", str(base), str(judged)).status == 1


def test_the_only_machine_of_both_is_taken(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11, 1.10)
    project.record(11, 3.0, key=OTHER_KEY)
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 1
    assert out.startswith(KEY)
    assert f"also holds sessions of smollm2-135m Q4_1 on {OTHER_KEY}" in " ".join(out.split())


def test_the_only_machine_with_something_new_is_taken(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base(key=OTHER_KEY)
    project.base()
    project.record(11, 1.10)
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 1
    assert out.startswith(KEY)


def test_of_several_machines_one_must_be_named(project: Project, llmperf_compare: Compare) -> None:
    project.base(key=OTHER_KEY)
    project.base()
    project.record(11, 1.10)
    project.record(11, key=OTHER_KEY)
    project.commit()
    status, out, err = llmperf_compare("HEAD~1", "HEAD")
    assert (status, out) == (2, "")
    assert err.splitlines()[1:] == [f"  --machine {OTHER_KEY}", f"  --machine {KEY}"]
    assert llmperf_compare("HEAD~1", "HEAD", "--machine", KEY).status == 1
    assert llmperf_compare("HEAD~1", "HEAD", "--machine", OTHER_KEY).status == 0


def test_an_unknown_machine_is_refused_with_those_there(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    status, _, err = llmperf_compare("HEAD", "HEAD", "--machine", "../x")
    assert status == 2
    assert "holds no sessions of machine '../x'" in err
    assert f"it holds: '{KEY}'" in err


def test_two_machines_of_one_commit_side_by_side(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base(key=OTHER_KEY)
    project.base()
    words = ("--any", "--machine", OTHER_KEY, "--machine", KEY)
    assert llmperf_compare("HEAD", "HEAD", *words).status == 2  # both sides hold the same sessions
    project.git("mv", f"perf_baselines/{KEY}", "apart")
    project.commit()
    status, out, _ = llmperf_compare("HEAD", "apart", *words)
    assert (status, "nothing was judged" in out) == (0, True)


def test_a_third_machine_is_refused(project: Project, llmperf_compare: Compare) -> None:
    words = ("--machine", "a", "--machine", "b", "--machine", "c")
    status, _, err = llmperf_compare("a", "b", *words)
    assert status == 2
    assert "--machine" in err


def test_of_several_models_one_must_be_named(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.base(model=OTHER_MODEL)
    project.record(11, 1.10)
    project.record(11, model=OTHER_MODEL)
    project.commit()
    status, _, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert "--model 'smollm2-135m Q4_1'" in err
    assert llmperf_compare("HEAD~1", "HEAD", "--model", "smollm2-135m Q4_1").status == 1
    assert llmperf_compare("HEAD~1", "HEAD", "--model", "smollm2-360m").status == 0


def test_an_unknown_model_is_refused_with_those_there(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    status, _, err = llmperf_compare("HEAD", "HEAD", "--model", "llama")
    assert status == 2
    assert "it holds: 'smollm2-135m Q4_1'" in err


def test_several_unlike_machines_must_be_named_for_each_side(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base(model=OTHER_MODEL, key=OTHER_KEY)
    project.base(model=OTHER_MODEL)
    project.record(11)
    project.commit()
    status, _, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert f"--any --machine {KEY} --machine {KEY}" in err
    assert llmperf_compare("HEAD~1", "HEAD", "--any").status == 2
    words = ("--any", "--machine", OTHER_KEY, "--machine", KEY)
    assert llmperf_compare("HEAD~1", "HEAD", *words).status == 0
