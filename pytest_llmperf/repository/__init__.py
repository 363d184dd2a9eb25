"""The repository around a project, read with git; what is written lies in a folder of our own."""
