"""A session's report as one page for a browser, for ``--llmperf-html`` (``docs/html-report.md``).

The page is made from the JSON report (``--llmperf-json``), checked by ``report/reported.py``, so
that a stored report gives the same page as its session.
"""

from pytest_llmperf.report.html.write import write_html

__all__ = ["write_html"]
