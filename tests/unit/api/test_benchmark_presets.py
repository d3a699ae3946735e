"""Benchmarks by name: what a preset stands for, what wins over it, and that nobody behind the API sees it."""

import json
from typing import Any

import pytest

from kubedistill_api.benchmarks import PRESETS, preset_at
from kubedistill_api.crd import DEFINITIONS, crd
from kubedistill_api.data import Benchmark
from kubedistill_api.job import DistillationJob
from kubedistill_api.manifest import ManifestError, load
from kubedistill_api.planning import plan
from tests.unit.api.small_job import JOB


def job(*benchmarks: dict[str, Any]) -> DistillationJob:
    spec = {**JOB["spec"], "evaluation": {"benchmarks": list(benchmarks)}}
    (resource,) = load(json.dumps({**JOB, "spec": spec})).resources
    assert isinstance(resource, DistillationJob)
    return resource


def refused(*benchmarks: dict[str, Any]) -> str:
    with pytest.raises(ManifestError) as caught:
        job(*benchmarks)
    return str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_entry_written_out(name: str) -> None:
    short, long = job({"preset": name}), job({"name": name, **PRESETS[name].entry})
    assert short == long
    assert [node.digest for node in plan(short).nodes] == [node.digest for node in plan(long).nodes]
    (benchmark,) = short.spec.evaluation.benchmarks
    assert benchmark.name == name
    assert "preset" not in benchmark.model_dump(by_alias=True)
    assert preset_at(benchmark.uri, benchmark.subset, benchmark.split) == name


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_checked_and_what_is_published_is_a_percentage_with_a_source(name: str) -> None:
    preset = PRESETS[name]
    benchmark = Benchmark.model_validate({"preset": name})
    assert ("```python" if benchmark.domain == "code" else "\\boxed{}") in benchmark.prompt_template
    assert (benchmark.domain == "choice") == bool(benchmark.fields.options)
    assert preset.questions >= 30
    for found in preset.published:
        assert 0 < found.score < 100
        assert all((found.by, found.source, found.metric))
    keys = [(found.model, found.by) for found in preset.published]
    assert len(keys) == len(set(keys))


def test_what_is_given_beside_a_preset_wins_and_of_the_columns_each_by_itself() -> None:
    own = {"name": "mine", "revision": "abc", "limit": 5, "promptTemplate": "Q: {question}", "fields": {"id": "id"}}
    (benchmark,) = job({"preset": "aime24", **own}).spec.evaluation.benchmarks
    assert (benchmark.name, benchmark.revision, benchmark.limit) == ("mine", "abc", 5)
    assert benchmark.prompt_template == "Q: {question}"
    assert (benchmark.fields.id, benchmark.fields.prompt) == ("id", "problem")
    assert benchmark.uri == PRESETS["aime24"].entry["uri"]


def test_python_s_names_win_as_well() -> None:
    benchmark = Benchmark.model_validate({"preset": "aime24", "prompt_template": "Q: {question}"})
    assert benchmark.prompt_template == "Q: {question}"


def test_the_same_preset_twice_takes_two_names() -> None:
    assert "benchmark names must differ (twice: aime24)" in refused({"preset": "aime24"}, {"preset": "aime24"})
    names = [b.name for b in job({"preset": "aime24"}, {"preset": "aime24", "name": "b"}).spec.evaluation.benchmarks]
    assert names == ["aime24", "b"]


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    message = refused({"preset": "aime23"})
    assert "spec.evaluation.benchmarks[0].preset: preset 'aime23' is not known" in message
    assert all(name in message for name in PRESETS)


def test_without_a_preset_name_and_uri_are_asked_for() -> None:
    message = refused({"split": "test"})
    assert "benchmarks[0].name: is missing" in message
    assert "benchmarks[0].uri: is missing" in message


@pytest.mark.parametrize("definition", [d for d in DEFINITIONS if d.runs], ids=lambda d: d.plural)
def test_the_api_server_fills_nothing_in_that_would_win_over_a_preset(definition: Any) -> None:
    spec = crd(definition)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec = spec["properties"].get("job", spec)
    entry = spec["properties"]["evaluation"]["properties"]["benchmarks"]["items"]
    assert entry["properties"]["preset"]["enum"] == list(PRESETS)
    assert "required" not in entry
    assert '"default"' not in json.dumps(entry)
