"""Files that a command can't write: the message names what was lost, and the option to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.cli.output import OutputError, write


def test_the_message_names_what_was_to_be_written_and_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as caught:
        write(tmp_path / "file" / "found.json", "{}", "the findings", "--json")
    first, remedy = str(caught.value).splitlines()
    assert first.startswith(f"the findings can't be written to {tmp_path / 'file' / 'found.json'}:")
    assert remedy == "  give --json a file name in a folder that can be written to"
