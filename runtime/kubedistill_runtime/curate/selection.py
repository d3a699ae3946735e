"""Diversity over all questions, spread over processes where a mapper brings them."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol, TypeVar

from kubedistill_api.curation import DiversitySpec
from kubedistill_runtime.curate.diversity import Units, select
from kubedistill_runtime.curate.types import Selection

BATCH = 4
"""Questions per task: about half a second of work at 16 traces of 10,000 tokens, some 3 MB to send."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with (questions done, questions in all) after each batch."""


class Mapper(Protocol):
    """Applies a function to every item and yields the results in any order: the builtin `map`, `ray_map`, ..."""

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> Iterable[Result]: ...


def select_all(
    questions: Mapping[str, Mapping[int, Units]],
    spec: DiversitySpec,
    seed: int,
    *,
    mapper: Mapper = map,
    progress: Progress | None = None,
    batch: int = BATCH,
) -> dict[str, Selection]:
    """Choose the traces of every question, in ascending order of the ids.

    questions: per question id, the traces by sample index (see `select`).
    mapper: who does the work. Only questions that need distances are sent, a batch at a time, as they are asked for.
    """
    heavy = [q for q, traces in questions.items() if spec.select == "farthest" and len(traces) > spec.trajectories]
    # The largest first, so that no task of many long traces is left for the end; ties by id.
    heavy.sort(key=lambda q: (-sum(map(len, questions[q].values())) * len(questions[q]), q))
    sent = set(heavy)
    done = {q: select(q, traces, spec, seed) for q, traces in questions.items() if q not in sent}
    if progress is not None:
        progress(len(done), len(questions))
    batches = ({q: questions[q] for q in heavy[start : start + batch]} for start in range(0, len(heavy), batch))
    for selections in mapper(partial(select_batch, spec=spec, seed=seed), batches):
        done.update(selections)
        if progress is not None:
            progress(len(done), len(questions))
    return {question: done[question] for question in sorted(done)}


def select_batch(questions: Mapping[str, Mapping[int, Units]], spec: DiversitySpec, seed: int) -> dict[str, Selection]:
    """The work of one task."""
    return {question: select(question, traces, spec, seed) for question, traces in questions.items()}
