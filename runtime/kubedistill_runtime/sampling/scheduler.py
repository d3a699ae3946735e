"""Which response to ask for next. Pure: no clock, no I/O.

The samples that count for a question are the shortest prefix 0..m-1 of its sample indexes that holds
`stop_after_verified` verified ones, or all of them where it never does. Numbers decide, not arrival: the outcome does
not depend on timing, and a short response has no better chance than a long one.

An index is certain to count while fewer verified ones than asked for could lie before it, should everything that is
undecided turn out verified. Only such indexes are asked for, so nothing is wasted, until the engines would idle.
"""

import heapq
import math
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Q = TypeVar("Q", bound=Hashable)

PRIOR_WEIGHT = 2.0
"""Samples that the pass rate of all questions weighs in the estimate of one question's."""


@dataclass
class _Question:
    order: int
    verdicts: dict[int, bool] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    """Indexes under way."""
    length_sum: int = 0
    certain: int = 0
    """Indexes below this are certain to count."""
    floor: int = 0
    """Every index below this is complete or under way."""
    version: int = 0
    """Of its entry in the heap; older entries are void."""

    @property
    def mean_length(self) -> float | None:
        return self.length_sum / len(self.verdicts) if self.verdicts else None


class Scheduler(Generic[Q]):
    """Decides for all questions of one run. A key is (question, sample index)."""

    def __init__(self, questions: Sequence[Q], samples: int, stop_after_verified: int | None = None) -> None:
        self.samples = samples
        self._stop = stop_after_verified
        self._questions = {question: _Question(order) for order, question in enumerate(questions)}
        if len(self._questions) != len(questions):
            raise ValueError("a question is there twice")
        self._names = list(questions)
        self._open = set(questions)
        self._length_sum = self._done = self._verified = 0
        self._in_flight = 0
        self._fresh: deque[Q] = deque()
        self._heap: list[tuple[float, int, int]] = []
        for question, state in self._questions.items():
            self._settle(question, state)

    @property
    def finished(self) -> bool:
        """Every question is decided."""
        return not self._open

    @property
    def decided(self) -> int:
        """Questions whose counting samples are all there."""
        return len(self._questions) - len(self._open)

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    def restore(self, question: Q, index: int, verified: bool, length: int) -> None:
        """Takes in a record of an earlier run."""
        self._take(question, index, verified, length)

    def complete(self, question: Q, index: int, verified: bool, length: int) -> list[tuple[Q, int]]:
        """Takes in a verdict; returns the keys under way that are of no use any more, which are taken for aborted."""
        state = self._questions[question]
        state.asked.remove(index)
        self._in_flight -= 1
        self._take(question, index, verified, length)
        useless = sorted(i for i in state.asked if self._is_surplus(state, i))
        state.asked.difference_update(useless)
        self._in_flight -= len(useless)
        return [(question, i) for i in useless]

    def next(self, count: int) -> list[tuple[Q, int]]:
        """At most `count` keys that are certain to be needed, the longest expected first; now under way."""
        keys: list[tuple[Q, int]] = []
        while len(keys) < count:
            question = self._longest()
            if question is None:
                break
            state = self._questions[question]
            index = self._lowest(state)
            self._ask(state, index)
            keys.append((question, index))
            self._enqueue(question, state)
        return keys

    def speculate(self, count: int) -> list[tuple[Q, int]]:
        """At most `count` keys that may be needed, for engines that would idle otherwise; now under way.

        No question is given more than its pass rate lets expect, and the questions take turns.
        """
        if self._stop is None or count <= 0:
            return []
        room = [
            (len(state.asked), -(state.mean_length or self._mean), state.order, question)
            for question in self._open
            if (state := self._questions[question]) and self._lowest(state) < self._expected_prefix(state)
        ]
        heapq.heapify(room)
        keys: list[tuple[Q, int]] = []
        while room and len(keys) < count:
            asked, length, order, question = heapq.heappop(room)
            state = self._questions[question]
            index = self._lowest(state)
            self._ask(state, index)
            keys.append((question, index))
            if self._lowest(state) < self._expected_prefix(state):
                heapq.heappush(room, (asked + 1, length, order, question))
        return keys

    def is_surplus(self, question: Q, index: int) -> bool:
        """The sample lies beyond the ones that count. Final once the question is decided."""
        return self._is_surplus(self._questions[question], index)

    def _take(self, question: Q, index: int, verified: bool, length: int) -> None:
        state = self._questions[question]
        state.verdicts[index] = verified
        state.length_sum += length
        self._length_sum += length
        self._done += 1
        self._verified += verified
        self._settle(question, state)

    def _settle(self, question: Q, state: _Question) -> None:
        """Works out anew what is certain, whether the question is decided, and its place in the queue."""
        state.certain = self._certain(state)
        if all(index in state.verdicts for index in range(state.certain)):
            self._open.discard(question)
        state.version += 1
        self._enqueue(question, state)

    def _certain(self, state: _Question) -> int:
        if self._stop is None:
            return self.samples
        possible = 0
        for index in range(self.samples):
            possible += state.verdicts.get(index, True)
            if possible == self._stop:
                return index + 1
        return self.samples

    def _expected_prefix(self, state: _Question) -> int:
        """Length of the prefix that the question will need if its pass rate so far holds."""
        assert self._stop is not None
        overall = (self._verified + 1) / (self._done + 2)
        own = sum(state.verdicts.values())
        rate = (own + PRIOR_WEIGHT * overall) / (len(state.verdicts) + PRIOR_WEIGHT)
        undecided = sum(index not in state.verdicts for index in range(state.certain))
        return min(self.samples, state.certain - undecided + math.floor(undecided / rate))

    def _is_surplus(self, state: _Question, index: int) -> bool:
        return self._stop is not None and sum(v for i, v in state.verdicts.items() if i < index) >= self._stop

    def _lowest(self, state: _Question) -> int:
        while state.floor in state.verdicts or state.floor in state.asked:
            state.floor += 1
        return state.floor

    def _ask(self, state: _Question, index: int) -> None:
        state.asked.add(index)
        self._in_flight += 1

    @property
    def _mean(self) -> float:
        return self._length_sum / self._done if self._done else 0.0

    def _enqueue(self, question: Q, state: _Question) -> None:
        """One entry per question with something to ask for: by its own mean length, or in turn where it has none."""
        if self._lowest(state) >= state.certain:
            return
        if state.mean_length is None:
            if not state.asked:
                self._fresh.append(question)
            else:
                self._fresh.appendleft(question)  # siblings together, for the sake of the prefix cache
        else:
            heapq.heappush(self._heap, (-state.mean_length, state.order, state.version))

    def _longest(self) -> Q | None:
        """Takes the question with the longest expected response out of the queue."""
        while self._heap and self._stale(self._heap[0]):
            heapq.heappop(self._heap)
        while self._fresh and self._questions[self._fresh[0]].mean_length is not None:
            self._fresh.popleft()  # got a length meanwhile, so it is in the heap
        if self._heap and (not self._fresh or -self._heap[0][0] >= self._mean):
            return self._names[heapq.heappop(self._heap)[1]]
        return self._fresh.popleft() if self._fresh else None

    def _stale(self, entry: tuple[float, int, int]) -> bool:
        state = self._questions[self._names[entry[1]]]
        return entry[2] != state.version or self._lowest(state) >= state.certain
