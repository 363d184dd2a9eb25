"""The stored sessions over the commits of a repository: read from git, ordered, searched."""
