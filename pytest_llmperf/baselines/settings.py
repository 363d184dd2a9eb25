"""Engine settings as records and calibrations hold them: without the values of ``llm.extra``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmperf.config.extra_hashes import EXTRA_HASHES, without_extra_values

if TYPE_CHECKING:
    from pytest_llmperf.baselines.reader import Reader


def read_settings(item: Reader) -> dict[str, Any]:
    """Read engine settings; values of ``extra``, which older files hold, become hashes.

    Raises:
        ShapeError: which item is wrong, what was expected and what it is.
    """
    settings = item.mapping()
    if "extra" in settings and not item["extra"].is_null():
        item["extra"].mapping()
    if EXTRA_HASHES in settings:
        for _, digest in item[EXTRA_HASHES].items():
            digest.text()
    return without_extra_values(settings)
