"""Walking through questions and traces with single keys."""

import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rich.console import Console

from kubedistill_runtime.cli.trace_data import Question, Trace, Traces
from kubedistill_runtime.cli.trace_view import lines_of, question_view, trace_view

KEYS = {
    "n": "trace",
    "\x1b[C": "trace",
    "p": "trace back",
    "\x1b[D": "trace back",
    "j": "question",
    "\x1b[B": "question",
    "k": "question back",
    "\x1b[A": "question back",
    " ": "page",
    "\x1b[6~": "page",
    "b": "page back",
    "\x1b[5~": "page back",
    "g": "first",
    "G": "last",
    "q": "quit",
    "\x1b": "quit",
    "\x03": "quit",
    "\x04": "quit",
}
HELP = "n/p trace  j/k question  space/b page  g/G first/last  q quit"
ESCAPE_WAIT_S = 0.05
"""An arrow key sends several bytes at once; the escape key sends one."""


@dataclass(frozen=True)
class Place:
    """Where the reader is. Pure: `moved` gives the next place."""

    question: int = 0
    trace: int = 0
    top: int = 0
    """First line shown."""

    def moved(self, act: str, questions: int, traces: int, lines: int, height: int) -> "Place":
        """After an act, among so many questions, traces of the question, and lines of the trace."""
        last_top = max(0, lines - height)
        match act:
            case "trace" if self.trace + 1 < traces:
                return Place(self.question, self.trace + 1)
            case "trace" if self.question + 1 < questions:
                return Place(self.question + 1)
            case "trace back" if self.trace:
                return Place(self.question, self.trace - 1)
            case "trace back" | "question back" if self.question:
                return Place(self.question - 1)
            case "question" if self.question + 1 < questions:
                return Place(self.question + 1)
            case "page":
                return replace(self, top=min(self.top + max(1, height - 2), last_top))
            case "page back":
                return replace(self, top=max(0, self.top - max(1, height - 2)))
            case "first":
                return Place()
            case "last":
                return Place(questions - 1)
        return self


def page_through(console: Console, traces: Traces, questions: list[Question]) -> None:
    """Shows one trace at a time until the reader quits."""
    place, loaded = Place(), -1
    items: list[Trace] = []
    with _keys() as keys, console.screen():
        while True:
            question = questions[place.question]
            if loaded != place.question:
                items, loaded = list(traces.traces(question)), place.question
            width, rows = shutil.get_terminal_size()
            height = rows - 1
            lines = lines_of(console, question_view(question), width)
            if items:
                lines += [*lines_of(console, trace_view(items[place.trace], traces.curated), width)]
            place = replace(place, top=min(place.top, max(0, len(lines) - height)))
            _draw(lines[place.top : place.top + height], height, _foot(place, questions, items, lines, height, width))
            act = KEYS.get(next(keys), "")
            if act == "quit":
                return
            place = place.moved(act, len(questions), len(items), len(lines), height)


def _foot(
    place: Place, questions: list[Question], items: list[Trace], lines: list[str], height: int, width: int
) -> str:
    more = f"  {min(100, 100 * (place.top + height) // max(1, len(lines)))}%" if len(lines) > height else ""
    where = f" question {place.question + 1}/{len(questions)}  trace {place.trace + 1}/{len(items)}{more}"
    return f"\x1b[7m{f'{where}   {HELP}'[:width].ljust(width)}\x1b[0m"


def _draw(lines: list[str], height: int, foot: str) -> None:
    blank = [""] * (height - len(lines))
    screen = "".join(f"{line}\x1b[0m\x1b[K\r\n" for line in [*lines, *blank])
    sys.stdout.write(f"\x1b[H{screen}{foot}")
    sys.stdout.flush()


@contextmanager
def _keys() -> Iterator[Iterator[str]]:
    """Keys as they are pressed; the terminal is as before afterwards."""
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)

    def pressed() -> Iterator[str]:
        while True:
            key = os.read(handle, 1)
            if key == b"\x1b" and select.select([handle], [], [], ESCAPE_WAIT_S)[0]:
                key += os.read(handle, 8)
            yield key.decode(errors="replace") if key else "q"

    try:
        tty.setcbreak(handle)
        yield pressed()
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
