"""Values of ``llm.extra`` stay out of every file a session writes; only a change is named."""

from __future__ import annotations

from plugin_projects import APP, Project

SECRETS = ("sk-somebodys-key", "/home/somebody/private.bin")
EXTRA = APP.replace("perf:", f"  extra: {{api_key: {SECRETS[0]}, lora_path: {SECRETS[1]}}}\nperf:")
OTHER = EXTRA.replace(SECRETS[0], "sk-another-key")


def assert_private(project: Project, said: str) -> None:
    written = [
        path for path in project.path.rglob("*") if path.is_file() and path.suffix != ".yaml"
    ]
    texts = {str(path): path.read_text(errors="replace") for path in written}
    for secret in (*SECRETS, "sk-another-key"):
        assert [name for name, text in texts.items() if secret in text] == []
        assert secret not in said


def test_a_changed_argument_is_named_and_its_value_stays_private(one_test: Project) -> None:
    one_test.configure(EXTRA)
    one_test.perf("--llmperf-record")
    assert_private(one_test, one_test.perf().stdout.str())
    assert one_test.session()["tests"][0]["differences"] == []
    one_test.configure(OTHER)
    assert_private(one_test, one_test.perf().stdout.str())
    (changed,) = one_test.session()["tests"][0]["differences"]
    assert changed.startswith("llm.extra.api_key: hidden (SHA-256 ")


def test_two_configurations_are_told_apart_without_their_values(one_test: Project) -> None:
    one_test.configure(EXTRA)
    one_test.configure(OTHER, "other.yaml")
    done = one_test.perf(
        "--llmperf-against-config=other.yaml", "--llmperf-set=perf.max_pairs=1", "--junitxml=j.xml"
    )
    assert_private(one_test, done.stdout.str())
    (changed,) = one_test.session()["session"]["side_differences"]
    assert changed.startswith("llm.extra.api_key: base hidden (SHA-256 ")
