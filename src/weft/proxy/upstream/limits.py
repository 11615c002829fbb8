"""Limits of a cluster: connections, waiting requests, requests and retries under way.

Envoy's circuit breakers.  One :class:`Limits` per cluster and priority counts what *this worker*
uses; every use is a pair of calls (``connection_began`` / ``connection_ended``), and a check comes
before the first of the pair (``can_connect``).  Checks and counts are apart because some uses are
allowed past the limit: the first connection of a pool always is.

With several workers the limit is the cluster's, not the worker's.  Each worker then mirrors its
counts into its own row of :class:`SharedRows` (an anonymous mapping made before the fork) and a
check adds up the column.  Nobody locks: two workers that check at the same instant may go one past
the limit, as Envoy's threads may.
"""

import mmap
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from weft.proxy.observe.stats import StatGroup, rows
from weft.proxy.runtime import Runtime

CONNECTIONS: Final = 0
PENDING: Final = 1
REQUESTS: Final = 2
RETRIES: Final = 3
POOLS: Final = 4
_CELLS: Final = 8
"""Cells of one cluster and priority in a row (three spare)."""

UNLIMITED: Final = (1 << 64) - 1
PRIORITIES: Final = ("default", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    percent: float = 20.0
    """Of the requests under way and waiting."""
    minimum: int = 3
    """Retries always allowed at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Limits of one priority; the defaults are Envoy's."""

    max_connections: int = 1024
    max_pending: int = 1024
    max_requests: int = 1024
    max_retries: int = 3
    max_connection_pools: int = UNLIMITED
    max_host_connections: int = UNLIMITED
    """``per_host_thresholds.max_connections``."""
    retry_budget: RetryBudget | None = None
    track_remaining: bool = False
    """Show ``remaining_*`` gauges."""


DEFAULT: Final = Thresholds()


class SharedRows:
    """Usage of every cluster by every worker: ``rows[worker][slot][priority][cell]``.

    Main makes it before the first fork and gives each cluster a slot that it keeps for life
    (:meth:`slot`).  Pages nobody touches cost nothing, so the capacity is generous.
    """

    def __init__(self, workers: int, capacity: int = 16384) -> None:
        self.workers = workers
        self.capacity = capacity
        self._row = capacity * 2 * _CELLS
        self._map = mmap.mmap(-1, max(1, workers) * self._row * 8)
        self.cells = memoryview(self._map).cast("q")
        self._slots: dict[str, int] = {}

    def slot(self, name: str) -> int:
        """The slot of the cluster ``name``, given out once (in main); -1 when there are no more."""
        known = self._slots.get(name)
        if known is not None:
            return known
        if len(self._slots) >= self.capacity:
            return -1
        slot = len(self._slots)
        self._slots[name] = slot
        return slot

    def offset(self, worker: int, slot: int, priority: int) -> int:
        return worker * self._row + (slot * 2 + priority) * _CELLS

    def clear(self, worker: int) -> None:
        """Forget what ``worker`` held: it died, or starts anew."""
        start = worker * self._row
        for at in range(start, start + len(self._slots) * 2 * _CELLS):
            self.cells[at] = 0


class Limits:
    """What one worker uses of one cluster at one priority, and whether it may use more."""

    def __init__(
        self,
        thresholds: Thresholds,
        cluster: str,
        priority: int,
        runtime: Runtime,
        shared: SharedRows | None = None,
        worker: int = 0,
        slot: int = -1,
    ) -> None:
        self.thresholds = thresholds
        self.connections: int = 0
        self.pending: int = 0
        self.requests: int = 0
        self.retries: int = 0
        self.pools: int = 0
        self.max_connections: int = thresholds.max_connections
        self.max_pending: int = thresholds.max_pending
        self.max_requests: int = thresholds.max_requests
        self.max_retries: int = thresholds.max_retries
        self.max_connection_pools: int = thresholds.max_connection_pools
        self._budget: RetryBudget | None = None
        self._key = f"circuit_breakers.{cluster}.{PRIORITIES[priority]}."
        self._runtime = runtime
        self._seen: object = None
        """The runtime values that the limits above were taken from."""
        use = shared is not None and shared.workers > 1 and slot >= 0
        self._shared: bool = use
        self._cells: Any = shared.cells if use and shared is not None else None
        self._mine: int = 0
        self._columns: list[int] = []
        """Where each other worker's cells begin."""
        if use and shared is not None:
            self._mine = shared.offset(worker, slot, priority)
            self._columns = [shared.offset(w, slot, priority) for w in range(shared.workers) if w != worker]
        self._refresh()

    def update(self, thresholds: Thresholds) -> None:
        """Take changed limits; what is under way stays counted."""
        self.thresholds = thresholds
        self._refresh()

    # -- checks ---------------------------------------------------------------------------

    def can_connect(self) -> bool:
        if self._runtime.values is not self._seen:
            self._refresh()
        used = self.connections
        if self._shared:
            used += self._others(CONNECTIONS)
        return used < self.max_connections

    def can_wait(self) -> bool:
        """Whether one more request may wait for a connection."""
        if self._runtime.values is not self._seen:
            self._refresh()
        used = self.pending
        if self._shared:
            used += self._others(PENDING)
        return used < self.max_pending

    def can_request(self) -> bool:
        if self._runtime.values is not self._seen:
            self._refresh()
        used = self.requests
        if self._shared:
            used += self._others(REQUESTS)
        return used < self.max_requests

    def can_retry(self) -> bool:
        if self._runtime.values is not self._seen:
            self._refresh()
        return self.used(RETRIES) < self.retry_limit()

    def can_pool(self) -> bool:
        if self._runtime.values is not self._seen:
            self._refresh()
        return self.used(POOLS) < self.max_connection_pools

    # -- uses -----------------------------------------------------------------------------

    def connection_began(self) -> None:
        self.connections += 1
        if self._shared:
            self._cells[self._mine] = self.connections

    def connection_ended(self) -> None:
        self.connections -= 1
        if self._shared:
            self._cells[self._mine] = self.connections

    def wait_began(self) -> None:
        self.pending += 1
        if self._shared:
            self._cells[self._mine + PENDING] = self.pending

    def wait_ended(self) -> None:
        self.pending -= 1
        if self._shared:
            self._cells[self._mine + PENDING] = self.pending

    def request_began(self) -> None:
        self.requests += 1
        if self._shared:
            self._cells[self._mine + REQUESTS] = self.requests

    def request_ended(self) -> None:
        self.requests -= 1
        if self._shared:
            self._cells[self._mine + REQUESTS] = self.requests

    def retry_began(self) -> None:
        self.retries += 1
        if self._shared:
            self._cells[self._mine + RETRIES] = self.retries

    def retry_ended(self) -> None:
        self.retries -= 1
        if self._shared:
            self._cells[self._mine + RETRIES] = self.retries

    def pool_began(self) -> None:
        self.pools += 1
        if self._shared:
            self._cells[self._mine + POOLS] = self.pools

    def pool_ended(self) -> None:
        self.pools -= 1
        if self._shared:
            self._cells[self._mine + POOLS] = self.pools

    # -- reads ----------------------------------------------------------------------------

    def used(self, what: int) -> int:
        """Of CONNECTIONS, PENDING, ..., by all workers."""
        if what == CONNECTIONS:
            mine = self.connections
        elif what == PENDING:
            mine = self.pending
        elif what == REQUESTS:
            mine = self.requests
        elif what == RETRIES:
            mine = self.retries
        else:
            mine = self.pools
        return mine + self._others(what) if self._shared else mine

    def retry_limit(self) -> int:
        """``max_retries``, or what the retry budget allows just now."""
        budget = self._budget
        if budget is None:
            return self.max_retries
        percent = self._runtime.number(self._key + "retry_budget.budget_percent", budget.percent)
        minimum = self._runtime.integer(self._key + "retry_budget.min_retry_concurrency", budget.minimum)
        return max(minimum, int(percent / 100.0 * (self.used(REQUESTS) + self.used(PENDING))))

    @property
    def has_budget(self) -> bool:
        return self._budget is not None

    def _others(self, what: int) -> int:
        total = 0
        cells = self._cells
        for at in self._columns:
            total += int(cells[at + what])
        return total

    def _refresh(self) -> None:
        """Runtime has new values: take the limits from them where they say something."""
        runtime, given, key = self._runtime, self.thresholds, self._key
        self._seen = runtime.values
        self.max_connections = runtime.integer(key + "max_connections", given.max_connections)
        self.max_pending = runtime.integer(key + "max_pending_requests", given.max_pending)
        self.max_requests = runtime.integer(key + "max_requests", given.max_requests)
        self.max_retries = runtime.integer(key + "max_retries", given.max_retries)
        self.max_connection_pools = runtime.integer(key + "max_connection_pools", given.max_connection_pools)
        self._budget = given.retry_budget
        if self._budget is None and (
            key + "retry_budget.budget_percent" in runtime.values
            or key + "retry_budget.min_retry_concurrency" in runtime.values
        ):
            self._budget = RetryBudget()


class LimitStats(StatGroup):
    """``circuit_breakers.<priority>.*_open``: gauges worked out when somebody looks.

    A limit is the cluster's, so with several workers only one of them may show it.
    """

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(
        gauges=("cx_open", "cx_pool_open", "rq_open", "rq_pending_open", "rq_retry_open")
    )

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    @property
    def cx_open(self) -> int:
        return 0 if self.limits.can_connect() else 1

    @property
    def cx_pool_open(self) -> int:
        return 0 if self.limits.can_pool() else 1

    @property
    def rq_open(self) -> int:
        return 0 if self.limits.can_request() else 1

    @property
    def rq_pending_open(self) -> int:
        return 0 if self.limits.can_wait() else 1

    @property
    def rq_retry_open(self) -> int:
        return 0 if self.limits.can_retry() else 1


class RemainingStats(LimitStats):
    """The same with ``remaining_*``, for thresholds with ``track_remaining``."""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = LimitStats.STATS + rows(
        gauges=(
            "remaining_cx",
            "remaining_cx_pools",
            "remaining_pending",
            "remaining_retries",
            "remaining_rq",
        )
    )

    @property
    def remaining_cx(self) -> int:
        return max(0, self.limits.max_connections - self.limits.used(CONNECTIONS))

    @property
    def remaining_cx_pools(self) -> int:
        return max(0, self.limits.max_connection_pools - self.limits.used(POOLS))

    @property
    def remaining_pending(self) -> int:
        return max(0, self.limits.max_pending - self.limits.used(PENDING))

    @property
    def remaining_retries(self) -> int:
        """0 with a retry budget, whose limit moves with the traffic."""
        if self.limits.has_budget:
            return 0
        return max(0, self.limits.max_retries - self.limits.used(RETRIES))

    @property
    def remaining_rq(self) -> int:
        return max(0, self.limits.max_requests - self.limits.used(REQUESTS))
