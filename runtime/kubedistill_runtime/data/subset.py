"""The part of the questions that a round of a probe has."""

import hashlib
import math
from collections.abc import Sequence

from kubedistill_api.stage import QuestionSubset


def chosen(question_ids: Sequence[str], subset: QuestionSubset | None) -> list[str]:
    """The ids of a subset, in the order in which they are given; all of them for None.

    Questions are ordered by a hash of seed and id and the first are taken: a larger share holds a smaller one, whatever
    the order in the file, and what lies next to each other there is not chosen together.
    """
    if subset is None:
        return list(question_ids)
    order = sorted(question_ids, key=lambda name: hashlib.blake2b(f"{subset.seed}\0{name}".encode()).digest())
    # Shares are powers of whole numbers, and 1/3 of 300 are 100 questions.
    number = max(1, math.ceil(round(subset.share * len(order), 6)))
    taken = set(order[:number])
    return [name for name in question_ids if name in taken]
