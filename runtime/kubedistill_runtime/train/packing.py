"""Which examples make which batch, and how a batch is laid out over ranks.

A batch is a pure function of (seed, epoch, step): no loader has state, so resuming needs one integer, at any world
size. An epoch is a permutation of the corpus cut into global batches; the last, partial batch is kept. A global batch
is packed whole into micro-batches of at most `capacity` tokens. All ranks compute the same plan and take their part.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

Bins = list[list[int]]


@dataclass(frozen=True)
class Plan:
    """The batches of a whole run.

    `lengths` are the examples' tokens; `capacity` the tokens of a micro-batch; `quadratic` the cost of attention over a
    document of n tokens, in units of the linear cost of one token, divided by n**2.
    """

    lengths: tuple[int, ...]
    seed: int
    global_batch_size: int
    capacity: int
    world_size: int = 1
    quadratic: float = 0.0

    def __post_init__(self) -> None:
        assert self.lengths, "a plan needs an example"
        assert max(self.lengths) <= self.capacity, "the dataset drops examples that no micro-batch holds"

    @cached_property
    def steps_per_epoch(self) -> int:
        """Global batches of one epoch, the last one maybe partial."""
        return -(-len(self.lengths) // self.global_batch_size)

    def epoch_of(self, step: int) -> int:
        """Epoch of a step; both count from 0."""
        return step // self.steps_per_epoch

    def examples(self, step: int) -> list[int]:
        """Indices of the examples of one global batch. The same at every world size."""
        start = step % self.steps_per_epoch * self.global_batch_size
        order = _permutation(len(self.lengths), self.seed, self.epoch_of(step))
        return order[start : start + self.global_batch_size].tolist()

    def micro_batches(self, step: int) -> list[Bins]:
        """Per rank, the micro-batches of one step, as lists of example indices.

        Every rank has the same number of micro-batches, because collectives need all ranks; some may be empty. The
        micro-batches that run at the same time cost about the same.
        """
        ids = self.examples(step)
        lengths = {i: self.lengths[i] for i in ids}
        bins = pack(lengths, self.capacity, self.world_size, self.quadratic)
        return [bins[rank :: self.world_size] for rank in range(self.world_size)]


def pack(lengths: dict[int, int], capacity: int, multiple: int, quadratic: float) -> Bins:
    """Packs examples (index -> tokens) into a multiple of `multiple` bins of at most `capacity` tokens.

    First the least number of bins by best fit on falling lengths, rounded up; then the examples are spread over that
    many bins, the costliest first, each into the cheapest bin that has room. Where that strands an example, the best
    fit stands. Bins come sorted by falling cost, longest example first within a bin.
    """
    falling = sorted(lengths, key=lambda i: (-lengths[i], i))
    fitted = _best_fit(falling, lengths, capacity)
    count = -(-len(fitted) // multiple) * multiple
    cost = {i: n + quadratic * n * n for i, n in lengths.items()}
    bins = _spread(falling, lengths, cost, capacity, count) or fitted + [[] for _ in range(count - len(fitted))]
    return sorted(bins, key=lambda members: -sum(cost[i] for i in members))


def _best_fit(falling: list[int], lengths: dict[int, int], capacity: int) -> Bins:
    bins: Bins = []
    room: list[int] = []
    for i in falling:
        fits = [b for b, free in enumerate(room) if free >= lengths[i]]
        if fits:
            best = min(fits, key=room.__getitem__)
        else:
            best = len(bins)
            bins.append([])
            room.append(capacity)
        bins[best].append(i)
        room[best] -= lengths[i]
    return bins


def _spread(falling: list[int], lengths: dict[int, int], cost: dict[int, float], capacity: int, count: int) -> Bins:
    """Longest processing time first; an empty list where an example finds no room."""
    bins: Bins = [[] for _ in range(count)]
    room = [capacity] * count
    load = [0.0] * count
    for i in falling:
        fits = [b for b in range(count) if room[b] >= lengths[i]]
        if not fits:
            return []
        lightest = min(fits, key=load.__getitem__)
        bins[lightest].append(i)
        room[lightest] -= lengths[i]
        load[lightest] += cost[i]
    return bins


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)
