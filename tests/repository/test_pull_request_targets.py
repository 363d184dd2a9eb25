"""The target branch of a pull request, from the variables of CI services."""

from __future__ import annotations

import pytest

from pytest_llmperf.repository.revisions import base_of_pull_request


@pytest.mark.parametrize(
    "environ",
    [
        {"GITHUB_ACTIONS": "true", "GITHUB_BASE_REF": "release/1"},
        {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "release/1"},
        {"SYSTEM_PULLREQUEST_TARGETBRANCH": "refs/heads/release/1"},
        {"BITBUCKET_PR_DESTINATION_BRANCH": "release/1"},
        {"CHANGE_TARGET": "release/1"},
        {"BUILDKITE_PULL_REQUEST_BASE_BRANCH": "release/1"},
        {"TRAVIS_PULL_REQUEST": "7", "TRAVIS_BRANCH": "release/1"},
        {"DRONE_PULL_REQUEST": "7", "DRONE_TARGET_BRANCH": "release/1"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_the_target_is_found(environ: dict[str, str]) -> None:
    assert base_of_pull_request(environ) == "release/1"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"GITHUB_ACTIONS": "true", "GITHUB_BASE_REF": "", "GITHUB_REF": "refs/heads/main"},
        {"TRAVIS_PULL_REQUEST": "false", "TRAVIS_BRANCH": "main"},
        {"BUILDKITE_PULL_REQUEST_BASE_BRANCH": "", "BUILDKITE_BRANCH": "main"},
        {"CI_COMMIT_BRANCH": "main"},
    ],
    ids=["nowhere", "github push", "travis push", "buildkite push", "gitlab push"],
)
def test_a_push_has_no_target(environ: dict[str, str]) -> None:
    assert base_of_pull_request(environ) is None
