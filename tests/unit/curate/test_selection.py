import random

import pytest

from kubedistill_api.curation import DiversitySpec
from kubedistill_runtime.curate.ray_map import ray_map
from kubedistill_runtime.curate.selection import select_all
from kubedistill_runtime.engines.ray_cluster import ray_cluster


def questions():
    rng = random.Random(0)
    return {
        f"q{k:02}": {i: [rng.randrange(9) for _ in range(rng.randrange(5, 40))] for i in range(k % 9)}
        for k in range(30)
    }


@pytest.mark.parametrize("how", ["farthest", "random", "longest"])
def test_the_batches_and_the_mapper_do_not_change_the_result(how):
    spec = DiversitySpec(trajectories=3, select=how)
    expected = select_all(questions(), spec, 1)
    assert list(expected) == sorted(questions())

    def backwards(function, items):
        return [function(item) for item in list(items)[::-1]]

    assert select_all(questions(), spec, 1, mapper=backwards, batch=1) == expected
    assert select_all(questions(), spec, 1, batch=1000) == expected


def test_only_questions_that_need_distances_are_sent():
    sent = []

    def spy(function, items):
        for item in items:
            sent.extend(item)
            yield function(item)

    select_all(questions(), DiversitySpec(trajectories=3), 0, mapper=spy, batch=2)
    assert sorted(sent) == [question for question, traces in questions().items() if len(traces) > 3]
    sent.clear()
    select_all(questions(), DiversitySpec(trajectories=3, select="shortest"), 0, mapper=spy)
    assert not sent


def test_progress_ends_with_all_questions():
    seen = []
    select_all(questions(), DiversitySpec(), 0, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (30, 30)
    assert seen == sorted(set(seen))


@pytest.fixture(scope="module")
def local_ray():
    with ray_cluster(num_cpus=1):
        yield


@pytest.mark.usefixtures("local_ray")
def test_ray_tasks_give_the_result_of_this_process():
    spec = DiversitySpec(trajectories=3)
    assert select_all(questions(), spec, 0, mapper=ray_map, batch=4) == select_all(questions(), spec, 0)


@pytest.mark.usefixtures("local_ray")
def test_an_error_in_a_ray_task_is_raised_to_the_caller():
    traces = {i: [i, -1] for i in range(5)}
    with pytest.raises(ValueError, match="token ids must lie between"):
        select_all({"q": traces}, DiversitySpec(trajectories=3), 0, mapper=ray_map)
