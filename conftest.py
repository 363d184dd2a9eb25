"""Fixtures of this repository's own tests; the plugin itself loads through its entry point."""

pytest_plugins = ["pytester"]
