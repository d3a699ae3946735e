"""What is seen while a job runs: live bars on a terminal, lines elsewhere."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from kubedistill_api.status import JobStatus, Progress, StageStatus

LINE_EVERY_S = 15.0
"""A line of progress in a log so often."""
REFRESH_PER_S = 4
LOG_WIDTH = 160
BAR_WIDTH = 20
RUNNING = Text("▸", style="cyan")
ICONS = {
    "Waiting": Text("·", style="dim"),
    "Starting": Text("…", style="yellow"),
    "Succeeded": Text("✔", style="green"),
    "Skipped": Text("–", style="dim"),
    "Failed": Text("✘", style="bold red"),
}


class QuietView:
    """Shows nothing but notes on the way."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console

    def begin(self, title: str, log_of: Callable[[StageStatus], str]) -> None:
        pass

    def show(self, status: JobStatus) -> None:
        pass

    def note(self, text: str) -> None:
        if self._console:
            self._console.print(text, markup=False, highlight=False)

    def end(self) -> None:
        pass


class LineView(QuietView):
    """A line for each start, end and retry of a stage, and one of progress now and then."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._seen: dict[str, StageStatus] = {}
        self._printed: dict[str, float] = {}

    def begin(self, title: str, log_of: Callable[[StageStatus], str]) -> None:
        self._log_of = log_of
        self.note(title)

    def show(self, status: JobStatus) -> None:
        width = max((len(stage.name) for stage in status.stages), default=0)
        for stage in status.stages:
            before = self._seen.get(stage.name)
            self._seen[stage.name] = stage
            if line := self._line(before, stage):
                self.note(f"{datetime.now():%H:%M:%S} {stage.name:<{width}} {line}")

    def _line(self, before: StageStatus | None, stage: StageStatus) -> str:
        if before is None and stage.state == "Skipped":
            return "not needed"
        if before is None and stage.state == "Succeeded":
            return "reused" if stage.reused else "done before"
        old = (before.state, before.attempt) if before else ("Waiting", stage.attempt)
        if (stage.state, stage.attempt) != old:
            self._printed[stage.name] = time.monotonic()
            match stage.state:
                case "Running":
                    again = f" (attempt {stage.attempt})" if stage.attempt else ""
                    return f"started{again}, log: {shown_path(self._log_of(stage))}"
                case "Succeeded":
                    return "reused" if stage.reused else f"done in {duration(elapsed(stage))}"
                case "Skipped":
                    return "not needed"
                case "Failed":
                    return f"FAILED: {stage.message}"
                case "Waiting" if stage.retry_after:
                    return f"{stage.reason}: {stage.message}; is tried again"
            return ""
        if stage.state == "Starting" and stage.message and stage.message != (before.message if before else ""):
            return stage.message
        overdue = time.monotonic() - self._printed.get(stage.name, 0) >= LINE_EVERY_S
        if stage.state == "Running" and stage.progress and overdue:
            self._printed[stage.name] = time.monotonic()
            return describe(stage.progress)
        return ""


class LiveView(LineView):
    """A table that is drawn over and over."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._status: JobStatus | None = None
        self._live = Live(
            console=console, refresh_per_second=REFRESH_PER_S, get_renderable=self._render, transient=True
        )
        self._spinner = Spinner("dots", style="cyan")

    def begin(self, title: str, log_of: Callable[[StageStatus], str]) -> None:
        super().begin(title, log_of)
        self._live.start()

    def show(self, status: JobStatus) -> None:
        self._status = status
        # What the table forgets is kept above it: failures that are tried again.
        for stage in status.stages:
            before = self._seen.get(stage.name)
            self._seen[stage.name] = stage
            failed = before and before.state in ("Starting", "Running") and stage.state == "Waiting"
            if failed and stage.retry_after:
                self.note(f"{stage.name}: {stage.reason}: {stage.message}; is tried again")

    def end(self) -> None:
        self._live.stop()

    def _render(self) -> RenderableType:
        if self._status is None:
            return Text("")
        return Group(stage_table(self._status.stages, self._spinner))


def console_of(*, color: bool, stderr: bool = False) -> Console:
    """A console; where nobody looks, lines are not cut to a terminal's width."""
    console = Console(stderr=stderr, no_color=not color)
    return console if console.is_terminal else Console(stderr=stderr, no_color=not color, width=LOG_WIDTH)


def stage_table(stages: list[StageStatus], running: RenderableType = RUNNING, *, fill: bool = True) -> Table:
    """One line per stage: state, name, bar, figures. With `fill` as wide as the terminal, and never wider."""
    table = Table.grid(padding=(0, 1), expand=fill)
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(width=BAR_WIDTH)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="ellipsis", no_wrap=fill, ratio=1)
    for stage in stages:
        progress = stage.progress if stage.state == "Running" else None
        bar: RenderableType = ""
        if progress and progress.total:
            bar = ProgressBar(total=progress.total, completed=progress.done, width=BAR_WIDTH)
        idle = stage.state in ("Waiting", "Skipped")
        took = "" if idle else duration(elapsed(stage))
        icon = running if stage.state == "Running" else ICONS[stage.state]
        name = Text(stage.name, style="dim" if idle else "")
        table.add_row(icon, name, bar, "" if stage.reused else took, escape(remark(stage)))
    return table


def remark(stage: StageStatus) -> str:
    """The most telling words about a stage, on one line."""
    again = f"attempt {stage.attempt}" if stage.attempt and stage.state in ("Starting", "Running") else ""
    if stage.reused:
        said = "reused"
    elif stage.state == "Running" and stage.progress:
        said = describe(stage.progress)
    elif stage.state in ("Failed", "Starting") or stage.retry_after:
        said = ": ".join(filter(None, (stage.reason, stage.message)))
    elif stage.state == "Skipped":
        said = "not needed"
    elif stage.state == "Succeeded":
        said = ""
    else:
        said = stage.message
    return " · ".join(filter(None, (again, " ".join(said.split()))))


def describe(progress: Progress) -> str:
    """`48/400 questions, 3.2/s, 1 min 50 s left, 61 % verified`."""
    count = f"{number(progress.done)}"
    if progress.total is not None:
        count += f"/{number(progress.total)}"
    parts = [f"{count} {progress.unit}"]
    if progress.rate:
        parts.append(f"{number(progress.rate)}/s")
    if progress.eta_seconds is not None:
        parts.append(f"{duration(progress.eta_seconds)} left")
    if progress.message:
        parts.append(progress.message)
    return ", ".join(parts)


def shown_path(uri: str) -> str:
    """A local path or file URI as one types it, relative to here when it lies below; other URIs as they are."""
    path = Path(uri.removeprefix("file://"))
    if "://" in uri and not uri.startswith("file://"):
        return uri
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def number(value: float) -> str:
    """Without digits that nobody reads."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def elapsed(stage: StageStatus) -> float:
    """Seconds from the first start to the end, or to now."""
    if stage.started is None:
        return 0.0
    return ((stage.finished or datetime.now(UTC)) - stage.started).total_seconds()


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
