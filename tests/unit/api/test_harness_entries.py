"""Benchmarks that are tasks of the lm-evaluation-harness, as a manifest has them."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from kubedistill_api.data import Benchmark
from kubedistill_api.job import DistillationJob
from kubedistill_api.manifest import load
from kubedistill_api.planning import plan
from kubedistill_api.stage import BaselineParams, EvaluateParams, StageSpec
from tests.unit.api.small_job import JOB

ARC = {"name": "arc", "harness": {"task": "arc_easy", "numFewshot": 0}}
OWN = {"name": "own", "uri": "hf://org/own"}


def job(*benchmarks: dict[str, Any]) -> DistillationJob:
    spec = {**JOB["spec"], "evaluation": {"samples": 4, "benchmarks": list(benchmarks)}}
    (resource,) = load(json.dumps({**JOB, "spec": spec})).resources
    assert isinstance(resource, DistillationJob)
    return resource


def test_the_stages_with_an_engine_are_told_the_tasks_and_others_stay_what_they_were() -> None:
    graph, without = plan(job(OWN, ARC)), plan(job(OWN))
    for name in ("baseline", "evaluate"):
        params = graph[name].params
        assert isinstance(params, BaselineParams | EvaluateParams)
        assert [(one.name, one.harness.task) for one in params.harness if one.harness] == [("arc", "arc_easy")]
        assert graph[name].digest != without[name].digest
        assert "harness" not in without[name].params.model_dump_json(by_alias=True)
    assert graph["sample"].params == without["sample"].params


def test_a_task_is_the_same_once_it_was_written_out_and_read() -> None:
    (benchmark,) = job(ARC).spec.evaluation.benchmarks
    assert benchmark.uri == "harness://arc_easy"
    assert Benchmark.model_validate_json(benchmark.model_dump_json(by_alias=True)) == benchmark
    graph = plan(job(ARC))
    spec = StageSpec(resource="r", stage="s", digest="d", params=graph["evaluate"].params, output_uri="o")
    assert StageSpec.model_validate_json(spec.model_dump_json(by_alias=True)) == spec


def test_tasks_of_one_s_own_are_in_a_folder_that_is_a_source() -> None:
    folder = {**ARC, "uri": "pvc://tasks/mine"}
    assert (
        plan(job(folder), sources={"pvc://tasks/mine": "a"})["evaluate"].digest != plan(job(folder))["evaluate"].digest
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"preset": "aime24"}, "a harness task brings its own data, prompts and checks.*given: preset"),
        ({"domain": "choice", "split": "train"}, "given: split, domain"),
        ({"fields": {"prompt": "q"}, "promptTemplate": "{question}!"}, "given: fields, promptTemplate"),
        ({"subset": "main", "revision": "abc"}, "given: subset, revision"),
        ({"name": None}, "name"),
        ({"harness": {"task": "arc_easy", "shots": 3}}, "shots"),
        ({"harness": {"task": "two tasks"}}, "pattern"),
        ({"harness": {"task": "a/path.yaml"}}, "pattern"),
        ({"harness": {"task": "arc_easy", "numFewshot": -1}}, "numFewshot"),
        ({"harness": {}}, "task"),
    ],
)
def test_what_contradicts_a_task_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Benchmark.model_validate({**ARC, **fields})
