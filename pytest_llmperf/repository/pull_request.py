"""Finds a pull request's target branch in the environment variables of CI services."""

from __future__ import annotations

from collections.abc import Mapping

#: Set in builds of pull requests only, according to the service's documentation.
_TARGETS = (
    "GITHUB_BASE_REF",  # GitHub Actions, Gitea, Forgejo
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME",  # GitLab
    "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME",  # GitLab, for a repository elsewhere
    "SYSTEM_PULLREQUEST_TARGETBRANCH",  # Azure Pipelines
    "BITBUCKET_PR_DESTINATION_BRANCH",
    "CHANGE_TARGET",  # Jenkins, multibranch
    "BUILDKITE_PULL_REQUEST_BASE_BRANCH",
    "CIRRUS_BASE_BRANCH",
    "CI_COMMIT_TARGET_BRANCH",  # Woodpecker
    "PULL_BASE_REF",  # Prow
    "BITRISEIO_GIT_BRANCH_DEST",
    "CODEBUILD_WEBHOOK_BASE_REF",
)
#: (set in pull requests, the target there and something else otherwise)
_CONDITIONAL = (
    ("TRAVIS_PULL_REQUEST", "TRAVIS_BRANCH"),
    ("APPVEYOR_PULL_REQUEST_NUMBER", "APPVEYOR_REPO_BRANCH"),
    ("DRONE_PULL_REQUEST", "DRONE_TARGET_BRANCH"),
    ("SEMAPHORE_GIT_PR_NUMBER", "SEMAPHORE_GIT_BRANCH"),
)


def base_of_pull_request(environ: Mapping[str, str]) -> str | None:
    """Return the target branch of the pull request being built, else None.

    The plain name, without ``refs/heads/`` and without a remote's.
    """
    for name in _TARGETS:
        if branch := _branch(environ.get(name)):
            return branch
    for condition, name in _CONDITIONAL:
        if _branch(environ.get(condition)) not in (None, "false", "0"):
            return _branch(environ.get(name))
    return None


def _branch(value: str | None) -> str | None:
    stripped = (value or "").strip().removeprefix("refs/heads/")
    # Buildkite says "false" where there is none.
    return stripped if stripped and stripped != "false" else None
