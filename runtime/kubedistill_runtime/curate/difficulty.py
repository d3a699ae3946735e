"""Which questions are hard for the student?"""

import hashlib
import math
from collections.abc import Iterable, Mapping

from kubedistill_api.curation import DifficultySpec
from kubedistill_runtime.curate.types import PassRate, Reason


def seeded_rank(seed: int, *key: str | int) -> bytes:
    """A pseudo-random sort key that depends on the seed and the item alone, not on the order of the items."""
    return hashlib.blake2b("\0".join(map(str, (seed, *key))).encode(), digest_size=16).digest()


def too_easy(
    questions: Iterable[str], pass_rates: Mapping[str, PassRate], spec: DifficultySpec, seed: int
) -> dict[str, Reason]:
    """The questions to drop, each with its reason.

    questions: ids of those with a correct trace; the share of `keep_hardest` is taken of them. A rate of 0 is never
    a reason to drop: the teacher's correct trace shows that the question can be solved.
    """
    if spec.max_pass_rate is None and spec.keep_hardest is None:
        return {}
    rates: dict[str, float] = {}
    dropped: dict[str, Reason] = {}
    for question in questions:
        rate = pass_rates[question].rate if question in pass_rates else None
        if rate is None:
            dropped[question] = Reason("unmeasured", "no response of the student, so nothing shows that it is hard")
        else:
            rates[question] = rate
    if spec.max_pass_rate is not None:
        for question, rate in rates.items():
            if rate > spec.max_pass_rate:
                text = f"the student solves {rate:.3f} of its samples, {spec.max_pass_rate} is allowed"
                dropped[question] = Reason("too_easy", text)
    elif spec.keep_hardest is not None:
        hardest_first = sorted(rates, key=lambda q: (rates[q], seeded_rank(seed, q), q))
        kept = max(1, math.floor(spec.keep_hardest * (len(rates) + len(dropped)) + 0.5))
        for place, question in enumerate(hardest_first[kept:], kept + 1):
            text = f"place {place} by pass rate ({rates[question]:.3f}), the hardest {kept} stay"
            dropped[question] = Reason("not_among_hardest", text)
    return dropped
