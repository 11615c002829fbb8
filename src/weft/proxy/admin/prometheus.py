"""``/stats/prometheus``: the text exposition format, names and labels as Envoy gives them."""

import asyncio
import functools
import re
from collections.abc import Iterator
from typing import Final, TypeVar

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
    """A histogram is of all time, a summary of the last interval (as Envoy has it).

    A thousand clusters make a hundred thousand lines: the loop gets its turn in between.
    """
    if query.buckets in ("disjoint", "detailed"):
        raise Refused("unsupported prometheus histogram bucket mode")
    if query.buckets == "prometheusnative":
        raise Refused("unsupported prometheusnative histogram type when not using protobuf exposition format")
    shown = query.select(snapshot)
    out: list[str] = []
    for stats, kind in ((shown.counters, "counter"), (shown.gauges, "gauge")):
        for metric, rows in await _grouped(stats, extractor):
            rows.sort(key=_row_parts)
            out.append(f"# TYPE {metric} {kind}\n")
            out.extend([f"{metric}{{{_labels(tags)}}} {value}\n" for _, tags, value in rows])
            await _breathe(len(rows))
    if query.text_readouts:
        for metric, texts in await _grouped(shown.texts, extractor):
            texts.sort(key=_row_parts)
            out.append(f"# TYPE {metric} gauge\n")
            out.extend(
                [f"{metric}{{{_labels((*tags, ('text_value', text)))}}} 0\n" for _, tags, text in texts]
            )
    summary = query.buckets == "summary"
    for metric, histograms in await _grouped(shown.histograms, extractor):
        histograms.sort(key=_row_parts)
        out.append(f"# TYPE {metric} {'summary' if summary else 'histogram'}\n")
        for name, tags, (unit, histogram) in histograms:
            scale = scale_of(unit)
            labels = _labels(tags)
            if summary:
                histogram = recent(interval, name)
                out.extend(_summary(metric, labels, histogram, scale))
            else:
                out.extend(_histogram(metric, labels, histogram, scale, settings.bounds(name)))
            out.append(f"{metric}_sum{{{labels}}} {approximate_sum(histogram, scale):.32g}\n")
            out.append(f"{metric}_count{{{labels}}} {histogram.count}\n")
        await _breathe(len(histograms) * len(BOUNDS))
    return Answer(body="".join(out))


_BREATH: Final = 500
"""Lines, about 3 ms, after which others are let in."""


async def _breathe(lines: int) -> None:
    if lines >= _BREATH:
        await asyncio.sleep(0)


async def _grouped(stats: dict[str, T], extractor: TagExtractor) -> list[tuple[str, _Rows[T]]]:
    """(metric name, its rows), in Envoy's order: part by part of the dotted bare names."""
    groups: dict[str, _Rows[T]] = {}
    for number, (name, value) in enumerate(stats.items()):
        bare, tags = extractor.extract(name)
        groups.setdefault(bare, []).append((name, tags, value))
        if number % _BREATH == 0:
            await asyncio.sleep(0)
    return [("envoy_" + _ODD.sub("_", bare), groups[bare]) for bare in sorted(groups, key=_parts)]


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
