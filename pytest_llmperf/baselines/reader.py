"""The error of a stored file whose items are not what was expected."""

from pytest_llmperf.stored_json import ShapeError as ShapeError
