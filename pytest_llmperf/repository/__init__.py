"""The repository around a project, read with git and never written to."""
