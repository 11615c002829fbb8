"""Deadlines: every timeout of a worker in one heap and one timer.

A connection owns a few :class:`Deadline` objects for its whole life and moves them: ``d.set(when)``
on the plain path is one attribute write, because a deadline that is already in the heap at an
earlier time stays there and is looked at again when that time comes.  No timer object, closure or
heap operation per request.
"""

import asyncio
import heapq
from typing import Final

from mypy_extensions import mypyc_attr

NEVER: Final = 0.0
"""``Deadline.when`` of one that is not armed."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Deadline:
    """One timeout of somebody.  Subclass, and say in :meth:`expired` what happens."""

    def __init__(self, deadlines: "Deadlines") -> None:
        self.deadlines = deadlines
        self.when: float = NEVER
        self.queued: float = NEVER
        """When the heap will look at this; NEVER when it is not in the heap."""

    def set(self, when: float) -> None:
        """Arm for ``when`` (loop time), replacing any earlier arming."""
        self.when = when
        queued = self.queued
        if queued == NEVER:
            self.deadlines.queue(self, when)
        elif when < queued:
            self.deadlines.queue(self, when)
            self.deadlines.dropped_one()  # the later entry is dead

    def clear(self) -> None:
        self.when = NEVER

    def drop(self) -> None:
        """The owner is gone: be forgotten, soon also by the heap."""
        self.when = NEVER
        if self.queued != NEVER:
            self.queued = NEVER
            self.deadlines.dropped_one()

    def expired(self, now: float) -> None:
        raise NotImplementedError


class Deadlines:
    """The heap of a worker, and the single timer that serves it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._heap: list[tuple[float, int, Deadline]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self._dropped = 0

    def queue(self, deadline: Deadline, when: float) -> None:
        deadline.queued = when
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, deadline))
        if self._timer_at == NEVER or when < self._timer_at:
            self._arm(when)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self.loop.call_at(when, self.run)

    def run(self) -> None:
        """Expire what is due; called by the timer."""
        self._timer = None
        self._timer_at = NEVER
        now = self.loop.time()
        try:
            # Timers may fire up to the loop's clock resolution early (libuv counts milliseconds).
            while self._heap and self._heap[0][0] <= now + 0.001:
                queued, _, deadline = heapq.heappop(self._heap)
                if deadline.queued != queued:
                    continue  # queued again for an earlier time since
                deadline.queued = NEVER
                if deadline.when == NEVER:
                    continue
                if deadline.when > now + 0.001:
                    self.queue(deadline, deadline.when)
                else:
                    deadline.when = NEVER
                    deadline.expired(now)
        finally:
            # Whoever was queued meanwhile armed the timer for himself; others may be due before.
            if self._heap and (self._timer_at == NEVER or self._heap[0][0] < self._timer_at):
                self._arm(self._heap[0][0])

    def dropped_one(self) -> None:
        """Sweep once more than half of the heap is dead: constant cost per connection closed."""
        self._dropped += 1
        if self._dropped > 512 and self._dropped * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].queued == entry[0]]
            heapq.heapify(self._heap)
            self._dropped = 0

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()
