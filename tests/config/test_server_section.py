"""The ``llm`` section of a server: valid settings, and errors with cause and fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.config.cell_settings import WrongSettingError, check_name, with_settings
from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.config.llm_section import ServerConfig, read_llm
from pytest_llmperf.config.load import load_config

START = "llama-server -m model.gguf --port {port}"


def message(root: Path, *lines: str) -> str:
    text = "\n".join(f"  {line}" for line in ("engine: server", *lines))
    (root / "config.yaml").write_text(f"llm:\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(None, root, {})
    return str(caught.value)


def test_a_server_is_started_or_runs_already(tmp_path: Path) -> None:
    llm = read_llm({"engine": "server", "start": START, "body": {"min_p": 0.1}})
    assert isinstance(llm, ServerConfig)
    assert read_llm(llm.resolved()).resolved() == llm.resolved()
    assert "engine server needs llm.url, the address of a server that runs already, or" in message(
        tmp_path
    )
    error = message(tmp_path, "url: http://a", f"start: '{START}'")
    assert error == (
        "config.yaml:4: llm.start: llm.url names a server that runs already, llm.start starts "
        "one; keep one"
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("url: localhost:8080", "llm.url: is not the address of a server; it needs http://"),
        ("url: http://a:b", "llm.url: is not the address of a server"),
        ("url: http://[::1", "llm.url: is not the address of a server"),
        ("url: ftp://a", "llm.url: is not the address of a server"),
        ("url: http://", "llm.url: is not the address of a server"),
        ("url: http://me:sesame@a", "llm.url: contains a user or a password; take it out, and put"),
        ("url: http://a/v1?key=sesame", "llm.url: has a part after ? or #; take it out"),
        ("start: llama-server --port 8080", "llm.start: has no {port}, so the server can't be"),
        ("start: serve 'x {port}", "llm.start: can't be split into words (no closing quotation)"),
        ("start: 'serve --port {port} --api-key sesame'", "--api-key holds a key, and files and"),
        ("start: 8080", "llm.start: expected text, got 8080"),
    ],
)
def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path, line: str, text: str) -> None:
    error = message(tmp_path, line)
    assert error.startswith("config.yaml:3: ")
    assert text in error
    assert "sesame" not in error


@pytest.mark.parametrize(
    "option",
    [
        *("--api-key", "--api_keys", "--admin-api-key", "--hf-token", "-hft", "--ssl-key-password"),
        *("--ssl-keyfile-password", "--Client-Secret", "-key"),
    ],
)
@pytest.mark.parametrize("form", ["{option} sesame", "{option}=sesame"])
def test_an_argument_that_holds_a_key_is_refused_without_its_value(
    tmp_path: Path, option: str, form: str
) -> None:
    error = message(tmp_path, f"start: '{START} {form.format(option=option)}'")
    assert f"llm.start: {option} holds a key, and files and records are no place for" in error
    assert "sesame" not in error


def test_a_key_before_the_command_is_refused_too(tmp_path: Path) -> None:
    error = message(tmp_path, f"start: 'env HF_TOKEN=sesame {START}'")
    assert "llm.start: HF_TOKEN holds a key" in error
    assert "sesame" not in error


@pytest.mark.parametrize(
    "argument",
    [
        *("--api-key-file keys", "--ssl-keyfile=key.pem", "--max-num-batched-tokens 8192"),
        *("--cache-type-k q8_0", "--alias monkey", "-ctk=q8_0"),
    ],
)
def test_other_arguments_are_taken(argument: str) -> None:
    llm = read_llm({"engine": "server", "start": f"{START} {argument}"})
    assert llm.resolved()["start"].endswith(argument)


@pytest.mark.parametrize(
    ("replicas", "text"),
    [
        ("[]", "is empty; name every server"),
        ("[http://b, 'b:1']", "address 2 is not the address of a server; it needs http://"),
        ("['http://me:sesame@b']", "address 1 contains a user or a password; take it out"),
        ("[http://a/]", "address 1 is llm.url itself; name the servers"),
        ("[http://b, http://b/]", "address 2 is named twice"),
        ("http://b", "expected a list of addresses"),
    ],
)
def test_what_can_not_be_behind_a_balancer_is_refused(
    tmp_path: Path, replicas: str, text: str
) -> None:
    error = message(tmp_path, "url: http://a", f"replicas: {replicas}")
    assert f"config.yaml:4: llm.replicas: {text}" in error
    assert "sesame" not in error
    started = message(tmp_path, f"start: '{START}'", "replicas: [http://b]")
    assert "llm.replicas: are the servers behind llm.url, which is not set" in started
    started = message(tmp_path, f"start: '{START}'", "routing: round robin")
    assert "llm.routing: says how llm.url chooses among servers, which is not set" in started


def test_a_started_server_is_asked_without_a_proxy(tmp_path: Path) -> None:
    error = message(tmp_path, f"start: '{START}'", "proxy_from_environment: true")
    assert error == (
        "config.yaml:4: llm.proxy_from_environment: is for llm.url; no proxy is between here and "
        "the server that llm.start starts; remove it"
    )
    llm = read_llm({"engine": "server", "url": "http://a", "proxy_from_environment": True})
    assert llm.resolved()["proxy_from_environment"] is True


def test_a_key_in_the_file_is_refused_without_being_shown(tmp_path: Path) -> None:
    error = message(tmp_path, "url: http://a", "headers: {Authorization: Bearer sesame}")
    assert "config.yaml:4: llm.headers.Authorization: a header of this name holds a key; put" in (
        error
    )
    assert "llm.api_key_env" in error
    assert "sesame" not in error
    named = message(tmp_path, "url: http://a", "api_key_env: sk-sesame")
    assert named == (
        "config.yaml:4: llm.api_key_env: is not the name of an environment variable; the key "
        "itself does not belong here"
    )
    assert "no HTTP header can have this name" in message(
        tmp_path, "url: http://a", "headers: {'X Y': z}"
    )
    for value in (r'"a\nsesame"', r'"\xe9sesame"'):
        error = message(tmp_path, "url: http://a", f"headers: {{X: {value}}}")
        assert "no HTTP header can have this value" in error
        assert "sesame" not in error


def test_a_key_in_another_header_is_named_by_its_variable(tmp_path: Path) -> None:
    llm = read_llm({"engine": "server", "url": "http://a", "header_env": {"api-key": "AZURE_KEY"}})
    assert llm.resolved()["header_env"] == {"api-key": "AZURE_KEY"}
    refused = message(tmp_path, "url: http://a", "headers: {api-key: sesame}")
    assert "llm.header_env: {api-key: VARIABLE}" in refused
    assert "sesame" not in refused
    for line, text in (
        ("header_env: {api-key: sk-sesame}", "api-key: is not the name of an environment variable"),
        ("header_env: {'X Y': KEY}", "X Y: no HTTP header can have this name"),
        ("header_env: {X-a: A, x-A: B}", "x-A: is given twice"),
    ):
        error = message(tmp_path, "url: http://a", line)
        assert text in error
        assert "sesame" not in error
    lines = ("headers: {X-a: b}", "header_env: {x-A: KEY}")
    assert "x-A: is given twice" in message(tmp_path, "url: http://a", *lines)
    lines = ("api_key_env: KEY", "header_env: {authorization: KEY}")
    assert "llm.api_key_env sends this header" in message(tmp_path, "url: http://a", *lines)


def test_other_wrong_values_are_named(tmp_path: Path) -> None:
    lines = message(
        tmp_path, "url: http://a", "api: responses", "cache: off", "n_ctx: 512", "modle: x"
    ).splitlines()
    assert lines[0].endswith("llm.api: expected chat or completions, got 'responses'")
    assert "llm.cache: expected unique or shared" in lines[1]
    assert lines[2].endswith(
        "llm.n_ctx: is a setting of engine llama_cpp, and this section's engine is server; remove "
        "it, or set llm.engine: llama_cpp"
    )
    assert lines[3].endswith("llm.modle: unknown key; did you mean 'model'?")


def test_a_sweep_may_start_servers_of_several_settings(tmp_path: Path) -> None:
    llm = read_llm({"engine": "server", "start": START})
    check_name(llm, "start")
    assert with_settings(llm, {"start": f"{START} -ub 64"}).resolved()["start"].endswith("-ub 64")
    with pytest.raises(WrongSettingError, match="n_ctx: the engine server does not use it"):
        check_name(llm, "n_ctx")
    with pytest.raises(WrongSettingError, match="url: a session has one server"):
        check_name(llm, "url")
