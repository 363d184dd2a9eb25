"""Searches for the first commit that made tests slower, and keeps what it has measured."""
