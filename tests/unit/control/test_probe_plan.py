"""The stages of a probe in rounds, and what its decisions make of its status."""

import pytest
from pydantic import ValidationError

from kubedistill_api.conditions import find
from kubedistill_api.decision import Decision, RoundScore
from kubedistill_api.graph import ALREADY_DRAWN
from kubedistill_api.planning import plan
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.stage import TERMINATION_MESSAGE_BYTES, StageResult
from kubedistill_api.status import Usage
from tests.unit.control.cluster_model import START, Cluster, decision_of, graph_of, job, probe, result_of, stage_of


def decision(outcome: str, left: dict[str, float], survivors: list[str], number: int = 1) -> Decision:
    leader, best = next(iter(left.items()))
    behind = {name: round(best - score, 3) for name, score in left.items() if name != leader}
    return Decision(
        round=number,
        outcome=outcome,
        leader=leader,
        survivors=survivors,
        scores=[
            RoundScore(
                candidate=name,
                score=score,
                ci=(score - 0.1, score + 0.1),
                behind=behind.get(name),
                behind_ci=(behind[name] - 0.1, behind[name] + 0.1) if name in behind else None,
            )
            for name, score in left.items()
        ],
        confidence=0.95,
        questions=102,
        samples=8,
        reason=f"{leader} it is",
    )


def run(cluster: Cluster, **decisions: Decision) -> None:
    """To its end, with these decisions."""
    for name, told in decisions.items():
        node = graph_of(cluster.resource)[name.replace("_", "-")]
        cluster.results[node.digest] = result_of(cluster.graph, node.name, START).model_copy(update={"decision": told})
    cluster.settle()


def test_one_round_is_the_plan_of_a_job_for_each_candidate_and_a_decision() -> None:
    graph = plan(probe(rounds=1))
    names = [node.name for node in graph.nodes]
    assert names == [
        "prepare",
        "baseline",
        *(f"{kind}-{c}" for c in "abc" for kind in ("sample", "curate", "train", "evaluate")),
        "decide",
        "report",
    ]
    assert all(node.guard is None for node in graph.nodes)
    same = job(teacher={"model": {"uri": "hf://org/b"}, "sampling": {"samples": 1}})
    for node in plan(same).nodes:
        if node.kind != "report":
            assert (
                node.digest
                == graph[{"prepare": "prepare", "baseline": "baseline"}.get(node.name, f"{node.name}-b")].digest
            )


def test_the_last_round_is_the_same_work_as_the_only_one() -> None:
    once, twice = plan(probe(rounds=1)), plan(probe(rounds=2))
    for kind in ("sample", "curate", "train", "evaluate"):
        assert once[f"{kind}-a"].digest == twice[f"{kind}-a-r2"].digest != twice[f"{kind}-a-r1"].digest


def test_a_round_takes_over_what_the_one_before_drew_and_waits_for_its_decision() -> None:
    graph = plan(probe(rounds=3))
    assert ALREADY_DRAWN not in graph["sample-a-r1"].needs
    assert graph["sample-a-r2"].needs[ALREADY_DRAWN] == "sample-a-r1"
    assert [
        graph[f"sample-a-r{r}"].params.subset and round(graph[f"sample-a-r{r}"].params.subset.share, 3)
        for r in (1, 2, 3)
    ] == [0.111, 0.333, None]
    assert [graph[f"evaluate-a-r{r}"].params.evaluation.samples for r in (1, 2, 3)] == [2, 6, 16]
    assert graph["train-a-r3"].guard.decide == "decide-r2"
    spec = graph.stage_spec("decide-r2", "/root", RuntimeSpec())
    assert {role: guard.decide for role, guard in spec.guards.items()} == dict.fromkeys(
        ("evaluate-a-r2", "evaluate-b-r2", "evaluate-c-r2"), "decide-r1"
    )


def test_every_seed_is_a_training_on_the_same_corpus() -> None:
    graph = plan(probe(rounds=1, procedure={"rounds": 1, "seeds": [3, 4]}))
    assert [graph[f"train-a-s{n}"].params.training.seed for n in (1, 2)] == [3, 4]
    assert {graph[f"train-a-s{n}"].needs["curate"] for n in (1, 2)} == {"curate-a"}
    assert graph["decide"].params.students["a"] == ["evaluate-a-s1", "evaluate-a-s2"]


