"""The time of a worker: its event loop's, and what that is on the wall.

Everything measures with :meth:`Clock.now`, which is the running loop's time and so virtual in
tests.  The wall clock is an offset to it, taken once a second from the ``wall`` function.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(second: int) -> bytes:
    """An IMF-fixdate (RFC 9110 5.6.7) of seconds since the epoch.

    The standard library's own lies in ``email``, whose import would take a tenth of our start.
    """
    t = time.gmtime(second)
    day, month = _DAYS[t.tm_wday], _MONTHS[t.tm_mon - 1]
    return f"{day}, {t.tm_mday:02} {month} {t.tm_year} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT".encode()


class Clock:
    """``now()`` in seconds (monotonic, the loop's), ``wall(now)`` in seconds since the epoch."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wall: Callable[[], float] = time.time) -> None:
        self._loop = loop
        self._wall = wall
        self._time: Callable[[], float] = loop.time
        self.current: float = loop.time()
        """What :meth:`now` said last: good enough within the handling of one event."""
        self._offset = wall() - loop.time()
        self._checked = loop.time()
        self._date = b""
        self._date_second = -1

    def now(self) -> float:
        """The loop's time, in seconds."""
        self.current = self._time()
        return self.current

    def wall(self, now: float) -> float:
        """The wall-clock time of a loop time."""
        if now - self._checked > 1.0:
            self._offset = self._wall() - self._loop.time()
            self._checked = now
        return now + self._offset

    def date(self, now: float) -> bytes:
        """The value of a ``date`` header (RFC 9110 5.6.7), made once a second."""
        second = int(self.wall(now))
        if second != self._date_second:
            self._date_second = second
            self._date = http_date(second)
        return self._date
