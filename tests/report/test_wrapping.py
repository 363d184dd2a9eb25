"""Text for terminals: breaking without losing, escaping without surprising."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.text import display_width, pad, printable, wrap_node_id, wrap_words

any_text = st.text(st.characters(), max_size=120)
wide_enough = st.integers(min_value=8, max_value=120)


def test_a_node_id_breaks_after_folders_and_classes() -> None:
    assert wrap_node_id("tests/perf/test_chat.py::TestLong::test_x[gpu-12]", 28) == [
        "tests/perf/test_chat.py::",
        "    TestLong::test_x[gpu-12]",
    ]


def test_a_long_name_breaks_at_its_underscores() -> None:
    assert wrap_node_id("test_that_the_answer_is_short", 16) == [
        "test_that_the_",
        "    answer_is_",
        "    short",
    ]


@given(any_text, wide_enough)
def test_a_wrapped_node_id_joins_to_the_whole(nodeid: str, width: int) -> None:
    first, *others = wrap_node_id(nodeid, width)
    assert first + "".join(line[4:] for line in others) == printable(nodeid)


@given(any_text, wide_enough)
def test_a_wrapped_node_id_fits(nodeid: str, width: int) -> None:
    assert all(display_width(line) <= width for line in wrap_node_id(nodeid, width))


@given(any_text)
def test_printable_text_is_one_line_that_can_be_encoded(text: str) -> None:
    assert len(printable(text).splitlines()) <= 1
    printable(text).encode("utf-8")


def test_ordinary_text_is_left_as_it_is() -> None:
    assert printable("é 試験 ≤ a\\b") == "é 試験 ≤ a\\b"


def test_wide_characters_take_two_columns() -> None:
    assert display_width("試験ab") == 6
    assert pad("試験", 6) == "試験  "


def test_words_are_never_broken() -> None:
    path = "perf_baselines/xeon/20261101T101500Z_628fedd.json"
    assert wrap_words(f"see {path} now", 30) == ["see", f"  {path}", "  now"]


def test_the_lead_stands_on_the_first_line_only() -> None:
    assert wrap_words("one two three four", 16, first="note: ", indent="  ") == [
        "note: one two",
        "  three four",
    ]
