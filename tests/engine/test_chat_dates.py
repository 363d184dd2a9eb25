from __future__ import annotations

from pytest_llmperf.engine.llama_prompt import prepare_templates


def test_a_chat_template_is_told_the_same_date_every_day() -> None:
    from llama_cpp import llama_chat_format

    prepare_templates()
    template = "{{ strftime_now('%d %b %Y') }}"
    formatter = llama_chat_format.Jinja2ChatFormatter(template, eos_token="", bos_token="")

    assert formatter(messages=[]).prompt == "01 Jan 2025"
