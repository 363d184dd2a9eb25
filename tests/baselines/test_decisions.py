"""Decision files: their content, how they are written, and the errors about bad ones."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from missing_rights import without_rights

from pytest_llmperf.baselines.decisions import SCHEMA_VERSION, Decision, from_json, moment, to_text
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.match import find_baseline
from pytest_llmperf.baselines.store import BaselineStore

ROOT = Path(__file__).parents[2]
STEM = "20261123T080000.250Z_accept"


@pytest.fixture
def decided(store: Any, make_record: Any, make_decision: Any) -> Callable[..., Path]:
    """Record a session and write a decision about it; keywords replace its parts."""

    def write(**changes: Any) -> Path:
        record = make_record()
        if not store.read_machine(record.machine.key):
            store.write(record)
        return store.write_decision(record.machine.key, make_decision(**changes))

    return write


@pytest.fixture
def edited(decided: Any) -> Callable[..., Path]:
    """Write a decision, then change items in its file by hand."""

    def edit(**items: Any) -> Path:
        path = decided()
        data = json.loads(path.read_text(encoding="utf-8")) | items
        path.write_text(json.dumps(data), encoding="utf-8")
        return path

    return edit


def complaint(store: BaselineStore) -> str:
    with pytest.raises(BaselineError) as caught:
        store.check_all()
    return str(caught.value)


def test_a_decision_lies_under_its_machine_by_time_and_kind(decided: Any, store: Any) -> None:
    path = decided()
    assert path == store.root / "xeon-sapphire-rapids-2c_cpu" / "decisions" / f"{STEM}.json"
    assert decided(kind="anchor").name == "20261123T080000.250Z_anchor.json"


def test_a_decision_survives_the_round_trip(decided: Any, store: Any, make_decision: Any) -> None:
    decided(reason="ünï: “quoted”\nand a second line")
    (stored,) = store.read_shelf("xeon-sapphire-rapids-2c_cpu").decisions
    assert stored.decision == make_decision(reason="ünï: “quoted”\nand a second line")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reason=st.text(min_size=1).filter(str.strip),
    tests=st.none() | st.lists(st.text(), min_size=1).map(tuple),
)
def test_any_reason_and_tests_survive_the_round_trip(
    make_decision: Any, reason: str, tests: tuple[str, ...] | None
) -> None:
    decision = make_decision(reason=reason, tests=tests)
    assert from_json(json.loads(to_text(decision).encode())) == decision


def test_decisions_are_not_taken_for_records(decided: Any, store: Any) -> None:
    decided()
    assert len(store.read_machine("xeon-sapphire-rapids-2c_cpu")) == 1
    store.check_all()


def test_calibrations_are_not_taken_for_records(decided: Any, store: Any) -> None:
    folder = decided().parents[1] / "calibrations"
    folder.mkdir()
    (folder / "20261123T080000Z.json").write_text("{}")
    assert len(store.read_machine("xeon-sapphire-rapids-2c_cpu")) == 1
    store.check_all()


def test_decisions_come_back_in_the_order_they_were_made(decided: Any, store: Any) -> None:
    times = ["2026-11-23T08:00:00.5Z", "2026-11-23T08:00:00Z", "2026-11-23T08:00:00.25Z"]
    for time in times:
        decided(decided=time)
    decisions = store.read_shelf("xeon-sapphire-rapids-2c_cpu").decisions
    assert [stored.decision.decided for stored in decisions] == [times[1], times[2], times[0]]


def test_a_lookup_returns_the_machines_decisions(
    decided: Any, store: Any, make_record: Any
) -> None:
    path = decided()
    record = make_record()
    assert [
        stored.path for stored in find_baseline(store, record.machine, record.model).decisions
    ] == [path]


def test_a_name_that_is_taken_is_never_overwritten(decided: Any) -> None:
    taken = decided()
    content = taken.read_bytes()
    assert decided(reason="another").name == f"{STEM}-2.json"
    assert taken.read_bytes() == content


def test_two_who_decide_at_once_lose_nothing(
    store: Any, make_record: Any, make_decision: Any, tmp_path: Path
) -> None:
    key = make_record().machine.key
    store.write(make_record())
    source = tmp_path / "decision.json"
    source.write_text(to_text(make_decision()), encoding="utf-8")
    code = (
        "import json\nfrom pathlib import Path\n"
        "from pytest_llmperf.baselines.decisions import from_json\n"
        "from pytest_llmperf.baselines.store import BaselineStore\n"
        f"decision = from_json(json.loads(Path({str(source)!r}).read_text('utf-8')))\n"
        f"store = BaselineStore(Path({str(store.root)!r}))\n"
        "for _ in range(10):\n"
        f"    print(store.write_decision({key!r}, decision).name, flush=True)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    names = []
    for writer in writers:
        names += writer.communicate(timeout=120)[0].split()
        assert writer.returncode == 0
    assert len(set(names)) == 30
    assert {stored.path.name for stored in store.read_shelf(key).decisions} == set(names)
    assert [p for p in (store.root / key / "decisions").iterdir() if p.name.startswith(".")] == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions there")
def test_a_read_only_folder_is_named(make_record: Any, make_decision: Any) -> None:
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        store = BaselineStore(Path(root) / "perf_baselines")
        folder = store.write(make_record()).parent
        with without_rights(folder):
            with pytest.raises(BaselineError, match="the decision could not be recorded") as caught:
                store.write_decision(folder.name, make_decision())
        assert "make the folder writable" in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_full_disk_leaves_nothing(store: Any, make_record: Any, make_decision: Any) -> None:
    key = store.write(make_record()).parent.name
    decision = make_decision(reason="long " * 200)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))\n"
        "from pathlib import Path\n"
        "from pytest_llmperf.baselines.decisions import Decision\n"
        "from pytest_llmperf.baselines.store import BaselineStore\n"
        f"BaselineStore(Path({str(store.root)!r})).write_decision({key!r}, {decision!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "decisions: the decision could not be recorded: file too large" in done.stderr
    assert "make room and try again" in done.stderr
    assert list((store.root / key / "decisions").iterdir()) == []


@pytest.mark.parametrize("reason", ["", " \n"])
def test_a_decision_without_a_reason_is_not_written(
    store: Any, make_decision: Any, reason: str
) -> None:
    with pytest.raises(BaselineError, match="the decision cannot be recorded: reason: expected a"):
        store.write_decision("any-2c_cpu", make_decision(reason=reason))
    assert not store.root.exists()


HOSTILE = [
    "../../../etc/passwd", "/etc/passwd.json", "..", "", ".json", ".hidden.json", "a/b.json",
    "a\\b.json", "C:x.json", "x.json\n", "\x1b[2J.json", "nul\x00.json", "-rf.json", "x.txt",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_session_that_is_no_plain_file_name_is_refused(
    store: Any, edited: Any, name: str
) -> None:
    path = edited(session=name)
    message = complaint(store)
    assert message.startswith(f"{path}: not a decision about a session: session: expected the file")
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ({"kind": "forget"}, "kind: expected accept or anchor, got 'forget'"),
        ({"decided": "yesterday"}, "decided: expected a UTC time"),
        ({"decided": "2026-13-01T00:00:00Z"}, "decided: expected a UTC time"),
        ({"tests": []}, "tests: expected at least one node id, or null"),
        ({"tests": "all"}, "tests: expected a list, got 'all'"),
        ({"tests": [5]}, "tests[0]: expected a string, got 5"),
        ({"reason": " "}, "reason: expected a reason"),
        ({"reason": None}, "reason: expected a string"),
        ({"commit": "HEAD"}, "commit: expected 40 hexadecimal digits or null"),
        ({"schema": True}, "schema: got True"),
    ],
)
def test_an_item_of_the_wrong_shape_is_named(
    store: Any, edited: Any, items: dict[str, Any], said: str
) -> None:
    path = edited(**items)
    message = complaint(store)
    assert message.startswith(f"{path}: not a decision about a session: ")
    assert said in message
    assert "decide again: llmperf baseline accept" in message


def test_a_newer_schema_asks_for_an_upgrade(store: Any, edited: Any) -> None:
    path = edited(schema=SCHEMA_VERSION + 1)
    assert complaint(store).startswith(f"{path}: written by a newer plugin (schema 2; this one")


@pytest.mark.parametrize("content", ["", "{", "<<<<<<< HEAD\n", "[]", b"\xff"])
def test_other_content_is_refused_with_the_path(
    store: Any, decided: Any, content: str | bytes
) -> None:
    path = decided()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert str(path) in complaint(store)


def test_a_bad_decision_stops_the_lookup(store: Any, edited: Any, make_record: Any) -> None:
    path = edited(kind="forget")
    record = make_record()
    with pytest.raises(BaselineError) as caught:
        find_baseline(store, record.machine, record.model)
    assert str(path) in str(caught.value)


def test_a_decision_about_a_session_that_is_gone_names_both_and_a_remedy(
    store: Any, decided: Any
) -> None:
    path = decided()
    session = path.parents[1] / "20261122T235926Z_0123456789ab.json"
    session.unlink()
    message = complaint(store)
    assert message.startswith(
        f"{path}: a decision about the session {session}, which no longer exists"
    )
    assert f"git log -- {session}" in message
    assert f"rm {path}" in message


def test_a_decision_about_a_test_its_session_does_not_hold_names_all_three(
    store: Any, edited: Any
) -> None:
    path = edited(tests=["tests/test_typo.py::test_x"])
    message = complaint(store)
    assert message.startswith(f"{path}: decides about the test 'tests/test_typo.py::test_x', which")
    assert "20261122T235926Z_0123456789ab.json does not hold" in message


def test_bad_records_and_bad_decisions_are_listed_together(
    store: Any, edited: Any, bad_file: Any
) -> None:
    decision, record = edited(kind="forget"), bad_file("")
    message = complaint(store)
    assert message.startswith("2 baseline files cannot be used:")
    assert str(record) in message
    assert str(decision) in message


def test_a_file_in_the_decisions_place_is_named(store: Any, make_record: Any) -> None:
    place = store.write(make_record()).with_name("decisions")
    place.write_text("")
    assert complaint(store).startswith(f"{place}: the baselines' folder is a file")


def test_a_fraction_of_a_second_orders_two_decisions() -> None:
    assert moment("2026-11-23T08:00:00Z") < moment("2026-11-23T08:00:00.001Z")
    assert moment("2026-11-23T08:00:00.5Z") > moment("2026-11-23T08:00:00.25Z")


def test_a_decision_about_all_tests_covers_each(make_decision: Any) -> None:
    everything: Decision = make_decision(tests=None)
    assert everything.covers("anything")
    assert not make_decision(tests=("a",)).covers("b")
