"""A probe's candidates in their order, and what its rounds decided. Pure."""

from collections import Counter

from kubedistill_api.conditions import holds
from kubedistill_api.decision import Decision
from kubedistill_api.graph import Graph
from kubedistill_api.observed import Observed
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.stage import DecideParams
from kubedistill_api.status import JobStatus, ProbeOutcome, StageStatus, Standing, Usage

REASONS = {"clear": "WinnerClear", "tie": "Tie"}


def completed(status: JobStatus, stages: str) -> tuple[str, str]:
    """Reason and message of a Complete condition; `stages` tells how the stages ended."""
    if status.comparison:
        return "Compared", f"{status.comparison.summary()}; {stages}"
    decision = _last_decision(status)
    if decision is None or decision.outcome not in REASONS:
        return "StagesSucceeded", stages
    return REASONS[decision.outcome], f"{decision.reason}; {stages}"


def with_standings(status: JobStatus, probe: TeacherProbe, graph: Graph, observed: Observed) -> JobStatus:
    """The status with standings, winner and outcome.

    Those still in the running come first, then the others, the last to leave first; among them by score, and among
    equals by the order of the manifest.
    """
    by_name = {stage.name: stage for stage in status.stages}
    known = {standing.candidate: standing for standing in status.standings}
    if graph.nodes:
        known = {
            candidate: standing
            for candidate, names in stages_of(graph).items()
            if (standing := _standing(candidate, names, by_name, graph, observed, known.get(candidate), status))
        }
    order = [known[c.name] for c in probe.spec.candidates if c.name in known]
    standings = sorted(order, key=lambda s: (-(s.left_round or probe.spec.procedure.rounds + 1), -s.score))
    decision = _last_decision(status)
    winner = None
    if standings and holds(status.conditions, "Complete"):
        winner = decision.leader if decision else standings[0].candidate
    return status.model_copy(update={"standings": standings, "winner": winner, "outcome": _outcome(decision)})


def _decisions(status: JobStatus) -> list[Decision]:
    found = [stage.decision for stage in status.stages if stage.state == "Succeeded" and stage.decision]
    return sorted(found, key=lambda decision: decision.round)


def _last_decision(status: JobStatus) -> Decision | None:
    return next(reversed(_decisions(status)), None)


def _outcome(decision: Decision | None) -> ProbeOutcome | None:
    if decision is None:
        return None
    tied = decision.survivors if decision.outcome == "tie" else []
    return ProbeOutcome(outcome=decision.outcome, round=decision.round, tied=tied, reason=decision.reason)


def stages_of(graph: Graph) -> dict[str, list[str]]:
    """Stages of each candidate in the order of the plan; those that candidates share are nobody's."""
    reached: dict[str, set[str]] = {}
    for node in graph.nodes:
        if isinstance(node.params, DecideParams):
            for candidate, evaluations in node.params.students.items():
                todo, found = list(evaluations), reached.setdefault(candidate, set())
                while todo:
                    name = todo.pop()
                    if name not in found:
                        found.add(name)
                        todo += graph[name].needs.values()
    owners = Counter(name for found in reached.values() for name in found)
    return {
        candidate: [node.name for node in graph.nodes if node.name in found and (owners[node.name] == 1)]
        for candidate, found in reached.items()
    }


def _standing(
    candidate: str,
    names: list[str],
    by_name: dict[str, StageStatus],
    graph: Graph,
    observed: Observed,
    known: Standing | None,
    status: JobStatus,
) -> Standing | None:
    """By the decisions; before the first of them by its students' scores as far as they are there."""
    update: dict[str, object] = {}
    results = [
        r for name in names if graph[name].kind == "evaluate" and (r := observed.results.get(graph[name].digest))
    ]
    deltas = [d.mean for result in results for d in result.deltas if d.metric.startswith("avg")]
    if deltas:
        update["delta"] = sum(deltas) / len(deltas)
    decided = False
    for decision in _decisions(status):
        for entry in decision.scores:
            if entry.candidate == candidate:
                decided = True
                update |= {"score": entry.score, "ci": entry.ci, "behind": entry.behind, "behind_ci": entry.behind_ci}
                update["left_round"] = None if candidate in decision.survivors else decision.round
    scores = [
        s.mean for result in results for s in result.scores if s.model == "student" and s.metric.startswith("avg")
    ]
    if not decided and scores:
        update["score"] = sum(scores) / len(scores)
    if known is None and "score" not in update:
        return None
    done = [by_name[name] for name in names if name in by_name and by_name[name].state == "Succeeded"]
    update |= _of_the_teacher(done) | _of_the_corpus(done)
    update["usage"] = _sum([stage.usage for stage in done if stage.usage])
    return Standing.model_validate((known.model_dump() if known else {"candidate": candidate}) | update)


def _of_the_teacher(done: list[StageStatus]) -> dict[str, object]:
    """What its newest traces say of the teacher itself."""
    metrics = next((stage.metrics for stage in reversed(done) if stage.kind == "sample"), {})
    traces, verified, tokens = (metrics.get(name) for name in ("traces", "verified", "mean_response_tokens"))
    update: dict[str, object] = {}
    if isinstance(traces, int | float) and isinstance(verified, int | float) and traces:
        update["teacher_accuracy"] = verified / traces
    if isinstance(tokens, int | float):
        update["trace_tokens"] = tokens
    return update


def _of_the_corpus(done: list[StageStatus]) -> dict[str, object]:
    """What its newest training says of its corpus."""
    metrics = next((stage.metrics for stage in reversed(done) if stage.kind == "train"), {})
    found = {name: metrics.get(name) for name in ("corpus_entropy", "corpus_nll")}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _sum(usages: list[Usage]) -> Usage:
    return Usage.model_validate({name: sum(getattr(u, name) for u in usages) for name in Usage.model_fields})
