"""A probe's candidates in their order, and what its rounds decided. Pure."""

import itertools
from collections.abc import Mapping, Sequence
from statistics import mean

from kubedistill_api.conditions import holds
from kubedistill_api.decision import Decision
from kubedistill_api.graph import Graph
from kubedistill_api.observed import Observed
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.stage import DecideParams, StageKind
from kubedistill_api.status import JobStatus, ProbeOutcome, StageStatus, Standing, Usage

ROUND_KINDS: tuple[StageKind, ...] = ("sample", "curate", "train", "evaluate")
"""What makes a student of a teacher and scores it, in order."""

Round = dict[StageKind, list[str]]
"""A candidate's stages of a round by kind, those of `ROUND_KINDS`; of each one for every draw or training."""

Metrics = dict[str, float | int | str | None]

REASONS = {"clear": "WinnerClear", "tie": "Tie"}


def completed(status: JobStatus, stages: str) -> tuple[str, str]:
    """Reason and message of a Complete condition; `stages` tells how the stages ended."""
    if status.comparison:
        return "Compared", f"{status.comparison.summary()}; {stages}"
    decision = last_decision(status)
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
            for candidate, rounds in rounds_of(graph).items()
            if (standing := _standing(candidate, rounds, by_name, graph, observed, known.get(candidate), status))
        }
    order = [known[c.name] for c in probe.spec.candidates if c.name in known]
    standings = sorted(order, key=lambda s: (-(s.left_round or probe.spec.procedure.rounds + 1), -s.score))
    decision = last_decision(status)
    winner = None
    if standings and holds(status.conditions, "Complete"):
        winner = decision.leader if decision else standings[0].candidate
    return status.model_copy(update={"standings": standings, "winner": winner, "outcome": _outcome(decision)})


def _decisions(status: JobStatus) -> list[Decision]:
    found = [stage.decision for stage in status.stages if stage.state == "Succeeded" and stage.decision]
    return sorted(found, key=lambda decision: decision.round)


def last_decision(status: JobStatus) -> Decision | None:
    return next(reversed(_decisions(status)), None)


def _outcome(decision: Decision | None) -> ProbeOutcome | None:
    if decision is None:
        return None
    tied = decision.survivors if decision.outcome == "tie" else []
    return ProbeOutcome(outcome=decision.outcome, round=decision.round, tied=tied, reason=decision.reason)


def rounds_of(graph: Graph) -> dict[str, list[Round]]:
    """Of each candidate, in the manifest's order, the rounds that it may be in. What candidates share is in none."""
    found: dict[str, list[Round]] = {}
    for node in graph.nodes:
        if isinstance(node.params, DecideParams):
            for candidate, evaluations in node.params.students.items():
                found.setdefault(candidate, []).append(_behind(graph, evaluations))
    return found


def _behind(graph: Graph, evaluations: Sequence[str]) -> Round:
    found: Round = {}
    names = evaluations
    for kind in reversed(ROUND_KINDS):
        found[kind] = list(dict.fromkeys(name for name in names if graph[name].kind == kind))
        names = [need for name in found[kind] for need in graph[name].needs.values()]
    return found


def _standing(
    candidate: str,
    rounds: Sequence[Round],
    by_name: dict[str, StageStatus],
    graph: Graph,
    observed: Observed,
    known: Standing | None,
    status: JobStatus,
) -> Standing | None:
    """By the decisions; before the first of them by its students' scores as far as they are there."""
    update: dict[str, object] = {}
    evaluations = (name for stages in rounds for name in stages["evaluate"])
    results = [r for name in evaluations if (r := observed.results.get(graph[name].digest))]
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
    names = itertools.chain.from_iterable(itertools.chain(*stages.values()) for stages in rounds)
    done = {name: by_name[name] for name in names if name in by_name and by_name[name].state == "Succeeded"}
    update |= _of_the_traces(done, rounds)
    update["usage"] = _sum([stage.usage for stage in done.values() if stage.usage])
    return Standing.model_validate((known.model_dump() if known else {"candidate": candidate}) | update)


def _of_the_traces(done: Mapping[str, StageStatus], rounds: Sequence[Round]) -> dict[str, object]:
    """What the traces of its newest round say of the teacher and of its corpus; of several draws or trainings their
    mean."""
    drawn, trained = _newest(done, rounds, "sample"), _newest(done, rounds, "train")
    shares = []
    for metrics in drawn:
        traces, verified = metrics.get("traces"), metrics.get("verified")
        if isinstance(traces, int | float) and isinstance(verified, int | float) and traces:
            shares.append(verified / traces)
    means = {
        "teacher_accuracy": shares,
        "trace_tokens": _numbers(drawn, "mean_response_tokens"),
        "corpus_entropy": _numbers(trained, "corpus_entropy"),
        "corpus_nll": _numbers(trained, "corpus_nll"),
    }
    return {field: mean(values) for field, values in means.items() if values}


def _numbers(stages: list[Metrics], name: str) -> list[float]:
    return [value for metrics in stages if isinstance(value := metrics.get(name), int | float)]


def _newest(done: Mapping[str, StageStatus], rounds: Sequence[Round], kind: StageKind) -> list[Metrics]:
    """Metrics of the stages of a kind in the last round that has any."""
    for stages in reversed(rounds):
        if found := [done[name].metrics for name in stages[kind] if name in done]:
            return found
    return []


def _sum(usages: list[Usage]) -> Usage:
    return Usage.model_validate({name: sum(getattr(u, name) for u in usages) for name in Usage.model_fields})
