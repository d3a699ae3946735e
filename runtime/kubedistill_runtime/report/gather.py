"""From the folders of finished stages to the contents of the report. Reads only."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubedistill_api.planning import plan
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.stage import SPEC_FILE, StageKind, StageSpec
from kubedistill_api.standings import ROUND_KINDS, Round, rounds_of
from kubedistill_api.status import Score, ScoreDelta
from kubedistill_runtime.data.storage import working_folder
from kubedistill_runtime.report import covariates, excerpts, tables
from kubedistill_runtime.report.contents import (
    Benchmark,
    Covariates,
    Excerpts,
    Fate,
    Funnel,
    PassRates,
    Report,
    Stage,
    Track,
    Training,
)
from kubedistill_runtime.report.published import published
from kubedistill_runtime.stages.context import StageContext

STEPS = (
    ("sampled", "drawn"),
    ("well_formed", "well formed"),
    ("correct", "correct"),
    ("hard", "of hard questions"),
    ("kept", "kept"),
)
"""Metrics of the curate stage and what they are called."""
QUESTION_STEPS = tuple((f"questions_{key}", label) for key, label in STEPS)
CREDENTIALS = re.compile(r"(https?://)[^/\s]*@|([a-z][a-z0-9+.-]*://)[^/\s]*:[^/\s]*@")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def gather(context: StageContext, manifest: dict[str, Any]) -> Report:
    """The contents for the stages that `context` was given. Raises BadInput when one of their files is not there."""
    stages = tuple(
        Stage(role, context.result_of(role), _parameters(context.spec.inputs[role])) for role in context.spec.inputs
    )
    kind, namespace, name = context.spec.resource.split("/", 2)
    manifest = publishable(manifest)
    spec = manifest.get("spec", manifest)
    spec = spec.get("job", spec)  # of a study
    roles = _roles(context, kind, manifest)
    tracks = tuple(_track(context, stages, track, of, spec) for track, of in roles.items())
    prepared = _stage(stages, "prepare")
    report = Report(
        kind=kind,
        namespace=namespace,
        name=name,
        manifest=manifest,
        student=_source(spec.get("student")),
        finished=max(stage.result.finished for stage in stages),
        stages=stages,
        prepared=prepared.result.metrics if prepared else {},
        prepare_fates=_prepare_fates(context),
        pass_rates=_pass_rates(context, kind),
        tracks=tracks,
        traces=_traces(context, roles),
        answers=_answers(context, tracks),
        decisions=tuple(
            sorted((s.result.decision for s in stages if s.result.decision), key=lambda decision: decision.round)
        ),
        copied=published(spec),
        comparison=next((s.result.comparison for s in stages if s.result.comparison), None),
    )
    return replace(report, covariates=_covariates(context, report, roles))


def _parameters(uri: str) -> dict[str, Any] | None:
    path = working_folder(uri) / SPEC_FILE
    if not path.exists():
        return None
    return publishable(StageSpec.model_validate_json(path.read_bytes()).params.model_dump(mode="json", by_alias=True))


def publishable(value: Any) -> Any:
    """The same without what must not be passed around: user names and passwords in addresses, and kubectl's copy of
    the manifest, which has them too."""
    if isinstance(value, dict):
        return {key: publishable(item) for key, item in value.items() if key != LAST_APPLIED}
    if isinstance(value, list):
        return [publishable(item) for item in value]
    return CREDENTIALS.sub(r"\1\2", value) if isinstance(value, str) else value


def _roles(context: StageContext, kind: str, manifest: dict[str, Any]) -> dict[str, Round]:
    """Of each track the stages that are there, by kind: a job's own; of each candidate those of the last round that it
    was in, in the order of the manifest."""
    if kind == "DistillationJob":
        return {"": {stage: [stage] for stage in ROUND_KINDS}}
    if kind == "DistillationStudy":
        return {}
    found: dict[str, Round] = {}
    for candidate, rounds in rounds_of(plan(TeacherProbe.model_validate(manifest))).items():
        for stages in reversed(rounds):
            there = {stage: [name for name in names if name in context.spec.inputs] for stage, names in stages.items()}
            if any(there.values()):
                found[candidate] = there
                break
    return found


def _shown(roles: Round) -> dict[StageKind, str]:
    """Of several draws or trainings the first."""
    return {kind: next(iter(found), "") for kind, found in roles.items()}


def _stage(stages: tuple[Stage, ...], role: str) -> Stage | None:
    return next((stage for stage in stages if stage.role == role), None)


def _artifact(context: StageContext, role: str, name: str) -> Path | None:
    """Path of an artifact; None where the stage is not part of the plan or made none of that name."""
    if role not in context.spec.inputs or name not in context.result_of(role).outputs:
        return None
    return context.artifact(role, name)


def _source(source: dict[str, Any] | None) -> str:
    """What a model or an endpoint of the manifest is called."""
    if not source:
        return ""
    if "model" in source and isinstance(source["model"], dict):
        return _source(source["model"])
    if source.get("endpoint"):
        return str(source["endpoint"].get("model", ""))
    if source.get("probeRef"):
        return f"the winner of {source['probeRef'].get('name', '')}"
    uri = str(source.get("uri", ""))
    return uri.removeprefix("hf://") + (f"@{source['revision']}" if source.get("revision") else "")


def _teacher(spec: dict[str, Any], track: str, sample: Stage | None) -> str:
    # What was sampled beats what was asked for: a probeRef is a name until its probe has a winner.
    if sample and sample.parameters:
        return _source(sample.parameters)
    if track:
        return _source(next((c for c in spec.get("candidates", []) if c.get("name") == track), None))
    return _source(spec.get("teacher"))


def _track(context: StageContext, stages: tuple[Stage, ...], name: str, roles: Round, spec: dict[str, Any]) -> Track:
    role = _shown(roles)
    traces = _artifact(context, role["sample"], "traces")
    trace_fates = _artifact(context, role["curate"], "trace_fates")
    scores = _artifact(context, role["evaluate"], "scores")
    content = json.loads(scores.read_bytes()) if scores else None
    return Track(
        name=name,
        teacher=_teacher(spec, name, _stage(stages, role["sample"])),
        funnel=_funnel(context, role["curate"]),
        lengths=tables.lengths(traces, tables.kept_keys(trace_fates) if trace_fates else set()) if traces else None,
        verified_share=tables.verified_share(traces) if traces else None,
        training=_training(_artifact(context, role["train"], "metrics")),
        benchmarks=_benchmarks(context, role["evaluate"], content) if content else (),
        confidence=content["details"]["confidence"] if content else 0.95,
    )


def _funnel(context: StageContext, curate: str) -> Funnel | None:
    trace_fates = _artifact(context, curate, "trace_fates")
    question_fates = _artifact(context, curate, "question_fates")
    if trace_fates is None:
        return None
    metrics = context.result_of(curate).metrics

    def steps(names: tuple[tuple[str, str], ...]) -> tuple[tuple[str, int], ...]:
        return tuple((label, int(metrics[key] or 0)) for key, label in names if key in metrics)

    asked = (("asked", int(metrics["questions"] or 0)),) if "questions" in metrics else ()
    return Funnel(
        traces=steps(STEPS),
        questions=asked + steps(QUESTION_STEPS[1:]),
        trace_fates=tables.fates(trace_fates),
        question_fates=tables.fates(question_fates) if question_fates else (),
    )


def _training(path: Path | None) -> Training | None:
    if path is None:
        return None
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return Training(tuple(rows)) if rows else None


def _covariates(context: StageContext, report: Report, roles: dict[str, Round]) -> tuple[Covariates, ...]:
    """What was measured of each corpus; nothing where an earlier version trained, or the manifest asks for none."""

    def of(label: str, score: float | None, trains: list[str]) -> Covariates | None:
        files = [path for train in trains if (path := _artifact(context, train, "covariates"))]
        return covariates.read(label, score, files)

    if report.comparison:
        compare = next((s.parameters for s in report.stages if s.result.comparison), None) or {}
        trains = {name: stages["trains"] for name, stages in compare.get("arms", {}).items()}
        return covariates.by_score([of(arm.arm, arm.score, trains.get(arm.arm, [])) for arm in report.comparison.arms])
    found = []
    for track in report.tracks:
        score = report.placed[track.name][0].score if track.name in report.placed else None
        found.append(of(track.name, score, roles[track.name]["train"]))
    return covariates.by_score(found)


def _benchmarks(context: StageContext, evaluate: str, content: dict[str, Any]) -> tuple[Benchmark, ...]:
    scores = [Score.model_validate(entry) for entry in content["scores"]]
    deltas = [ScoreDelta.model_validate(entry) for entry in content["deltas"]]
    tokens = {
        who: tables.answer_tokens(path)
        for who, path in (
            ("base", _artifact(context, "baseline", "results") if deltas else None),
            ("student", _artifact(context, evaluate, "results")),
        )
        if path
    }
    questions = _artifact(context, "prepare", "benchmarks")
    texts = tables.question_texts(questions) if questions else {}
    return tuple(
        Benchmark(
            name=details["benchmark"],
            questions=details["questions"],
            samples=details["samples"],
            scores=tuple(s for s in scores if s.benchmark == details["benchmark"]),
            deltas=tuple(d for d in deltas if d.benchmark == details["benchmark"]),
            intervals=details["intervals"],
            base=details["base"],
            student=details["student"],
            per_question=tuple((q["questionId"], q["base"], q["student"]) for q in details["perQuestion"]),
            tokens={who: found[details["benchmark"]] for who, found in tokens.items() if details["benchmark"] in found},
            texts=texts.get(details["benchmark"], {}),
        )
        for details in content["details"]["benchmarks"]
    )


def _prepare_fates(context: StageContext) -> tuple[Fate, ...]:
    """Dropped questions by reason, the commonest first; a benchmark's own under its name."""
    path = _artifact(context, "prepare", "drops")
    if path is None:
        return ()
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        key = (row.get("benchmark") or "", row["reason"])
        counts[key] += 1
        examples.setdefault(key, str(row.get("detail") or ""))
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0]))
    return tuple(Fate(where, reason, examples[where, reason], count) for (where, reason), count in ordered)


