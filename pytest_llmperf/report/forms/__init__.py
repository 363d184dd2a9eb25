"""Output of a session in forms that other tools read: Markdown, JUnit, OpenMetrics and more."""
