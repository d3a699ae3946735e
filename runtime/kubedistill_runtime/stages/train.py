"""The train stage: encodes the corpus for the student and runs the trainer under torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq

from kubedistill_api.stage import ExitCode, StageResult, TrainParams
from kubedistill_api.status import Usage
from kubedistill_runtime.data.encoding import chat_prompt, encode, load_tokenizer
from kubedistill_runtime.data.models import model_path
from kubedistill_runtime.data.storage import fsync_folder
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.train.job import TrainJob

POLL_S = 0.3
LINES_OF_ERROR = 30
RENDEZVOUS_PORT = "29400"


def run(context: StageContext, params: TrainParams) -> StageResult:
    """Leaves model/ and metrics.jsonl. Continues from the newest checkpoint in the stage's folder, if there is one."""
    student = Path(model_path(params.model))
    context.progress(0, None, "steps", "encoding the corpus", force=True)
    corpus, as_drawn = _encode(context, params, student)
    job = TrainJob(model_path=student, corpus_path=corpus, output_dir=context.folder, training=params.training)
    job_file = context.folder / "job.json"
    job_file.write_text(job.model_dump_json(by_alias=True, indent=1))
    _train(context, job, [sys.executable, "-m", "kubedistill_runtime.train", str(job_file), *_torchrun(context)])
    summary = json.loads(job.summary_path.read_text())
    return context.finish(
        {"model": job.model_dir, "metrics": job.metrics_path},
        metrics={
            "responses_as_drawn": as_drawn,
            **{k: v for k, v in summary.items() if isinstance(v, int | float | str)},
        },
        usage=Usage(training_tokens=int(summary.get("tokens", 0))),
    )


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


def _torchrun(context: StageContext) -> list[str]:
    """Options for torchrun; none for a single process, which needs no launcher."""
    role = context.spec.role
    if role.replicas * role.processes == 1:
        return []
    if role.replicas == 1:
        return ["--standalone", "--nproc-per-node", str(role.processes)]
    return [
        "--nnodes", str(role.replicas),
        "--nproc-per-node", str(role.processes),
        "--node-rank", os.environ["JOB_COMPLETION_INDEX"],
        "--master-addr", os.environ["MASTER_ADDR"],
        "--master-port", os.environ.get("MASTER_PORT", RENDEZVOUS_PORT),
    ]  # fmt: skip


def _train(context: StageContext, job: TrainJob, command: list[str]) -> None:
    """Runs the trainer to its end and passes its progress on."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    # The executor ends a stage with SIGTERM; the trainer must not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: (process.terminate(), sys.exit(128 + signal.SIGTERM)))
    last_lines: deque[str] = deque(maxlen=LINES_OF_ERROR)
    assert process.stderr is not None
    reader = Thread(target=_pass_on, args=(process.stderr, last_lines))
    reader.start()
    while process.poll() is None:
        _report(context, job)
        time.sleep(POLL_S)
    reader.join()
    if process.returncode == ExitCode.BAD_INPUT:
        raise BadInput("".join(last_lines).strip().removeprefix("bad input: "))
    if process.returncode == ExitCode.TRY_AGAIN:
        raise TryAgain("".join(last_lines).strip())
    if process.returncode != 0:
        raise RuntimeError(f"the trainer ended with exit code {process.returncode}:\n{''.join(last_lines)}")


def _pass_on(stream, last_lines: deque[str]) -> None:
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
        message = f"loss {row['loss']:.3f}, {row['tokens_per_second']:,.0f} tokens/s"
        context.progress(row["step"], row.get("total_steps"), "steps", message)
