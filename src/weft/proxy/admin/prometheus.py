"""``/stats/prometheus``: the text exposition format, names and labels as Envoy gives them."""

import functools
import re
from collections.abc import Iterator
from typing import Final, TypeVar

from weft.proxy.admin.portions import portions, size
from weft.proxy.admin.query import Answer, Refused
from weft.proxy.admin.stats_page import StatsQuery, recent
from weft.proxy.observe.histogram import Histogram
from weft.proxy.observe.quantiles import (
    BOUNDS,
    QUANTILES,
    approximate_sum,
    cumulative,
    quantiles,
    scale_of,
)
from weft.proxy.observe.stats import Snapshot
from weft.proxy.observe.tags import StatsSettings, TagExtractor, Tags
from weft.steps import Steps, patiently

T = TypeVar("T")
_ODD: Final = re.compile(r"[^a-zA-Z0-9_]")
_Rows = list[tuple[str, Tags, T]]


async def prometheus_page(
    query: StatsQuery,
    snapshot: Snapshot,
    interval: Snapshot | None,
    settings: StatsSettings,
    extractor: TagExtractor,
) -> Answer:
    """A histogram is of all time, a summary of the last interval (as Envoy has it)."""
    return await patiently(_page(query, snapshot, interval, settings, extractor))


def _page(
    query: StatsQuery,
    snapshot: Snapshot,
    interval: Snapshot | None,
    settings: StatsSettings,
    extractor: TagExtractor,
) -> Steps[Answer]:
    """A thousand clusters make a hundred thousand lines."""
    if query.buckets in ("disjoint", "detailed"):
        raise Refused("unsupported prometheus histogram bucket mode")
    if query.buckets == "prometheusnative":
        raise Refused("unsupported prometheusnative histogram type when not using protobuf exposition format")
    counters: _Groups[int] = {}
    gauges: _Groups[int] = {}
    texts: _Groups[str] = {}
    histograms: _Groups[tuple[str, Histogram]] = {}
    for portion in (yield from portions(snapshot)):
        shown = query.select(settings.admit(portion))
        _group(counters, shown.counters, extractor)
        _group(gauges, shown.gauges, extractor)
        _group(histograms, shown.histograms, extractor)
        if query.text_readouts:
            _group(texts, shown.texts, extractor)
        yield 2 * size(portion)
    out: list[str] = []
    for groups, kind in ((counters, "counter"), (gauges, "gauge")):
        for metric, rows in _in_order(groups):
            out.append(f"# TYPE {metric} {kind}\n")
            for some in _slices(rows):
                out.append("".join([f"{metric}{{{_labels(tags)}}} {value}\n" for _, tags, value in some]))
                yield 2 * len(some)
    for metric, words in _in_order(texts):
        out.append(f"# TYPE {metric} gauge\n")
        out.extend([f"{metric}{{{_labels((*tags, ('text_value', text)))}}} 0\n" for _, tags, text in words])
        yield 2 * len(words)
    summary = query.buckets == "summary"
    for metric, found in _in_order(histograms):
        out.append(f"# TYPE {metric} {'summary' if summary else 'histogram'}\n")
        for name, tags, (unit, histogram) in found:
            scale = scale_of(unit)
            labels = _labels(tags)
            if summary:
                histogram = recent(interval, name)
                out.append("".join(_summary(metric, labels, histogram, scale)))
            else:
                out.append("".join(_histogram(metric, labels, histogram, scale, settings.bounds(name))))
            out.append(f"{metric}_sum{{{labels}}} {approximate_sum(histogram, scale):.32g}\n")
            out.append(f"{metric}_count{{{labels}}} {histogram.count}\n")
            yield len(BOUNDS)
    body: list[str] = []
    out.reverse()
    while out:
        body.append("".join(reversed(out[-_SLICE:])))
        del out[-_SLICE:]
        yield _SLICE
    return Answer(body="".join(body))


_SLICE: Final = 500
_Groups = dict[str, _Rows[T]]


def _slices(rows: _Rows[T]) -> Iterator[_Rows[T]]:
    for start in range(0, len(rows), _SLICE):
        yield rows[start : start + _SLICE]


def _group(groups: _Groups[T], stats: dict[str, T], extractor: TagExtractor) -> None:
    """By bare name."""
    for name, value in stats.items():
        bare, tags = extractor.extract(name)
        groups.setdefault(bare, []).append((name, tags, value))


def _in_order(groups: _Groups[T]) -> Iterator[tuple[str, _Rows[T]]]:
    """(metric name, its rows), in Envoy's order: part by part of the dotted names."""
    for bare in sorted(groups, key=_parts):
        rows = groups.pop(bare)  # and so freed, metric by metric
        rows.sort(key=_row_parts)
        yield "envoy_" + _ODD.sub("_", bare), rows


def _parts(name: str) -> list[str]:
    return name.split(".")


def _row_parts(row: tuple[str, Tags, object]) -> list[str]:
    return row[0].split(".")


@functools.cache
def _label(tag: str) -> str:
    """Tags come from the configuration and are few."""
    return _ODD.sub("_", tag)


def _labels(tags: Tags) -> str:
    return ",".join([f'{_label(tag)}="{_escaped(value)}"' for tag, value in tags])


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value


def _histogram(
    metric: str, labels: str, histogram: Histogram, scale: int, bounds: tuple[float, ...]
) -> Iterator[str]:
    before = labels + "," if labels else ""
    for bound, count in zip(bounds, cumulative(histogram, bounds, scale), strict=True):
        yield f'{metric}_bucket{{{before}le="{bound:.32g}"}} {count}\n'
    yield f'{metric}_bucket{{{before}le="+Inf"}} {histogram.count}\n'


def _summary(metric: str, labels: str, histogram: Histogram, scale: int) -> Iterator[str]:
    before = labels + "," if labels else ""
    for q, value in zip(QUANTILES, quantiles(histogram, scale), strict=True):
        yield f'{metric}{{{before}quantile="{q:g}"}} {value:.32g}\n'