def _pass_rates(context: StageContext, kind: str) -> PassRates | None:
    path = _artifact(context, "baseline", "pass_rates")
    if path is None:
        return None
    # A probe's candidates differ in which questions they solve, so the fates of one would not be those of all.
    fates = _artifact(context, "curate", "question_fates") if kind == "DistillationJob" else None
    return tables.pass_rates(path, fates)


def _traces(context: StageContext, roles: dict[str, Round]) -> Excerpts | None:
    questions = _artifact(context, "prepare", "questions")
    teachers = {}
    for track, of in roles.items():
        role = _shown(of)
        if path := _artifact(context, role["sample"], "traces"):
            fates = (_artifact(context, role["curate"], name) for name in ("trace_fates", "question_fates"))
            teachers[track] = excerpts.TraceFiles(path, *fates)
    return excerpts.traces(teachers, questions) if teachers and questions else None


def _answers(context: StageContext, tracks: tuple[Track, ...]) -> Excerpts | None:
    """Answers of a job's student beside the base's; of a probe's students too many to read."""
    questions = _artifact(context, "prepare", "benchmarks")
    results = {
        who: path
        for who, path in (
            ("base", _artifact(context, "baseline", "results")),
            ("student", _artifact(context, "evaluate", "results")),
        )
        if path
    }
    if len(tracks) != 1 or not tracks[0].benchmarks or questions is None or "student" not in results:
        return None
    benchmarks = tracks[0].benchmarks
    parts = [excerpts.answers(b.name, questions, results, b.per_question, groups=len(benchmarks)) for b in benchmarks]
    return Excerpts(
        tuple(entry for part in parts for entry in part.entries),
        sum(part.questions for part in parts),
        sum(part.responses for part in parts),
    )
