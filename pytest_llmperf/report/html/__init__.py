"""A session's report as one page for a browser, for ``--llmperf-html`` (``docs/html-report.md``).

The page is made from the JSON report (``--llmperf-json``), which ``report/reported.py`` checks, so
that a stored report gives the same page as its session did.
"""

from pytest_llmperf.report.html.write import write_html

__all__ = ["write_html"]
