from __future__ import annotations

from pytest_llmperf.engine.llama_prompt import stop_the_clock


def test_a_chat_template_is_told_the_same_date_every_day() -> None:
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    stop_the_clock()
    formatter = Jinja2ChatFormatter("{{ strftime_now('%d %b %Y') }}", eos_token="", bos_token="")

    assert formatter(messages=[]).prompt == "01 Jan 2025"
