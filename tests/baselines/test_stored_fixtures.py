"""The formats on disk: files that are read and written again are the same byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.baselines import decisions, record
from pytest_llmperf.baselines.files import read_decision, read_record
from pytest_llmperf.bisect.evidence import BisectEvidence
from pytest_llmperf.bisect.session import BisectSession
from pytest_llmperf.measure import kept_pairs
from pytest_llmperf.measure.kept_pairs import KeptPairs
from pytest_llmperf.stored_json import ShapeError, read

STORED = Path(__file__).parent / "stored"
#: Sessions recorded in this repository.
RECORDED = sorted(Path(__file__).parents[2].glob("perf_baselines/*/*.json"))


@pytest.mark.parametrize("path", [STORED / "complete.json", *RECORDED], ids=lambda path: path.stem)
def test_a_record_is_written_as_it_was_read(path: Path) -> None:
    assert record.to_text(read_record(path)) == path.read_text(encoding="utf-8")


def test_a_decision_is_written_as_it_was_read() -> None:
    path = STORED / "decision.json"
    assert decisions.to_text(read_decision(path)) == path.read_text(encoding="utf-8")


def test_a_session_of_a_search_is_written_as_it_was_read(tmp_path: Path) -> None:
    text = (STORED / "bisect_session.json").read_text(encoding="utf-8")
    with BisectEvidence(tmp_path, ["any"]) as evidence:
        evidence.keep(read(BisectSession, json.loads(text)))
        (file,) = evidence.folder.glob("*.session.json")
        assert file.read_text(encoding="utf-8") == text


def test_a_pair_is_written_as_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (STORED / "kept_pair.jsonl").read_text(encoding="utf-8")
    monkeypatch.setattr(kept_pairs.time, "time", lambda: json.loads(text)["at"])
    pairs = KeptPairs(tmp_path)
    pairs.add({}, pairs.read(STORED / "kept_pair.jsonl"))
    (file,) = tmp_path.iterdir()
    assert file.read_text(encoding="utf-8") == text


#: Items that have a default in their dataclass, yet were written by every version.
NEEDED = {
    record.BaselineRecord: [
        ("complete.json", path)
        for path in ("tests", "model.quantization", "session.findings", "loaded.build")
    ],
    BisectSession: [("bisect_session.json", path) for path in ("findings", "problem", "fresh")],
    decisions.Decision: [("decision.json", "commit")],
}


@pytest.mark.parametrize("kind", NEEDED)
def test_a_damaged_file_does_not_pass_for_a_whole_one(kind: type[Any]) -> None:
    for name, path in NEEDED[kind]:
        data = json.loads((STORED / name).read_text(encoding="utf-8"))
        *parents, last = path.split(".")
        parent = data
        for key in parents:
            parent = parent[key]
        del parent[last]
        with pytest.raises(ShapeError, match=f"^{path}: missing$"):
            read(kind, data)
