"""Test bodies of the other commit run in one process, whatever its settings ask for."""

from __future__ import annotations

from commit_projects import HARMLESS_CHANGE, INI, ONE_PAIR, CommitProject


def test_a_commit_whose_settings_ask_for_workers_is_compared(project: CommitProject) -> None:
    workers = INI.replace("addopts =", "addopts = -p xdist.plugin -n 2")
    project.commit("several workers", {"pytest.ini": workers})
    project.commit("a remark", HARMLESS_CHANGE)
    session = project.against("HEAD~1", "-n", "0", *ONE_PAIR)
    assert session.verdicts.keys() == {"test_a"}, session.all_output
    assert session.verdicts["test_a"] not in ("error", "no baseline"), session.all_output
