"""What several of these tests look at."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def children_of() -> Callable[..., list[int]]:
    """Living child processes of a process whose command line holds some words, from /proc."""

    def children_of(parent: int, words: str = "") -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z" and words in command:
                found.append(int(folder.name))
        return sorted(found)

    return children_of