def test_with_redraw_every_seed_has_questions_and_traces_of_its_own() -> None:
    seeded = {"rounds": 2, "seeds": [3, 4, 5]}
    graph = plan(probe(procedure=seeded | {"redraw": True}))
    for number, draw_seed in ((1, 0), (2, 1), (3, 2)):
        early, late = graph[f"sample-a-r1-s{number}"], graph[f"sample-a-r2-s{number}"]
        assert early.params.sampling.seed == early.params.subset.seed == late.params.sampling.seed == draw_seed
        assert late.params.subset is None
        assert late.needs[ALREADY_DRAWN] == early.name
        assert graph[f"curate-a-r2-s{number}"].needs["sample"] == late.name
        assert graph[f"train-a-r2-s{number}"].needs["curate"] == f"curate-a-r2-s{number}"
        assert graph[f"train-a-r2-s{number}"].params.training.seed == seeded["seeds"][number - 1]
    assert graph["decide-r2"].params.students["a"] == [f"evaluate-a-r2-s{number}" for number in (1, 2, 3)]
    assert graph["decide-r2"].params.draws == 3
    assert plan(probe(procedure=seeded))["decide-r2"].params.draws == 1
    # What a job takes over from the winner is the first draw.
    assert graph["sample-a-r2-s1"].digest == plan(probe(procedure=seeded))["sample-a-r2"].digest


def test_the_last_seed_is_followed_by_the_first() -> None:
    seeded = {"rounds": 1, "seeds": [3, 4, 5], "redraw": True}
    graph = plan(probe(procedure=seeded, sampling={"samples": 1, "seed": 2**53}))
    assert [graph[f"sample-a-s{n}"].params.sampling.seed for n in (1, 2, 3)] == [2**53, 0, 1]


def test_redraw_with_few_seeds_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"redraw needs 3 seeds or more \(got 2\)"):
        probe(procedure={"seeds": [1, 2], "redraw": True})


def test_too_many_students_and_equal_seeds_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValidationError, match="are 99 students, 96 at most; use fewer rounds"):
        probe(procedure={"rounds": 3, "seeds": list(range(11))})
    with pytest.raises(ValidationError, match="seeds must differ"):
        probe(procedure={"seeds": [1, 1]})


def test_when_the_leader_is_clear_the_other_rounds_cost_nothing() -> None:
    cluster = Cluster(probe())
    run(cluster, decide_r1=decision("clear", {"b": 0.9, "a": 0.4, "c": 0.1}, ["b"]))
    status = cluster.status
    assert status.winner == "b"
    assert {s.name for s in status.stages if s.state == "Skipped"} == {n.name for n in cluster.graph.nodes if n.guard}
    assert not any("-r2" in stage for stage, _ in cluster.starts)
    assert status.usage.gpu_seconds == sum(s.state == "Succeeded" and not s.reused for s in status.stages)
    complete = find(status.conditions, "Complete")
    assert (complete.reason, complete.message) == (
        "WinnerClear",
        "b it is; 16 stages succeeded, 1 of them reused; 13 were not needed",
    )
    assert [(s.candidate, s.left_round, s.behind) for s in status.standings] == [
        ("b", None, None),
        ("a", 1, 0.5),
        ("c", 1, 0.8),
    ]


def test_a_tie_completes_with_the_best_estimate_and_says_so() -> None:
    cluster = Cluster(probe())
    run(
        cluster,
        decide_r1=decision("continue", {"b": 0.6, "c": 0.55, "a": 0.1}, ["b", "c"]),
        decide_r2=decision("tie", {"c": 0.71, "b": 0.7}, ["c", "b"], 2),
    )
    status = cluster.status
    assert (status.phase, status.winner, status.outcome.tied) == ("Complete", "c", ["c", "b"])
    assert find(status.conditions, "Complete").reason == status.summary.reason == "Tie"
    assert [(s.candidate, s.left_round, s.score) for s in status.standings] == [
        ("c", None, 0.71),
        ("b", None, 0.7),
        ("a", 1, 0.1),
    ]
    assert stage_of(status, "sample-a-r2").state == "Skipped"
    assert stage_of(status, "sample-b-r2").state == "Succeeded"


