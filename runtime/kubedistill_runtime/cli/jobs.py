"""Jobs and probes that were run on this machine, found by name or by manifest file."""

from pathlib import Path

from kubedistill_api.manifest import load
from kubedistill_api.stage import RESULT_FILE, StageResult
from kubedistill_api.status import JobStatus, StageStatus
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.local.workspace import JobFolder, workspaces

ROOT_HELP = "Folder that `kubedistill run` was given."
TARGET_HELP = "Name of a job or a probe, or its manifest file."


def find_job(target: str, root: Path, namespace: str | None = None) -> tuple[JobFolder, JobStatus]:
    """The one job or probe that is meant, with its status.

    Raises BadInput when there is none or more than one, TryAgain when it has not been started yet.
    """
    wanted: set[tuple[str, str, str]] | None = None
    if Path(target).is_file():
        resources = load(Path(target)).resources
        wanted = {(r.kind, r.metadata.namespace, r.metadata.name) for r in resources}
    every = [folder for workspace in workspaces(root) for folder in workspace.jobs()]
    found = [
        folder
        for folder in every
        if (folder.name == target if wanted is None else (folder.kind, folder.namespace, folder.name) in wanted)
        and namespace in (None, folder.namespace)
    ]
    if not found:
        if wanted:
            raise TryAgain(f"{target} has not been run with --root {root} yet: kubedistill run {target}")
        known = ", ".join(sorted({folder.name for folder in every})) or "none"
        raise BadInput(f"no job or probe {target} in {root} (there: {known})")
    if len(found) > 1:
        names = ", ".join(f"{folder.kind} {folder.namespace}/{folder.name}" for folder in found)
        raise BadInput(f"{target} is one of several: {names}; give a name, and --namespace")
    status = found[0].read_status()
    if status is None:
        raise TryAgain(f"{found[0].folder} has no status that can be read; run the manifest again")
    return found[0], status


def stage_folder(job: JobFolder, stage: StageStatus) -> Path:
    """Where a stage of a job works."""
    return job.folder.parents[2] / "stages" / f"{stage.kind}-{stage.digest[:16]}"


def stage_result(job: JobFolder, stage: StageStatus) -> StageResult | None:
    """The result of a stage, when it is there."""
    path = stage_folder(job, stage) / RESULT_FILE
    return StageResult.model_validate_json(path.read_bytes()) if path.exists() else None


def artifact(job: JobFolder, stage: StageStatus, name: str) -> Path | None:
    """Path of what a finished stage made; None before that."""
    result = stage_result(job, stage)
    if result is None or name not in result.outputs:
        return None
    path = stage_folder(job, stage) / result.outputs[name].uri
    return path if path.exists() else None
