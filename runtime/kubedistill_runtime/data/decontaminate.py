"""Which training questions share text with a benchmark: n-gram overlap of words, numbers and symbols.

Two texts overlap when they have `n` tokens in a row in common. A text with fewer tokens overlaps when all of it occurs
in the other as a run. Case, spacing and Unicode forms do not count.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")

Gram = tuple[int, ...]


def tokens(text: str) -> list[str]:
    """Words, numbers and symbols of a text, in one case and one Unicode form."""
    return TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


class Overlap:
    """The texts of benchmarks, ready to be compared with many questions.

    Memory and set-up grow with the benchmarks; a question costs time in proportion to its length.
    """

    def __init__(self, benchmarks: Mapping[str, Iterable[str]], n: int) -> None:
        """`benchmarks` are question texts by the name of their benchmark; `n` is the length of an overlap in tokens."""
        self.names = list(benchmarks)
        self._n = n
        self._vocabulary: dict[str, int] = {}
        texts = [
            (index, tuple(self._vocabulary.setdefault(token, len(self._vocabulary)) for token in tokens(text)))
            for index, name in enumerate(self.names)
            for text in benchmarks[name]
        ]
        self._texts = [(index, text) for index, text in texts if text]
        self._runs: dict[int, dict[Gram, set[int]]] = {}
        """Every run of a length in the benchmarks, with the benchmarks that have it."""
        self._short: dict[int, dict[Gram, set[int]]] = {}
        """Whole texts that are shorter than n, by their length."""
        for index, text in self._texts:
            if len(text) < n:
                self._short.setdefault(len(text), {}).setdefault(text, set()).add(index)

    def of(self, question: str) -> list[str]:
        """Names of the benchmarks that a question overlaps with, in the order they were given."""
        # Tokens that no benchmark has get -1: no run goes through them.
        ids = tuple(self._vocabulary.get(token, -1) for token in tokens(question))
        if not ids:
            return []
        length = min(self._n, len(ids))
        found = self._hits(ids, length, self._runs_of(length))
        for short, texts in self._short.items():
            found |= self._hits(ids, short, texts)
        return [self.names[index] for index in sorted(found)]

    @staticmethod
    def _hits(ids: Gram, length: int, known: Mapping[Gram, set[int]]) -> set[int]:
        found: set[int] = set()
        for gram in _grams(ids, length):
            found |= known.get(gram, set())
        return found

    def _runs_of(self, length: int) -> Mapping[Gram, set[int]]:
        if length not in self._runs:
            runs = self._runs[length] = {}
            for index, text in self._texts:
                for gram in _grams(text, length):
                    runs.setdefault(gram, set()).add(index)
        return self._runs[length]


def _grams(ids: Gram, length: int) -> Iterator[Gram]:
    """Runs of `length` without an unknown token."""
    start = 0
    for position, token in enumerate(ids):
        if token < 0:
            start = position + 1
        elif position + 1 - start >= length:
            yield ids[position + 1 - length : position + 1]
