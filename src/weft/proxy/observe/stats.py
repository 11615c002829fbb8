"""Stats of a worker: plain integer attributes, named only when somebody looks.

A component owns a :class:`StatGroup` (the stats of one listener, one cluster, ...) and writes
``group.upstream_rq_total += 1``; that is an attribute add on a native class.  Names exist once per
class, in the ``STATS`` table, and the full name ``prefix + name`` is put together by whoever prints.
A thousand clusters therefore cost a thousand small objects and no strings.

A worker answers main's question with :meth:`Store.pack`, which sends values without names; main
makes a :class:`Snapshot` of each with :func:`decode` and adds them up.  ``proxy/admin/stats_page.py``
and ``proxy/admin/prometheus.py`` render the sum.
"""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, ClassVar, Final

import orjson
from mypy_extensions import mypyc_attr

from weft.proxy.observe.histogram import Histogram

COUNTER: Final = 0
GAUGE: Final = 1
TEXT: Final = 2

AT_ONCE: Final = 20
"""Groups read between two turns of a worker's loop: a millisecond at most."""


@mypyc_attr(allow_interpreted_subclasses=True)
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

    def more_histograms(self) -> dict[str, tuple[str, Histogram]]:
        """Histograms that exist only once they are used: name below the prefix -> (unit, histogram)."""
        return {}

    def reset_counters(self) -> None:
        """``POST /reset_counters``.  A class with :class:`Codes` resets those too."""
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
            if not 100 <= status < 600:
                if each:
                    out[f"{stem}_unknown"] = out.get(f"{stem}_unknown", 0) + count
                continue
            name = f"{stem}_{status // 100}xx"
            out[name] = out.get(name, 0) + count
            if each:
                out[f"{stem}_{status}"] = count
        return out

    def reset(self) -> None:
        """Back to zero; the names seen stay, as Envoy's do."""
        for status in self.by_code:
            self.by_code[status] = 0


class Snapshot:
    """Stats by full name at one moment; snapshots of several workers add up."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self.gauges: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        self.histograms: dict[str, tuple[str, Histogram]] = {}
        """Full name -> (unit, histogram)."""

    def add(self, other: "Snapshot") -> None:
        """Sum ``other`` in.  Its histograms may become this snapshot's own: copy it first to keep it."""
        _add_counts(self.counters, other.counters)
        _add_counts(self.gauges, other.gauges)
        self.texts.update(other.texts)
        for name, (unit, histogram) in other.histograms.items():
            mine = self.histograms.get(name)
            if mine is None:
                self.histograms[name] = (unit, histogram.copy())
            else:
                mine[1].merge(histogram)


def _add_counts(into: dict[str, int], more: dict[str, int]) -> None:
    if not into:
        into.update(more)
        return
    for name, value in more.items():
        into[name] = into.get(name, 0) + value


class Store:
    """The groups of one process, by prefix."""

    def __init__(self) -> None:
        self._groups: dict[str, list[StatGroup]] = {}
        self._sources: list[Callable[[], Iterator[tuple[str, StatGroup]]]] = []

    def add_source(self, source: "Callable[[], Iterator[tuple[str, StatGroup]]]") -> None:
        """Groups that are told only when somebody looks (clusters that nobody has used yet).

        A group from a source may be borrowed: it is to be read before the next one is asked for.
        """
        self._sources.append(source)

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
        for source in self._sources:
            yield from source()

    def prefixes(self) -> list[str]:
        return list(self._groups)

    def groups_of(self, prefix: str) -> list[StatGroup]:
        return list(self._groups.get(prefix, ()))

    def reset_counters(self) -> None:
        for _, group in self.groups():
            group.reset_counters()

    def snapshot(self) -> Snapshot:
        return list(self.snapshots(1 << 30))[-1]

    def snapshots(self, groups: int = AT_ONCE) -> Iterator[Snapshot]:
        """:meth:`snapshot`, handed out unfinished after every so many groups and at last whole: for
        whoever has other things to do in between.  Raises RuntimeError when groups came or went."""
        out = Snapshot()
        for number, (prefix, group) in enumerate(self.groups(), 1):
            kind = type(group)
            _add_group(out, prefix, kind.STATS, kind.HISTOGRAMS, read_group(group))
            if number % groups == 0:
                yield out
        yield out

    def pack(self) -> bytes:
        """What :func:`decode` makes :meth:`snapshot` of, for main: values without names.

        A thousand clusters that nobody has used take a worker a few milliseconds and main the rest.
        """
        return list(self.packs(1 << 30))[-1]

    def packs(self, groups: int = AT_ONCE) -> Iterator[bytes]:
        """:meth:`pack` with pauses, as :meth:`snapshots`: nothing until it is whole."""
        tables: dict[type[StatGroup], int] = {}
        packed: list[tuple[Any, ...]] = []
        for number, (prefix, group) in enumerate(self.groups(), 1):
            packed.append((tables.setdefault(type(group), len(tables)), prefix, *read_group(group)))
            if number % groups == 0:
                yield b""
        rows_of = [([row[1:] for row in kind.STATS], [row[1:] for row in kind.HISTOGRAMS]) for kind in tables]
        yield orjson.dumps({"tables": rows_of, "groups": packed}, option=orjson.OPT_NON_STR_KEYS)


