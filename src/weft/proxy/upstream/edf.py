"""Earliest deadline first: weighted choice in a fixed, even order.

Every entry has a deadline; the earliest is picked and gets the next one ``1 / weight`` later, so an
entry of weight 3 comes three times as often as one of weight 1, spread as evenly as can be.  Equal
deadlines go to whoever was queued first.  Weights are read again at each pick, so they may move.
"""

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")


class Schedule(Generic[T]):
    """Entries with weights; :meth:`pick` gives the next and queues it again.

    ``skip`` starts the order as if so many picks had been made, without making them: a balancer
    that starts at a random point does not send every worker's first request to the same host.
    """

    def __init__(self, entries: list[tuple[T, float]], skip: int = 0) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order: int = 0
        total = 0.0
        for _, weight in entries:
            total += weight
        done = 0
        for entry, weight in entries:
            # Of `skip` picks an entry has had at least the whole part of its share.
            had = int(skip * weight / total) if skip else 0
            self._heap.append(((had + 1) / weight, self._order, entry))
            self._order += 1
            done += had
        heapq.heapify(self._heap)
        weights = {id(entry): weight for entry, weight in entries}
        for _ in range(max(0, skip - done)):
            picked = self._heap[0][2]
            self.queue_again(weights[id(picked)])

    def __len__(self) -> int:
        return len(self._heap)

    def first(self) -> T:
        """Whose turn it is."""
        return self._heap[0][2]

    def queue_again(self, weight: float) -> None:
        """Take the turn of :meth:`first`; its next one is ``1 / weight`` later."""
        deadline, _, entry = self._heap[0]
        heapq.heapreplace(self._heap, (deadline + 1.0 / weight, self._order, entry))
        self._order += 1
