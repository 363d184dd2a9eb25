"""One session in the forms that other tools read: Markdown, JUnit, OpenMetrics and more."""
