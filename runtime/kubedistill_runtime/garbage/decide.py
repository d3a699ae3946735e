"""`decide`: what stays and what goes. Pure.

A folder stays that somebody refers to, that is being written, or that is young; and so does everything that it was
made from, to any depth. The rest goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Leftover:
    """A file or folder that something began to write in a stage's folder, and never finished."""

    path: str
    """Relative to the stage's folder."""
    age: timedelta
    bytes: int = 0


@dataclass(frozen=True)
class Folder:
    """One folder below `stages`, as it was found."""

    name: str
    age: timedelta
    """Since anything in it was written."""
    bytes: int = 0
    """What its removal frees: files that have another name elsewhere do not count."""
    finished: bool = True
    """Whether its result is there."""
    busy: str = ""
    """Who is writing to it."""
    needs: frozenset[str] = frozenset()
    """Names of the folders that it was made from."""
    leftovers: tuple[Leftover, ...] = ()
    trash: bool = False
    """An earlier collection began to remove it."""
    strange: bool = False
    """Not named like the folder of a stage."""

    @property
    def digest(self) -> str:
        """As much of the stage's digest as the name has."""
        return self.name.rpartition("-")[2]


@dataclass(frozen=True)
class Verdict:
    """What becomes of a folder, and why."""

    folder: Folder
    keep: bool
    why: str
    leftovers: tuple[Leftover, ...] = ()
    """Of a folder that stays: what goes out of it."""

    @property
    def freed(self) -> int:
        return sum(rest.bytes for rest in self.leftovers) if self.keep else self.folder.bytes


def decide(folders: Sequence[Folder], referrers: Mapping[str, str], older_than: timedelta) -> list[Verdict]:
    """A verdict on each folder, in their order. `referrers` says who refers to a stage, by the digest in its name."""
    kept = _kept(folders, referrers, older_than)
    return [_verdict(folder, kept, older_than) for folder in folders]


def _kept(folders: Sequence[Folder], referrers: Mapping[str, str], older_than: timedelta) -> dict[str, str]:
    """Why each folder stays that stays."""
    kept: dict[str, str] = {}
    for folder in folders:
        if folder.strange:
            kept[folder.name] = "not the folder of a stage"
        elif folder.trash:
            continue
        elif folder.busy:
            kept[folder.name] = f"being written: {folder.busy}"
        elif folder.digest in referrers:
            kept[folder.name] = referrers[folder.digest]
        elif folder.age < older_than:
            kept[folder.name] = f"written {spoken(folder.age)} ago"
    needs = {folder.name: folder.needs for folder in folders}
    there = {folder.name for folder in folders if not folder.trash}
    ahead = list(kept)
    while ahead:
        user = ahead.pop()
        for need in sorted(needs[user] & there - kept.keys()):
            kept[need] = f"{user} was made from it"
            ahead.append(need)
    return kept


def _verdict(folder: Folder, kept: Mapping[str, str], older_than: timedelta) -> Verdict:
    if folder.name in kept:
        dead = () if folder.busy else tuple(rest for rest in folder.leftovers if rest.age >= older_than)
        return Verdict(folder, True, kept[folder.name], dead)
    if folder.trash:
        return Verdict(folder, False, "an earlier collection began to remove it")
    state = "nobody refers to it" if folder.finished else "unfinished, and nobody refers to it"
    return Verdict(folder, False, f"{state}; written {spoken(folder.age)} ago")


def spoken(age: timedelta) -> str:
    """`3 d`, `5 h`, `12 min`."""
    seconds = max(0, int(age.total_seconds()))
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {name}"
    return f"{seconds} s"
