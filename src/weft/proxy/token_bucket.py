"""Token buckets: a rate with a burst, shared by all workers.

Tokens come continuously at ``per_fill / interval`` a second up to ``most`` (Envoy 1.30 and later; no
timer).  The whole state is one number, the time at which the bucket was, or would have been, empty,
so it fits a cell of shared memory.  Workers take turns by a record lock on that cell's file: a
fraction of a microsecond when nobody else holds it.
"""

import fcntl
import mmap
import os
from typing import Any, Final

_ONE: Final = 8


class TokenBucket:
    """Full at the start.  ``now`` is the clock's time, which all processes of a machine share."""

    __slots__ = ("__weakref__", "_cell", "_fd", "_rate", "interval", "most", "per_fill")

    def __init__(self, most: int, per_fill: int, interval: float, *, shared: bool = False) -> None:
        """``interval`` in seconds.  ``shared``: processes forked after this draw from the same bucket."""
        self.most = most
        self.per_fill = per_fill
        self.interval = interval
        self._rate = per_fill / interval
        self._fd: int = -1
        if shared:
            self._fd = os.memfd_create("weft-token-bucket", os.MFD_CLOEXEC)
            os.ftruncate(self._fd, _ONE)
            self._cell = memoryview(mmap.mmap(self._fd, _ONE)).cast("d")
        else:
            self._cell = memoryview(bytearray(_ONE)).cast("d")
        self._cell[0] = -1e18

    def take(self, now: float, count: int = 1) -> bool:
        """Take ``count`` tokens, or none."""
        if self._fd < 0:
            return self._take(now, count)
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            return self._take(now, count)
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _take(self, now: float, count: int) -> bool:
        tokens = (now - self._cell[0]) * self._rate
        if tokens > self.most:
            tokens = float(self.most)
        # A fill that lands on a token must give that token, whatever the rounding.
        if tokens + 1e-9 < count:
            return False
        self._cell[0] = now - (tokens - count) / self._rate
        return True

    def tokens(self, now: float) -> float:
        return max(0.0, min(float(self.most), (now - self._cell[0]) * self._rate))

    def __reduce__(self) -> Any:
        # Settings that cross a pipe lose the mapping: the rate is then each worker's own.
        return (TokenBucket, (self.most, self.per_fill, self.interval))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenBucket) and (self.most, self.per_fill, self.interval) == (
            other.most,
            other.per_fill,
            other.interval,
        )

    def __hash__(self) -> int:
        return hash((self.most, self.per_fill, self.interval))

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
