"""Tasks by their names: loaded, read as questions, and their verdicts taken from what the harness evaluated."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from kubedistill_api.data import Benchmark
from kubedistill_api.harness import HARNESS, HarnessTask
from kubedistill_runtime.data.questions import Question
from kubedistill_runtime.data.rows import secret
from kubedistill_runtime.data.storage import local_path
from kubedistill_runtime.errors import BadInput, TryAgain

Task = Any
"""An `lm_eval.api.task.Task`."""

FEWSHOT_SEED = 1234
"""The harness's own default: which examples stand before which question."""
NAMES_SHOWN = 10


def load_tasks(benchmark: Benchmark, where: str) -> dict[str, Task]:
    """The tasks that a benchmark's name stands for, by their own names: one, or those of a group.

    `where` is the benchmark's field in the manifest. Raises BadInput where the harness is not installed, or knows no
    such task, or the task does not fit the entry; TryAgain when its data cannot be fetched just now.
    """
    harness = benchmark.harness
    assert harness is not None
    field = f"{where}.harness"
    folder = _folder(benchmark, where)
    token = secret(benchmark.token_secret_ref, f"{where}.tokenSecretRef")
    with _refused(field, harness.task), _token(token):
        manager = _manager(folder)
        if harness.task not in manager.all_tasks:
            near = [name for name in manager.all_tasks if harness.task in name][:NAMES_SHOWN]
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise BadInput(f"{field}.task: {folder or 'the harness'} has no task or group {harness.task}{hint}")
        tasks: dict[str, Task] = manager.load([harness.task])["tasks"]
    for task in tasks.values():
        _settle(task, harness, field)
    return tasks


@cache
def _manager(folder: str | None) -> Any:
    """The tasks of a folder, or the harness's own. To find the latter it reads thousands of files, for some seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=folder, include_defaults=folder is None)


def questions(benchmark: Benchmark, index: int, tasks: Mapping[str, Task]) -> Iterator[Question]:
    """What the tasks ask, for the list of a benchmark's questions and the comparison with those trained on.

    Ids are `TASK/NUMBER`. The prompt is the question alone: examples and templates are the harness's doing.
    """
    row = 0
    for name, task in tasks.items():
        for number, doc in task.doc_iterator(limit=benchmark.limit):
            text = _question(task, doc)
            yield Question(f"{name}/{number}", index, row, HARNESS, text, text, _target(task, doc), None)
            row += 1


def build_requests(task: Task, limit: int | None, lm: Any, *, chat_template: bool) -> list[Any]:
    """The task's requests to a model, always with the same examples before them: of each `request_type` and `args`."""
    task.set_fewshot_seed(FEWSHOT_SEED)
    task.build_all_requests(
        limit=limit,
        apply_chat_template=chat_template,
        fewshot_as_multiturn=chat_template,
        chat_template=lm.apply_chat_template if chat_template else None,
    )
    found: list[Any] = task.instances
    return found


def evaluate(benchmark: Benchmark, tasks: Mapping[str, Task], lm: Any) -> dict[str, list[dict[str, Any]]]:
    """What the harness makes of a model's answers: of each task the samples, one for each question and filter.

    Raises BadInput where the harness refuses a task.
    """
    from lm_eval.evaluator import evaluate as harness_evaluate

    assert benchmark.harness is not None
    for task in tasks.values():
        # Examples are drawn from here on, for every model the same.
        task.set_fewshot_seed(FEWSHOT_SEED)
    chat = benchmark.harness.chat_template
    results = harness_evaluate(
        lm,
        {"tasks": dict(tasks)},
        limit=benchmark.limit,
        bootstrap_iters=0,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
    )
    assert results is not None  # only for ranks above 0
    samples: dict[str, list[dict[str, Any]]] = results["samples"]
    return samples


