"""A reasoning task, its questions and three models, small enough to distil on two CPU cores within minutes.

``data`` holds the shipped result of ``python -m kubedistill_runtime.tiny``; an ``embedded://NAME`` URI names a part.
"""

from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"


def embedded_names() -> list[str]:
    """What an ``embedded://`` URI may name: every model folder and every question file, sorted."""
    return sorted(
        path.relative_to(DATA).as_posix() for kind in ("models/*", "questions/*.jsonl") for path in DATA.glob(kind)
    )


def embedded_path(name: str) -> Path:
    """The file or folder behind ``embedded://NAME``, for example ``models/student`` or ``questions/train.jsonl``.

    Raises ValueError, with the list of all names, when NAME is not one of them.
    """
    names = embedded_names()
    if name.strip("/") not in names:
        raise ValueError(f"embedded://{name} does not exist; there is {', '.join(names)}")
    return DATA / name.strip("/")
