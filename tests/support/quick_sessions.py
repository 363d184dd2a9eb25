"""What makes sessions of pytest, in processes of their own, start faster."""

from __future__ import annotations

#: Environment of one that loads this plugin alone: all that are installed here double the time
#: that it takes to start. One test of each command has them all.
OUR_PLUGIN_ALONE = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_ADDOPTS": "-p pytest_llmperf.plugin",
}