_Histograms = dict[int, tuple[int, float, dict[int, int]]]
"""By row of HISTOGRAMS: (count, total, buckets); an empty one is left out."""
_More = dict[str, tuple[str, int, float, dict[int, int]]]
"""By name: (unit, count, total, buckets)."""
_Read = tuple[list[int], list[str], dict[str, int], _Histograms, _More]
"""Numbers in the order of STATS (none when all are 0), texts likewise, ``more``, histograms, more of these."""

_READERS: Final[dict[type[StatGroup], tuple[list[str], Any, list[str]]]] = {}


def read_group(group: StatGroup) -> _Read:
    """The values of a group without their names; equal when nothing has happened between."""
    kind = type(group)
    reader = _READERS.get(kind)
    if reader is None:
        numbers = [attribute for attribute, _, what in kind.STATS if what != TEXT]
        texts = [attribute for attribute, _, what in kind.STATS if what == TEXT]
        reader = _READERS[kind] = (numbers, attrgetter(*numbers) if numbers else None, texts)
    numbers, getter, text_attributes = reader
    values: list[int] = []
    if getter is not None:
        read: Any = getter(group)
        values = [read] if len(numbers) == 1 else list(read)
        if not any(values):
            values = []
    texts = [getattr(group, attribute) for attribute in text_attributes]
    histograms: _Histograms = {}
    for row, (attribute, _, _) in enumerate(kind.HISTOGRAMS):
        histogram: Histogram = getattr(group, attribute)
        if histogram.count:
            histograms[row] = (histogram.count, histogram.total, dict(histogram.buckets))
    late: _More = {
        name: (unit, histogram.count, histogram.total, dict(histogram.buckets))
        for name, (unit, histogram) in group.more_histograms().items()
    }
    return values, texts, group.more(), histograms, late


def _add_group(
    out: Snapshot,
    prefix: str,
    stats: Sequence[Sequence[Any]],
    histogram_rows: Sequence[Sequence[Any]],
    read: _Read,
) -> None:
    """``stats`` and ``histogram_rows`` end in (name, kind) and (name, unit)."""
    values, texts, more, histograms, late = read
    counters, gauges = out.counters, out.gauges
    numbers = iter(values)
    text_values = iter(texts)
    for row in stats:
        full = prefix + row[-2]
        what = row[-1]
        if what == COUNTER:
            counters[full] = counters.get(full, 0) + next(numbers, 0)
        elif what == GAUGE:
            gauges[full] = gauges.get(full, 0) + next(numbers, 0)
        else:
            out.texts[full] = next(text_values, "")
    for name, count in more.items():
        full = prefix + name
        counters[full] = counters.get(full, 0) + count
    for number, row in enumerate(histogram_rows):
        known = _named_histogram(out, prefix + row[-2], row[-1])
        parts = histograms.get(number)
        if parts is not None:
            known.merge(_histogram(*parts))
    for name, (unit, count, total, buckets) in late.items():
        _named_histogram(out, prefix + name, unit).merge(_histogram(count, total, buckets))


def _named_histogram(out: Snapshot, full: str, unit: str) -> Histogram:
    known = out.histograms.get(full)
    if known is None:
        known = out.histograms[full] = (unit, Histogram())
    return known[1]


def _histogram(count: int, total: float, buckets: dict[int, int]) -> Histogram:
    histogram = Histogram()
    histogram.count = count
    histogram.total = total
    histogram.buckets = buckets
    return histogram


# -- between processes ---------------------------------------------------------------------------


def encode(snapshot: Snapshot) -> bytes:
    """A snapshot by name.  A worker that answers main uses :meth:`Store.pack`, which is cheaper."""
    histograms = {
        name: (unit, histogram.count, histogram.total, histogram.buckets)
        for name, (unit, histogram) in snapshot.histograms.items()
    }
    parts = {
        "counters": snapshot.counters,
        "gauges": snapshot.gauges,
        "texts": snapshot.texts,
        "histograms": histograms,
    }
    return orjson.dumps(parts, option=orjson.OPT_NON_STR_KEYS)


def decode(data: bytes) -> Snapshot:
    """From :func:`encode` or :meth:`Store.pack`."""
    out = Snapshot()
    parts = orjson.loads(data)
    if "groups" in parts:
        tables = parts["tables"]
        for table, prefix, values, texts, more, packed, packed_late in parts["groups"]:
            stats, histogram_rows = tables[table]
            histograms = {
                int(row): (count, total, _buckets(buckets)) for row, (count, total, buckets) in packed.items()
            }
            late = {
                name: (unit, count, total, _buckets(buckets))
                for name, (unit, count, total, buckets) in packed_late.items()
            }
            _add_group(out, prefix, stats, histogram_rows, (values, texts, more, histograms, late))
        return out
    out.counters, out.gauges, out.texts = parts["counters"], parts["gauges"], parts["texts"]
    for name, (unit, count, total, buckets) in parts["histograms"].items():
        out.histograms[name] = (unit, _histogram(count, total, _buckets(buckets)))
    return out


def _buckets(named: dict[str, int]) -> dict[int, int]:
    """JSON has no whole numbers as keys."""
    return {int(bucket): count for bucket, count in named.items()}
