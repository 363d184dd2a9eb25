"""Stored sessions over a repository's commits: read from git, ordered, searched for changes."""
