"""Counts that all workers of one proxy add up: connections of a listener, of a filter, of the proxy.

Each worker owns one cell of an anonymous shared mapping that main made before the fork, writes only
that, and adds up the others when it asks for the sum.  Nobody locks; two workers that ask at the same
instant may both take the last place, as Envoy's threads may.
"""

import mmap
from typing import Any, Final

MOST_WORKERS: Final = 511


class WorkerCounts:
    """``count(index, +1)`` and ``total()``.  Cell 0 holds how many cells are in use."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: memoryview = memoryview(mmap.mmap(-1, (MOST_WORKERS + 1) * 8)).cast("q")

    def begin(self, index: int) -> None:
        """Worker ``index`` starts: what its predecessor held is gone."""
        self._cells[index % MOST_WORKERS + 1] = 0

    def count(self, index: int, change: int) -> None:
        cells = self._cells
        at = index % MOST_WORKERS + 1
        if cells[0] < at:
            cells[0] = at
        cells[at] += change

    def total(self) -> int:
        cells = self._cells
        used = cells[0]
        if used == 1:
            return int(cells[1])
        return sum(cells[1 : used + 1].tolist())

    def __reduce__(self) -> Any:
        # Settings that cross a pipe lose the mapping: the limit is then each worker's own.
        return (WorkerCounts, ())

    def __eq__(self, other: object) -> bool:
        # Part of settings that are compared to find what changed; counts are no setting.
        return isinstance(other, WorkerCounts)

    def __hash__(self) -> int:
        return 0
