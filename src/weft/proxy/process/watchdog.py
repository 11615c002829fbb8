"""The watchdog: who has not turned its loop for too long.

Each worker touches its word of shared memory from a timer; main looks at all of them and counts
those that missed, as Envoy's guard dog does.  The word is the system's monotonic clock, the same in
every process.  A loop that is alone in its process (``--concurrency 1``) can only count afterwards,
by how late its own timer came.
"""

import math
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import optional_seconds, seconds

_WORD: Final = struct.Struct("<d")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogSettings:
    """Seconds; 0 is off.  The defaults are Envoy's."""

    miss: float = 0.2
    megamiss: float = 1.0
    kill: float = 0.0
    """End a worker that is stuck for so long."""
    kill_jitter: float = 0.0
    """At most so much is added to ``kill``, by chance."""
    multikill: float = 0.0
    """End all stuck workers once enough of them are stuck for so long ..."""
    multikill_threshold: float = 0.0
    """... enough being this share of all, in percent, and two at least."""

    @property
    def interval(self) -> float:
        """How often to look: the shortest timeout."""
        return min(t for t in (self.miss, self.megamiss, self.kill, self.multikill) if t > 0)


WATCHDOG: Final = WatchdogSettings()
"""Envoy's defaults."""


def watchdog_settings(message: Any, where: Where) -> WatchdogSettings:
    """From a ``Watchdog`` message."""
    for i, _ in enumerate(message.actions):
        where.field("actions").item(i).problem("not supported yet: watchdog actions")

    def timeout(name: str, default: float) -> float:
        given = optional_seconds(message, name)
        return default if given is None or (given <= 0 and default > 0) else max(0.0, given)

    return WatchdogSettings(
        miss=timeout("miss_timeout", 0.2),
        megamiss=timeout("megamiss_timeout", 1.0),
        kill=timeout("kill_timeout", 0.0),
        kill_jitter=max(0.0, seconds(message.max_kill_timeout_jitter)),
        multikill=timeout("multikill_timeout", 0.0),
        multikill_threshold=message.multikill_threshold.value,
    )


class Touches:
    """One word per worker in memory that forked processes share."""

    def __init__(self, workers: int) -> None:
        self._map = mmap.mmap(-1, max(1, workers) * _WORD.size)

    def touch(self, worker: int, now: float) -> None:
        _WORD.pack_into(self._map, worker * _WORD.size, now)

    def last(self, worker: int) -> float:
        touched: float = _WORD.unpack_from(self._map, worker * _WORD.size)[0]
        return touched

    def close(self) -> None:
        self._map.close()


class Watched:
    """What is known of one worker's stuckness."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.misses: int = 0
        self.mega_misses: int = 0
        self._missed = False
        self._mega_missed = False

    def look(self, stuck: float, settings: WatchdogSettings) -> tuple[bool, bool]:
        """``stuck`` seconds since the last touch; (a new miss, a new mega miss).

        A worker that stays stuck is counted once, until it moves again.
        """
        if stuck <= settings.miss:
            self._missed = self._mega_missed = False
            return False, False
        miss = not self._missed
        mega = stuck > settings.megamiss and not self._mega_missed
        self._missed = True
        self._mega_missed = self._mega_missed or mega
        self.misses += miss
        self.mega_misses += mega
        return miss, mega


def to_kill(stuck: Sequence[float], settings: WatchdogSettings, jitter: float = 0.0) -> list[int]:
    """Indexes of the workers to end, by how long (seconds) each has been stuck.  ``jitter`` is 0..1."""
    if settings.multikill > 0:
        needed = max(2, math.ceil(len(stuck) * settings.multikill_threshold / 100))
        long = [i for i, s in enumerate(stuck) if s > settings.multikill]
        if len(long) >= needed:
            return long
    if settings.kill > 0:
        limit = settings.kill + settings.kill_jitter * jitter
        return [i for i, s in enumerate(stuck) if s > limit]
    return []
