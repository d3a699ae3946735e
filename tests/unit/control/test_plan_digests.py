"""Equal work has equal digests, other work has others."""

from kubedistill_api.graph import Graph, source_uris
from kubedistill_api.job import DistillationJob
from kubedistill_api.planning import plan
from tests.unit.control.cluster_model import job

SOURCES = {"questions.jsonl": "sha256:1", "benchmark.jsonl": "sha256:2"}


def digests(graph: Graph) -> dict[str, str]:
    return {node.name: node.digest for node in graph.nodes}


def changed(one: Graph, other: Graph) -> set[str]:
    before, after = digests(one), digests(other)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def variant(**spec: object) -> Graph:
    return plan(job(**spec), sources=SOURCES)


def named(name: str) -> DistillationJob:
    base = job()
    return base.model_copy(update={"metadata": base.metadata.model_copy(update={"name": name})})


def test_the_same_manifest_has_the_same_digests() -> None:
    assert digests(variant()) == digests(variant())


def test_a_name_changes_nothing_but_the_report() -> None:
    assert changed(plan(named("one")), plan(named("two"))) == {"report"}


def test_training_parameters_change_training_and_what_follows() -> None:
    assert changed(variant(), variant(epochs=3)) == {"train", "evaluate", "report"}


def test_the_teacher_does_not_change_the_baseline() -> None:
    other = variant(teacher={"model": {"uri": "hf://org/other"}})
    assert changed(variant(), other) == {"sample", "curate", "train", "evaluate", "report"}


def test_changed_content_of_a_source_changes_everything() -> None:
    other = plan(job(), sources={**SOURCES, "questions.jsonl": "sha256:3"})
    assert changed(variant(), other) == set(digests(other))


def test_a_fingerprint_of_something_else_changes_nothing() -> None:
    assert digests(plan(job(), sources={**SOURCES, "unrelated.jsonl": "sha256:9"})) == digests(variant())


def test_machines_are_not_part_of_the_work() -> None:
    assert changed(variant(), variant(runtimeRef={"name": "h100"})) <= {"report"}


def test_every_stage_comes_after_what_it_needs() -> None:
    seen: set[str] = set()
    for node in variant().nodes:
        assert set(node.needs.values()) <= seen
        seen.add(node.name)


def test_the_output_is_no_source() -> None:
    assert "pvc://models/ded" not in source_uris(job(output={"uri": "pvc://models/ded"}))


def test_trust_in_a_students_code_reaches_every_stage_that_loads_it() -> None:
    graph = variant(student={"uri": "hf://org/student", "trustRemoteCode": True})
    loading = {node.name: node.params for node in graph.nodes if node.kind in ("baseline", "train", "evaluate")}
    assert loading["baseline"].model.trust_remote_code
    assert loading["train"].model.trust_remote_code
    assert loading["evaluate"].trust_remote_code
    assert "trustRemoteCode" not in variant()["evaluate"].params.model_dump(by_alias=True)