def verdicts(
    samples: Sequence[Mapping[str, Any]], harness: HarnessTask, task: str, first_metric: str
) -> dict[int, tuple[bool, str]]:
    """Of each question by its number: whether the answer is right, and by which metric and filter.

    Raises BadInput where there is no such filter or metric, or its values are not right or wrong.
    """
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    chosen = harness.filter or filters[0]
    metric = harness.metric or first_metric
    if chosen not in filters:
        raise BadInput(f"harness task {task}: there is no filter {chosen}; set harness.filter to one of {filters}")
    found: dict[int, tuple[bool, str]] = {}
    for sample in samples:
        if sample["filter"] != chosen:
            continue
        value = sample.get(metric)
        if not isinstance(value, bool) and value not in (0, 1):
            of = (
                f"it has {', '.join(sample['metrics'])}"
                if value is None
                else f"question {sample['doc_id']} has {value}"
            )
            raise BadInput(
                f"harness task {task}: {metric} does not say right or wrong of each question ({of}); set "
                "harness.metric to a metric that is 0 or 1, or leave the task out"
            )
        found[sample["doc_id"]] = (bool(value), f"{HARNESS}:{metric},{chosen}")
    return found


def first_metric(task: Task) -> str:
    """The metric that a task names first."""
    return str(next(iter(task.aggregation())))


def _settle(task: Task, harness: HarnessTask, where: str) -> None:
    """Puts the entry's wishes into a task. Raises BadInput where the task cannot meet them."""
    name = task.task_name
    if getattr(task, "UNSAFE_CODE", False):
        raise BadInput(
            f"{where}.task: {name} runs model-written code outside of a sandbox; use a source of domain code"
        )
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        raise BadInput(f"{where}.task: {name} measures perplexity, not right or wrong answers")
    own = task.get_config("num_fewshot")
    if own == 0 and harness.num_fewshot:
        raise BadInput(f"{where}.numFewshot: {name} is defined without examples; remove the field")
    task.set_config("num_fewshot", (own or 0) if harness.num_fewshot is None else harness.num_fewshot)
    if harness.max_tokens and task.OUTPUT_TYPE == "generate_until":
        task.set_config("generation_kwargs", {"max_gen_toks": harness.max_tokens}, update=True)
    higher = task.higher_is_better()
    metric = harness.metric or first_metric(task)
    if metric not in higher:
        raise BadInput(f"{where}.metric: {name} has no {metric}; set it to one of {', '.join(higher)}")
    if not higher[metric]:
        raise BadInput(
            f"{where}.metric: of {metric} less is better, so it is no share of right answers; choose another"
        )


def _question(task: Task, doc: Any) -> str:
    text = task.doc_to_text(doc)
    # Where an option is put into the question, the text is the number of the right one.
    return text if isinstance(text, str) else " ".join(map(str, task.doc_to_choice(doc)))


def _target(task: Task, doc: Any) -> str:
    target = task.doc_to_target(doc)
    choices = task.doc_to_choice(doc) if isinstance(target, int) and task.get_config("doc_to_choice") else None
    return str(choices[target] if choices and target < len(choices) else target)


def _folder(benchmark: Benchmark, where: str) -> str | None:
    if benchmark.uri.startswith(f"{HARNESS}://"):
        return None
    path = local_path(benchmark.uri)
    if path is None or not path.is_dir():
        raise BadInput(f"{where}.uri: {path or benchmark.uri} is not a folder here; give one with YAML files of tasks")
    return str(path)


@contextmanager
def _token(token: str | None) -> Iterator[None]:
    """The hub's token where its client looks for it; tasks have no other way to take one."""
    before = os.environ.get("HF_TOKEN")
    if token:
        os.environ["HF_TOKEN"] = token
    try:
        yield
    finally:
        if token and before is None:
            del os.environ["HF_TOKEN"]
        elif token and before is not None:
            os.environ["HF_TOKEN"] = before


@contextmanager
def _refused(where: str, task: str) -> Iterator[None]:
    """What goes wrong while a task is loaded, as what the user can do about it."""
    try:
        yield
    except (BadInput, TryAgain):
        raise
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "lm_eval":
            raise BadInput(
                f"{where}: the lm-evaluation-harness is not installed here; install kubedistill[harness] in the image "
                "of the stages, or remove the benchmark"
            ) from None
        raise BadInput(f"{where}.task: {task} needs the package {error.name} beside the harness; install it") from None
    except OSError as error:
        if os.environ.get("HF_HUB_OFFLINE") or isinstance(error, FileNotFoundError):
            raise BadInput(f"{where}.task: the data of {task} is not there: {error}") from error
        raise TryAgain(f"{where}.task: the data of {task} cannot be fetched: {error}") from error
    except Exception as error:  # the harness and its tasks' own Python raise what they like
        raise BadInput(f"{where}.task: {task} cannot be loaded: {type(error).__name__}: {error}") from error
