"""The train stage: encodes the corpus for the student and runs the trainer under torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq

from kubedistill_api.runtime import RoleSpec
from kubedistill_api.stage import ExitCode, StageResult, TrainParams
from kubedistill_api.status import Usage
from kubedistill_api.training import TrainingSpec
from kubedistill_runtime.data.encoding import chat_prompt, encode, load_tokenizer
from kubedistill_runtime.data.models import model_path
from kubedistill_runtime.data.storage import fsync_folder, write_atomically
from kubedistill_runtime.errors import BadInput, OutOfMemory, TryAgain
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.pod import HEAD_S, Pod, this_pod, wait_for_head
from kubedistill_runtime.stages.supervise import kills_rose, memory_kills
from kubedistill_runtime.train.job import TrainJob

POLL_S = 0.3
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
LINES_OF_ERROR = 30
RENDEZVOUS_PORT = 29400
JOB_FILE = "job.json"
MOST_EPOCHS = 1000
"""Where steps are what ends a training."""
TRAINER_GRACE_S = 8.0
"""A trainer that is told to end takes so long at most."""


def run(context: StageContext, params: TrainParams) -> StageResult:
    """Leaves model/, metrics.jsonl and covariates.json. Continues from the newest checkpoint in the stage's folder, if
    there is one."""
    student = Path(model_path(params.model))
    context.progress(0, None, "steps", "encoding the corpus", force=True)
    corpus, as_drawn = _encode(context, params, student)
    job = TrainJob(
        model_path=student,
        trust_remote_code=params.model.trust_remote_code,
        corpus_path=corpus,
        output_dir=context.folder,
        training=with_steps(context, params),
    )
    job_file = context.folder / JOB_FILE
    write_atomically(job_file, job.model_dump_json(by_alias=True, indent=1).encode())
    measuring = ", measuring the corpus" if job.training.measure_corpus else ""
    context.progress(0, None, "steps", f"loading the trainer{measuring}", force=True)
    _train(_command(context, job_file), lambda: _report(context, job))
    summary = json.loads(job.summary_path.read_text())
    return context.finish(
        {"model": job.model_dir, "metrics": job.metrics_path}
        | ({"covariates": job.covariates_path} if job.training.measure_corpus and job.covariates_path.exists() else {}),
        metrics={
            "responses_as_drawn": as_drawn,
            **{k: v for k, v in summary.items() if isinstance(v, int | float | str)},
        },
        usage=Usage(training_tokens=int(summary.get("tokens", 0))),
    )


def with_steps(context: StageContext, params: TrainParams) -> TrainingSpec:
    """How to train; with `matchSteps` for as many steps as the matched training took. Raises BadInput."""
    if not params.match_steps:
        return params.training
    steps = context.result_of("matched").metrics.get("steps")
    if not isinstance(steps, int):
        raise BadInput(f"the training that {context.spec.stage} is matched with does not tell its steps; run it again")
    return params.training.model_copy(update={"max_steps": steps, "epochs": MOST_EPOCHS})


def join(context: StageContext, params: TrainParams, pod: Pod) -> None:
    """This pod's processes of the training that index 0 leads. Raises BadInput or TryAgain."""
    model_path(params.model)  # a model of the hub goes into each pod's cache
    # Index 0 writes the job file of this start before it listens, so one that an earlier start left is not taken.
    if wait_for_head(context, pod, _port()):
        _train(_command(context, context.folder / JOB_FILE))


