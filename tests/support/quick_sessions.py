"""Environment variables that make pytest sessions in subprocesses start faster."""

from __future__ import annotations

#: Environment of a session that loads only this plugin: all installed plugins double its start-up
#: time. One test of each command runs with all of them.
OUR_PLUGIN_ALONE = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_ADDOPTS": "-p pytest_llmperf.plugin",
}
