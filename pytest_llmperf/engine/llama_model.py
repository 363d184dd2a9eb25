"""Keeps a model loaded while the contexts on it come and go.

``llama_cpp.Llama`` loads a model and makes one context in its constructor, and frees both at its
end. Here the next ``Llama`` is handed the model of the one before: it makes its context with the
package's own code, from its own arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_cpp import _internals


class _KeptModel(_internals.LlamaModel):  # type: ignore[misc]  # untyped package
    """A model that its ``Llama`` does not free."""

    def close(self) -> None:
        """Do nothing: the model is kept until ``free``."""

    def free(self) -> None:
        """Free the model, once every context on it is freed."""
        super().close()


class ModelKeeper:
    """The one model of an engine process."""

    def __init__(self) -> None:
        self._model: _KeptModel | None = None
        #: Number of lines in the log when the model was loaded; what follows is a context's.
        self.log_lines = 0

    @contextmanager
    def reusing_model(self, log: list[str]) -> Iterator[None]:
        """Make a ``Llama`` that is created meanwhile use the kept model, or load it to be kept.

        ``log``: llama.cpp's lines so far.
        """
        original = _internals.LlamaModel

        def model_of(**arguments: Any) -> _KeptModel:
            if self._model is None:
                self._model = _KeptModel(**arguments)
                self.log_lines = len(log)
            return self._model

        _internals.LlamaModel = model_of
        try:
            yield
        finally:
            _internals.LlamaModel = original

    def free(self) -> None:
        """Free the model; harmless when repeated."""
        model, self._model = self._model, None
        if model is not None:
            model.free()
