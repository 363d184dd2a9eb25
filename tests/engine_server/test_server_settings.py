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


@pytest.mark.parametrize("url", ["h:1", "", "ftp://h", "http://", "http://h:x", "http://[::1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ServerSettingsError, match="address can't be used"):
        ServerSettings(url)


@pytest.mark.parametrize("name", ["connect_s", "idle_s", "total_s"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_a_deadline_that_is_none_is_refused(name, value):
    with pytest.raises(ServerSettingsError, match=f"{name}: expected seconds above 0"):
        ServerSettings("http://h", **{name: value})


def test_another_api_is_refused():
    with pytest.raises(ServerSettingsError, match="expected chat or completions"):
        ServerSettings("http://h", api="embeddings")


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


@pytest.mark.parametrize("headers", [{"X": "a\nb"}, {"X": "é"}, {"a b": "x"}, {"": "x"}, {"X": 1}])
def test_a_header_that_no_request_can_carry_is_refused_without_its_value(headers):
    with pytest.raises(ServerSettingsError, match="no HTTP header can have") as caught:
        ServerSettings("http://h", headers=headers)
    assert "a\\nb" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "headers", "key", "named"),
    [
        ("http://me:p@h", {}, "K", "K and the address both"),
        ("http://h", {"authorization": "Basic p"}, "K", "K and headers both"),
        ("http://me:p@h", {"Authorization": "Basic p"}, None, "the address and headers both"),
    ],
)
def test_two_ways_to_log_in_are_refused(url, headers, key, named):
    with pytest.raises(ServerSettingsError, match=named):
        ServerSettings(url, headers=headers, key_variable=key)
