"""Reads what trainings measured of their corpora."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kubedistill_runtime.report.contents import Covariates, Spread


def read(label: str, score: float | None, files: Sequence[Path]) -> Covariates | None:
    """Of the trainings on one corpus, one per seed: they differ in the shift alone, which is averaged. None without a
    file."""
    found = [json.loads(path.read_bytes()) for path in files]
    if not found:
        return None
    first = found[0]
    return Covariates(
        label=label,
        score=score,
        traces=first["traces"],
        tokens=first["tokens"],
        mean_tokens=first["meanTokens"],
        nll=_spread(first["nll"]),
        entropy=_spread(first["entropy"]),
        shift=float(np.mean([one["shift"]["distance"] for one in found])),
    )


def _spread(content: dict[str, Any]) -> Spread:
    histogram = content["histogram"]
    return Spread(
        mean=content["mean"],
        std=content["std"],
        quantiles={int(percent): value for percent, value in content["quantiles"].items()},
        width=histogram["width"],
        counts=tuple(histogram["counts"]),
    )


def by_score(entries: Sequence[Covariates | None]) -> tuple[Covariates, ...]:
    """Those that are there, the highest score first; among equals, and without scores, in the order given."""
    there = [entry for entry in entries if entry]
    return tuple(sorted(there, key=lambda entry: -(entry.score or 0.0)))