def _encode(context: StageContext, params: TrainParams, student: Path) -> tuple[Path, int]:
    """The corpus as token ids of the student, and how many responses kept the ids that the teacher drew."""
    tokenizer = load_tokenizer(student, trust_remote_code=params.model.trust_remote_code)
    rows = pq.read_table(
        context.artifact("curate", "corpus"),
        columns=["question_id", "sample_index", "prompt", "response", "response_token_ids"],
    ).to_pylist()
    encoded = []
    for row in rows:
        prompt_text, prompt_ids = chat_prompt(tokenizer, row["prompt"])
        encoded.append(encode(tokenizer, prompt_text, prompt_ids, row["response"], row["response_token_ids"]))
    table = pa.table(
        {
            "question_id": [row["question_id"] for row in rows],
            "sample_index": pa.array([row["sample_index"] for row in rows], pa.int32()),
            "prompt_token_ids": pa.array([e.prompt_token_ids for e in encoded], pa.list_(pa.int32())),
            "response_token_ids": pa.array([e.response_token_ids for e in encoded], pa.list_(pa.int32())),
        }
    )
    path = context.folder / "encoded.parquet"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, temporary)
    temporary.replace(path)
    fsync_folder(path.parent)
    return path, sum(e.as_drawn for e in encoded)


def _port() -> int:
    return int(os.environ.get("MASTER_PORT", RENDEZVOUS_PORT))


def _command(context: StageContext, job_file: Path) -> list[str]:
    options = torchrun_options(context.spec.role, this_pod(context.spec.role))
    return [sys.executable, "-m", "kubedistill_runtime.train", str(job_file), *options]


def torchrun_options(role: RoleSpec, pod: Pod | None) -> list[str]:
    """Options for torchrun; none for a single process, which needs no launcher. Without pods all of the role's
    processes are on this machine."""
    if pod is None:
        processes = role.replicas * role.processes
        return ["--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    return [
        "--nnodes", str(role.replicas),
        "--nproc-per-node", str(role.processes),
        "--node-rank", str(pod.index),
        "--master-addr", pod.head,
        "--master-port", str(_port()),
        "--rdzv-conf", f"timeout={HEAD_S:.0f}",
    ]  # fmt: skip


def _train(command: list[str], look: Callable[[], None] = lambda: None) -> None:
    """Runs the trainer to its end, looking at it now and then. Raises BadInput, TryAgain or RuntimeError."""
    kills = memory_kills()
    last_lines: deque[str] = deque(maxlen=LINES_OF_ERROR)
    # In a process group of its own: torchrun that is told to end twice, by the group and by the stage, breaks off.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0)
    try:
        reader = Thread(target=_pass_on, args=(process.stderr, last_lines), daemon=True)
        reader.start()
        while process.poll() is None:
            look()
            time.sleep(POLL_S)
        reader.join()
    finally:
        _end(process)
    said = "".join(last_lines)
    if process.returncode == ExitCode.BAD_INPUT:
        raise BadInput(said.strip().removeprefix("bad input: "))
    if process.returncode == ExitCode.TRY_AGAIN:
        raise TryAgain(_last(said, "try again: "))
    if process.returncode in KILLED and kills_rose(kills):
        raise OutOfMemory("the kernel killed the trainer: no memory left")
    if process.returncode != 0:
        raise RuntimeError(f"the trainer ended with exit code {process.returncode}:\n{said}")


def _end(process: subprocess.Popen[str]) -> None:
    """The trainer must not outlive the stage."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(TRAINER_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last(said: str, mark: str) -> str:
    """The last line with the mark, without it; else the last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marked = [line.removeprefix(mark) for line in lines if line.startswith(mark)]
    return (marked or lines or ["the trainer asked for another try"])[-1]


def _pass_on(stream: Iterable[str], last_lines: deque[str]) -> None:
    for line in stream:
        last_lines.append(line)
        sys.stderr.write(line)
        sys.stderr.flush()


def _report(context: StageContext, job: TrainJob) -> None:
    """The newest row of the metrics as progress."""
    if not job.metrics_path.exists():
        return
    with job.metrics_path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = file.read().split(b"\n")[:-1]  # the last one may be half written
    if lines and lines[-1].startswith(b"{"):
        row = json.loads(lines[-1])
        figures = {name: row[name] for name in ("loss", "tokens_per_second")}
        message = f"loss {row['loss']:.3f}, {row['tokens_per_second']:,.0f} tokens/s"
        context.progress(row["step"], row.get("total_steps"), "steps", message, figures=figures)
