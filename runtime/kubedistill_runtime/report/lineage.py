"""The chain of stages as a drawing."""

from collections.abc import Sequence

from markupsafe import Markup

from kubedistill_runtime.report.contents import Stage

COLUMN, ROW, WIDTH, HEIGHT = 148, 52, 116, 38


def columns(stages: Sequence[Stage]) -> dict[str, tuple[int, int]]:
    """Column and row of every stage: a stage lies right of everything that it reads."""
    depth: dict[str, int] = {}
    taken: dict[int, int] = {}
    places: dict[str, tuple[int, int]] = {}
    inputs = {stage.role: _needs(stage, stages) for stage in stages}
    for stage in stages:
        depth[stage.role] = 1 + max((depth.get(role, 0) for role in inputs[stage.role]), default=-1)
        column = depth[stage.role]
        places[stage.role] = (column, taken.get(column, 0))
        taken[column] = taken.get(column, 0) + 1
    return places


def drawing(stages: Sequence[Stage]) -> Markup:
    """Boxes with the stages' names and digests, linked to their details."""
    places = columns(stages)
    if not places:
        return Markup()
    width = (max(column for column, _ in places.values()) + 1) * COLUMN - (COLUMN - WIDTH)
    height = (max(row for _, row in places.values()) + 1) * ROW - (ROW - HEIGHT)
    edges = []
    for stage in stages:
        for role in _needs(stage, stages):
            (x0, y0), (x1, y1) = places[role], places[stage.role]
            start, end = x0 * COLUMN + WIDTH, x1 * COLUMN
            high, low = y0 * ROW + HEIGHT / 2, y1 * ROW + HEIGHT / 2
            bend = (end - start) / 2
            edges.append(
                Markup('<path class="edge" d="M{0},{1} C{2},{1} {3},{4} {5},{4}"/>').format(
                    start, high, start + bend, end - bend, low, end
                )
            )
    boxes = [
        Markup(
            '<a href="#stage-{0}"><rect class="node" x="{1}" y="{2}" width="{3}" height="{4}" rx="6"/>'
            '<text class="node-name" x="{5}" y="{6}">{0}</text><text class="node-digest" x="{5}" y="{7}">{8}</text></a>'
        ).format(
            stage.role,
            places[stage.role][0] * COLUMN,
            places[stage.role][1] * ROW,
            WIDTH,
            HEIGHT,
            places[stage.role][0] * COLUMN + 10,
            places[stage.role][1] * ROW + 16,
            places[stage.role][1] * ROW + 30,
            stage.result.digest[:12],
        )
        for stage in stages
    ]
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="Chain of stages">'
        '<svg class="lineage" width="{0}" height="{1}" viewBox="-1 -1 {0} {1}">{2}{3}</svg></div>'
    ).format(width + 2, height + 2, Markup().join(edges), Markup().join(boxes))


def _needs(stage: Stage, stages: Sequence[Stage]) -> list[str]:
    """Roles of the stages that this one read. A candidate's stage calls its own sample just `sample`."""
    known = {other.role for other in stages}
    suffix = stage.role.removeprefix(stage.result.kind)
    named = (role if role in known else f"{role}{suffix}" for role in stage.result.inputs)
    return [role for role in named if role in known and role != stage.role]
