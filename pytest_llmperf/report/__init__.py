"""Renderers of results as text, JSON, CSV, Markdown and HTML, one per file."""
