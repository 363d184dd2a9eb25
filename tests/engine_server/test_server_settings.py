"""Settings of a server: its address, and its key from the environment."""

from __future__ import annotations

import pytest

from pytest_llmperf.engine.server.settings import ServerSettings, ServerSettingsError


@pytest.mark.parametrize(
    ("url", "api", "endpoint"),
    [
        ("http://h:1", "chat", "http://h:1/v1/chat/completions"),
        ("http://h:1/", "completions", "http://h:1/v1/completions"),
        ("https://h/openai/v1/", "chat", "https://h/openai/v1/chat/completions"),
        (
            "https://h/x/chat/completions?version=2",
            "chat",
            "https://h/x/chat/completions?version=2",
        ),
    ],
)
def test_requests_go_to_the_endpoint_of_the_address(url, api, endpoint):
    assert ServerSettings(url, api=api).endpoint == endpoint


def test_the_key_is_read_from_the_environment_that_has_it():
    bearer = ServerSettings("http://h", key_variable="SERVER_KEY")
    header = ServerSettings("http://h", header_variables={"api-key": "SERVER_KEY"})
    environ = {"SERVER_KEY": " sk-1 \n"}
    assert bearer.secret_headers(environ) == {"Authorization": "Bearer sk-1"}
    assert header.secret_headers(environ) == {"api-key": "sk-1"}
    assert ServerSettings("http://h").secret_headers({}) == {}
    for settings in (bearer, header):
        for unset in ({}, {"SERVER_KEY": "  "}):
            with pytest.raises(ServerSettingsError, match="SERVER_KEY is not set"):
                settings.secret_headers(unset)
        for key in ("sk\n-1", "sk-é"):
            with pytest.raises(ServerSettingsError, match="no HTTP header can carry") as caught:
                settings.secret_headers({"SERVER_KEY": key})
            assert key not in str(caught.value)
