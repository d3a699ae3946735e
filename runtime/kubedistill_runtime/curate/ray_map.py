"""A mapper over Ray tasks. Apart from the rest, so that curation runs where there is no Ray."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import ray

Item = TypeVar("Item")
Result = TypeVar("Result")

PER_CPU = 2
"""Tasks in flight per CPU: one that runs and one whose input is under way."""


def ray_map(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to every item as tasks of one CPU each, and yield the results as they come.

    Ray must have been initialised. Items are taken only as tasks finish, so that no more than two per CPU of the
    cluster are held at once. An error in a task is raised here; what is still running is cancelled then, as it is
    when the caller stops early. Lost workers are replaced by Ray itself.
    """

    @ray.remote(num_cpus=1)
    def task(item: Item) -> Result:
        return function(item)

    window = max(2, PER_CPU * int(ray.cluster_resources().get("CPU", 1)))
    running: list[ray.ObjectRef[Result]] = []
    source = iter(items)
    try:
        while True:
            for item in source:
                running.append(task.remote(item))
                if len(running) >= window:
                    break
            if not running:
                return
            (finished,), running = ray.wait(running, num_returns=1)
            yield ray.get(finished)
    finally:
        for reference in running:
            ray.cancel(reference)