def test_standings_tell_the_cost_and_the_teachers_own_accuracy() -> None:
    cluster = Cluster(probe(rounds=1))
    for name, traces in (("a", 100), ("b", 50)):
        node = cluster.graph[f"sample-{name}"]
        result = result_of(cluster.graph, node.name, START, traces=traces, verified=40, mean_response_tokens=33.5)
        cluster.results[node.digest] = result.model_copy(update={"usage": Usage(completion_tokens=7 * traces)})
    measured = result_of(cluster.graph, "train-a", START, corpus_entropy=0.5, corpus_nll=0.7)
    cluster.results[measured.digest] = measured
    run(cluster, decide=decision("clear", {"a": 0.9, "b": 0.4, "c": 0.1}, ["a"]))
    by_name = {standing.candidate: standing for standing in cluster.status.standings}
    assert [by_name[c].teacher_accuracy for c in "abc"] == [0.4, 0.8, None]
    assert by_name["a"].trace_tokens == 33.5
    assert (by_name["a"].corpus_entropy, by_name["a"].corpus_nll, by_name["b"].corpus_nll) == (0.5, 0.7, None)
    assert by_name["b"].usage == Usage(gpu_seconds=3, completion_tokens=350, stored_bytes=4 * 300)


def test_standings_tell_the_mean_over_the_draws_of_the_newest_round() -> None:
    cluster = Cluster(probe(procedure={"rounds": 2, "seeds": [3, 4, 5], "redraw": True}))
    told = {
        "sample-a-r1-s1": {"traces": 10, "verified": 1, "mean_response_tokens": 9.0},
        "sample-a-r2-s1": {"traces": 100, "verified": 40, "mean_response_tokens": 30.0},
        "sample-a-r2-s2": {"traces": 100, "verified": 60, "mean_response_tokens": 40.0},
        "train-a-r1-s1": {"corpus_nll": 9.0},
        "train-a-r2-s1": {"corpus_nll": 0.5},
        "train-a-r2-s2": {"corpus_nll": 0.7},
    }
    for name, metrics in told.items():
        result = result_of(cluster.graph, name, START, **metrics)
        cluster.results[result.digest] = result
    run(
        cluster,
        decide_r1=decision("continue", {"a": 0.6, "b": 0.55, "c": 0.1}, ["a", "b"]),
        decide_r2=decision("clear", {"a": 0.9, "b": 0.4}, ["a"], 2),
    )
    (standing,) = (s for s in cluster.status.standings if s.candidate == "a")
    assert (standing.teacher_accuracy, standing.trace_tokens, standing.corpus_nll) == (0.5, 35.0, 0.6)


@pytest.mark.parametrize(
    ("seeds", "draws", "covered", "left"),
    [
        (1, 1, "cover other questions and answers.", "do not cover another draw of a teacher's traces, nor another tr"),
        (3, 1, "answers and trainings.", "do not cover another draw of a teacher's traces, which"),
        (3, 3, "other traces of each teacher and other trainings.", ""),
    ],
)
def test_a_decision_says_what_its_intervals_cover(seeds: int, draws: int, covered: str, left: str) -> None:
    told = decision("clear", {"a": 0.9, "b": 0.4}, ["a"]).model_copy(update={"seeds": seeds, "draws": draws})
    assert covered in told.scope()
    assert left in told.scope()
    assert ("do not cover" in told.scope()) == bool(left)


def test_a_decision_over_16_candidates_fits_into_a_termination_message() -> None:
    names = [f"candidate-{n:02}-abcdefg" for n in range(16)]
    told = decision("continue", {name: 0.1234 + n / 7 for n, name in enumerate(names)}, names)
    told = told.model_copy(update={"reason": "x" * 400})
    node = plan(probe(rounds=1))["decide"]
    result = result_of(plan(probe(rounds=1)), node.name, START).model_copy(update={"decision": told})
    message = result.termination_message()
    assert len(message.encode()) <= TERMINATION_MESSAGE_BYTES
    assert StageResult.model_validate_json(message).decision == told


def test_the_same_status_follows_when_results_are_no_longer_seen() -> None:
    """A finished child is removed after a while, and its result with it; what was decided stays so."""
    cluster = Cluster(probe())
    node = cluster.graph["decide-r1"]
    cluster.results[node.digest] = result_of(cluster.graph, node.name, START).model_copy(
        update={"decision": decision_of(node, ["a", "b"], 1)}
    )
    cluster.record()
    cluster.look()
    before = cluster.status
    assert stage_of(before, "decide-r1").decision is not None
    cluster.results.clear()
    cluster.record()
    cluster.look()
    assert stage_of(cluster.status, "decide-r1") == stage_of(before, "decide-r1")
    assert cluster.status.standings == before.standings != []
