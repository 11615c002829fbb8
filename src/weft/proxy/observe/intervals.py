"""What histograms recorded between the last two stats flushes.

Envoy prints every quantile twice, of the last interval and of all time.  An interval ends when the
stats are flushed (``stats_flush_interval``, 5 s); whoever flushes calls :meth:`Intervals.flush`.
"""

from weft.proxy.observe.histogram import Histogram
from weft.proxy.observe.stats import Snapshot


class Intervals:
    """Keeps the histograms of the last flush, and their difference to those before."""

    def __init__(self) -> None:
        self.latest: Snapshot | None = None
        """The last interval: only histograms, only those with a sample in it.  None before a flush."""
        self._before: dict[str, Histogram] = {}

    def flush(self, snapshot: Snapshot) -> None:
        """End an interval now.  ``snapshot`` is cumulative; its histograms are not changed afterwards."""
        latest = Snapshot()
        seen: dict[str, Histogram] = {}
        for name, (unit, histogram) in snapshot.histograms.items():
            if not histogram.count:
                continue
            before = self._before.get(name)
            seen[name] = histogram
            recent = histogram if before is None else histogram.since(before)
            if recent.count:
                latest.histograms[name] = (unit, recent)
        self._before = seen
        self.latest = latest
