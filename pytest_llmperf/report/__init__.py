"""Renders results for people and programs: text, JSON, CSV and Markdown, one renderer a file."""
