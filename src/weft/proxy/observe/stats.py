"""Stats of a worker: plain integer attributes, named only when somebody looks.

A component owns a :class:`StatGroup` (the stats of one listener, one cluster, ...) and writes
``group.upstream_rq_total += 1``; that is an attribute add on a native class.  Names exist once per
class, in the ``STATS`` table, and the full name ``prefix + name`` is put together by whoever prints.
A thousand clusters therefore cost a thousand small objects and no strings.

``proxy/admin/stats.py`` renders a :class:`Snapshot`; main adds the snapshots of all workers.
"""

from collections.abc import Iterator
from typing import ClassVar, Final

from weft.proxy.observe.histogram import Histogram

COUNTER: Final = 0
GAUGE: Final = 1
TEXT: Final = 2


class StatGroup:
    """Stats that share a prefix.  Subclasses set every attribute named in STATS in ``__init__``.

    ``STATS`` rows are (attribute, name below the prefix, kind); ``HISTOGRAMS`` rows are
    (attribute, name, unit) with unit ``ms``, ``us``, ``bytes``, ``percent`` or empty.
    A class whose names depend on data (response codes) adds rows in :meth:`more`.
    """

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = ()
    HISTOGRAMS: ClassVar[tuple[tuple[str, str, str], ...]] = ()

    def more(self) -> dict[str, int]:
        """Counters with names that depend on data: name below the prefix -> value."""
        return {}

    def reset_counters(self) -> None:
        """``POST /reset_counters``."""
        for attribute, _, kind in type(self).STATS:
            if kind == COUNTER:
                setattr(self, attribute, 0)


def rows(*counters: str, gauges: tuple[str, ...] = ()) -> tuple[tuple[str, str, int], ...]:
    """STATS rows for names that are their attribute's, ``.`` in a name being ``__`` in the attribute."""
    return tuple((name.replace(".", "__"), name, COUNTER) for name in counters) + tuple(
        (name.replace(".", "__"), name, GAUGE) for name in gauges
    )


class Codes:
    """Counts by response code: ``_200``, and ``_2xx`` for each class."""

    def __init__(self) -> None:
        self.by_code: dict[int, int] = {}

    def count(self, status: int) -> None:
        self.by_code[status] = self.by_code.get(status, 0) + 1

    def named(self, stem: str, *, each: bool) -> dict[str, int]:
        """``stem`` + ``_2xx`` for each class seen and, with ``each``, ``_200`` for each code."""
        out: dict[str, int] = {}
        for status, count in self.by_code.items():
            name = f"{stem}_{status // 100}xx"
            out[name] = out.get(name, 0) + count
            if each:
                out[f"{stem}_{status}"] = count
        return out


class Snapshot:
    """Stats by full name at one moment; snapshots of several workers add up."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self.gauges: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        self.histograms: dict[str, tuple[str, Histogram]] = {}
        """Full name -> (unit, histogram)."""

    def add(self, other: "Snapshot") -> None:
        for name, value in other.counters.items():
            self.counters[name] = self.counters.get(name, 0) + value
        for name, value in other.gauges.items():
            self.gauges[name] = self.gauges.get(name, 0) + value
        self.texts.update(other.texts)
        for name, (unit, histogram) in other.histograms.items():
            mine = self.histograms.get(name)
            if mine is None:
                self.histograms[name] = (unit, histogram.copy())
            else:
                mine[1].merge(histogram)


class Store:
    """The groups of one process, by prefix."""

    def __init__(self) -> None:
        self._groups: dict[str, list[StatGroup]] = {}

    def register(self, prefix: str, group: StatGroup) -> None:
        """``prefix`` ends in a dot (``cluster.web.``) or is empty."""
        self._groups.setdefault(prefix, []).append(group)

    def forget(self, prefix: str, group: StatGroup) -> None:
        groups = self._groups.get(prefix, [])
        if group in groups:
            groups.remove(group)
        if not groups:
            self._groups.pop(prefix, None)

    def groups(self) -> Iterator[tuple[str, StatGroup]]:
        for prefix, groups in list(self._groups.items()):
            for group in groups:
                yield prefix, group

    def snapshot(self) -> Snapshot:
        out = Snapshot()
        counters, gauges = out.counters, out.gauges
        for prefix, group in self.groups():
            for attribute, name, kind in type(group).STATS:
                full = prefix + name
                value = getattr(group, attribute)
                if kind == COUNTER:
                    counters[full] = counters.get(full, 0) + value
                elif kind == GAUGE:
                    gauges[full] = gauges.get(full, 0) + value
                else:
                    out.texts[full] = value
            for name, count in group.more().items():
                full = prefix + name
                counters[full] = counters.get(full, 0) + count
            for attribute, name, unit in type(group).HISTOGRAMS:
                full = prefix + name
                histogram: Histogram = getattr(group, attribute)
                if full in out.histograms:
                    out.histograms[full][1].merge(histogram)
                else:
                    out.histograms[full] = (unit, histogram.copy())
        return out
