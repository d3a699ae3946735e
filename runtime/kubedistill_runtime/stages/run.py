"""Runs one stage, reading the StageSpec in the file SPEC.

A stage works in the folder that the spec names and leaves result.json there. Started again, it goes on where it was;
a finished one finds its result and ends at once. SIGTERM stops it within seconds; what it has saved stays.

exit codes:
  0    the result is there; or this pod is not index 0, and its help is not needed any more
  65   the input is wrong; trying again cannot help
  71   no memory left, in a process of the stage or on its GPU
  75   trying again may help: a server, a disk or another pod failed
  143  stopped by SIGTERM
  else an error of the program

environment:
  KUBEDISTILL_ATTEMPT           which start this is, in place of the spec's `attempt`
  KUBEDISTILL_PORT              index 0 serves /progress (JSON; 204 before there is any), /metrics (Prometheus) and
                                /healthz there
  KUBEDISTILL_PVC_ROOT          where claims are mounted, for pvc:// (default /mnt/pvc)
  KUBEDISTILL_TERMINATION_LOG   gets the result or the error, at most 4 KiB (default /dev/termination-log)
  RAY_ADDRESS                   use this Ray cluster, in place of one of the stage's own

several pods (role.replicas in the spec above 1):
  JOB_COMPLETION_INDEX          which pod this is; index 0 leads, and alone writes results
  MASTER_ADDR, MASTER_PORT      host name of index 0, and torchrun's port there (default 29400)
  POD_IP                        address of this pod
  sample, baseline, evaluate and curate run on a Ray cluster over the pods, whose head is index 0 on port 6379; train
  runs under torchrun; prepare and report in index 0 alone. Pods wait ten minutes for each other.
  Without these variables one process runs the whole stage on this machine.
"""

import argparse
import contextlib
import importlib
import os
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from kubedistill_api.stage import (
    PROGRESS_FILE,
    RESULT_FILE,
    SPEC_FILE,
    TERMINATION_MESSAGE_BYTES,
    ExitCode,
    StageResult,
    StageSpec,
)
from kubedistill_runtime.data.storage import disk_error, working_folder, write_atomically
from kubedistill_runtime.errors import BadInput, OutOfMemory, TryAgain, memory_error
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.members import assist, token_file, uses_ray
from kubedistill_runtime.stages.owner import owned
from kubedistill_runtime.stages.pod import Pod, this_pod
from kubedistill_runtime.stages.sources import check_sources, note_sources
from kubedistill_runtime.stages.stopping import exit_on_sigterm
from kubedistill_runtime.stages.supervise import kills_rose, memory_kills

TERMINATION_LOG = os.environ.get("KUBEDISTILL_TERMINATION_LOG", "/dev/termination-log")
GROUP_READS = 0o027
"""What a stage writes is read by the stages of other pods, which share a group and may not share a user."""


def main(argv: list[str] | None = None) -> int:
    """Runs the stage of the one argument; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m kubedistill_runtime.stages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="SPEC", type=Path, help="StageSpec as JSON")
    path = parser.parse_args(argv).spec
    os.umask(os.umask(0) & GROUP_READS)
    exit_on_sigterm()
    kills = memory_kills()
    try:
        spec = read_spec(path)
        context = StageContext(spec)
        pod = this_pod(spec.role)
        if pod and not pod.leads:
            assist(context, pod)
        else:
            _leave(_lead(context, pod).termination_message())
        return ExitCode.DONE
    except (BadInput, ValidationError) as error:
        return _fail(ExitCode.BAD_INPUT, str(error))
    except TryAgain as error:
        return _fail(ExitCode.TRY_AGAIN, str(error))
    except OutOfMemory as error:
        return _fail(ExitCode.OUT_OF_MEMORY, str(error))
    except Exception as error:
        mapped = disk_error(error, path) if isinstance(error, OSError) else error
        if isinstance(mapped, TryAgain):
            return _fail(ExitCode.TRY_AGAIN, str(mapped))
        traceback.print_exc()
        if no_memory := memory_error(error, kernel_killed=kills_rose(kills)):
            return _fail(ExitCode.OUT_OF_MEMORY, str(no_memory))
        return _fail(1, f"{type(error).__name__}: {error}")


def read_spec(path: Path) -> StageSpec:
    """The spec in a file, with the attempt that the environment tells. Raises BadInput or ValidationError."""
    spec = StageSpec.model_validate_json(path.read_bytes())
    attempt = os.environ.get("KUBEDISTILL_ATTEMPT")
    if attempt is None:
        return spec
    if not attempt.isdecimal():
        raise BadInput(f"KUBEDISTILL_ATTEMPT is {attempt!r}; it must be a number")
    return spec.model_copy(update={"attempt": int(attempt)})


def _lead(context: StageContext, pod: Pod | None) -> StageResult:
    """The stage's result, made or found; delivered, where the spec asks for it."""
    spec = context.spec
    if port := os.environ.get("KUBEDISTILL_PORT"):
        from kubedistill_runtime.stages.progress_server import serve_progress

        serve_progress(context, port)
    result = context.finished()
    if result:
        check_sources(context.folder, spec.params)
        with contextlib.suppress(OSError):
            (context.folder / RESULT_FILE).touch()  # what is used again is young again, for `kubedistill gc`
    else:
        (context.folder / PROGRESS_FILE).unlink(missing_ok=True)
        # What it is made from stays with what is made: for the report, and for `kubedistill gc`.
        write_atomically(context.folder / SPEC_FILE, spec.model_dump_json(by_alias=True, indent=1).encode())
        note_sources(context.folder, spec.params)
        # Only the module of this stage is loaded: curate has no use for torch.
        stage = importlib.import_module(f"kubedistill_runtime.stages.{spec.params.kind}")
        with contextlib.ExitStack() as stack:
            if "KUBEDISTILL_ATTEMPT" in os.environ:
                stack.enter_context(owned(context.folder))
            if pod and uses_ray(context):
                from kubedistill_runtime.engines.ray_cluster import ray_head

                stack.enter_context(ray_head(pod.ip, token_file(context)))
            result = stage.run(context, spec.params)
    if spec.deliver_to:
        from kubedistill_runtime.data.delivery import deliver

        context.progress(0, None, "files", f"delivering to {spec.deliver_to}", force=True)
        before = [(context.result_of(role), working_folder(uri)) for role, uri in spec.inputs.items()]
        deliver([*before, (result, context.folder)], spec.deliver_to)
    return result


def _fail(code: int, message: str) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    _leave(message)
    return code


def _leave(message: str) -> None:
    """Kubernetes shows this file's content in the pod's status."""
    path = Path(TERMINATION_LOG)
    if path.exists() and os.access(path, os.W_OK):
        path.write_bytes(message.encode()[:TERMINATION_MESSAGE_BYTES])
