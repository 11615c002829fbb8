"""Earliest deadline first: weighted choice in a fixed, even order.

Every entry has a deadline; the earliest is picked and gets the next one ``1 / weight`` later, so an
entry of weight 3 comes three times as often as one of weight 1, spread as evenly as can be.  Equal
deadlines go to whoever was queued first.

Weights that stand still make an order that repeats after ``sum(weights)`` picks.  A :class:`Cycle`
goes through it, exactly: a deadline is *n / weight* within a round, correctly rounded, so that
deadlines that are equal are equal; adding up ``1 / weight`` would lose that after some rounds, and
with it Envoy's order.  :class:`Schedule` is for weights that move from pick to pick.
"""

import heapq
from math import gcd
from typing import Generic, TypeVar

T = TypeVar("T")


class Cycle:
    """Whole, unchanging weights: :meth:`pick` gives the index of the next entry.

    ``skip``: picks that count as made, so that not everybody's first pick is the same.
    """

    def __init__(self, weights: list[int], skip: int = 0) -> None:
        total = sum(weights)
        # An entry's place in its round: (round, share of the round, order of queueing, index).
        self._heap: list[tuple[int, float, int, int]] = []
        self._weights = weights
        self._had: list[int] = []
        """Picks of each entry in its round."""
        self._order: int = len(weights)
        skip %= total
        done = 0
        for index, weight in enumerate(weights):
            had = skip * weight // total
            self._had.append(had)
            self._heap.append((0, (had + 1) / weight, index, index))
            done += had
        heapq.heapify(self._heap)
        for _ in range(skip - done):
            self.pick()

    def pick(self) -> int:
        round, _, _, index = self._heap[0]
        weight = self._weights[index]
        had = self._had[index] + 1
        if had == weight:
            round += 1
            had = 0
        self._had[index] = had
        heapq.heapreplace(self._heap, (round, (had + 1) / weight, self._order, index))
        self._order += 1
        return index


def order(weights: list[int]) -> list[int]:
    """One whole round of a :class:`Cycle` that has settled: indexes, ``sum / gcd`` of them."""
    divisor = gcd(*weights)
    small = [weight // divisor for weight in weights]
    cycle = Cycle(small)
    length = sum(small)
    for _ in range(length):
        cycle.pick()
    return [cycle.pick() for _ in range(length)]


class Schedule(Generic[T]):
    """Entries with weights of any kind, given anew at each pick."""

    def __init__(self, entries: list[tuple[T, float]], skip: int = 0) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order: int = len(entries)
        total = sum([weight for _, weight in entries])
        skip = int(skip % total) if total >= 1.0 else 0
        for number, (entry, weight) in enumerate(entries):
            # Of `skip` picks an entry has had at least the whole part of its share.
            self._heap.append(((int(skip * weight / total) + 1) / weight, number, entry))
        heapq.heapify(self._heap)

    def first(self) -> T:
        """Whose turn it is."""
        return self._heap[0][2]

    def queue_again(self, weight: float) -> None:
        """Take the turn of :meth:`first`; its next one is ``1 / weight`` later."""
        deadline, _, entry = self._heap[0]
        heapq.heapreplace(self._heap, (deadline + 1.0 / weight, self._order, entry))
        self._order += 1
