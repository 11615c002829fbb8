"""``/stats`` as text, JSON and HTML.

The formats are Envoy's to the byte: text readouts, then counters and gauges together, then
histograms, each part sorted by name; a histogram's pair is (last interval, all time).
"""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson

from weft.proxy.admin.portions import portions, size
from weft.proxy.admin.query import HTML, JSON, AdminRequest, Answer, regex
from weft.proxy.admin.used import only_used
from weft.proxy.observe.histogram import Histogram
from weft.proxy.observe.quantiles import (
    QUANTILES,
    cumulative,
    disjoint,
    json_number,
    lower_and_width,
    number,
    quantiles,
    scale_of,
)
from weft.proxy.observe.stats import Snapshot
from weft.proxy.observe.tags import StatsSettings
from weft.steps import Steps, at_once

T = TypeVar("T")

TYPES: Final = ("All", "Counters", "Histograms", "Gauges", "TextReadouts")
FORMATS: Final = ("html", "active-html", "text", "json", "prometheus")
BUCKETS: Final = ("cumulative", "disjoint", "detailed", "summary", "prometheusnative")
PERCENTS: Final = tuple(number(q * 100) for q in QUANTILES)
_NONE_YET: Final = "No recorded values"
_EMPTY: Final = Histogram()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsQuery:
    """What was asked of ``/stats`` and ``/stats/prometheus``."""

    used_only: bool = False
    filter: Any | None = None
    """Compiled RE2, searched for in the name."""
    invert: bool = False
    type: str = "All"
    format: str = "text"
    buckets: str = ""
    text_readouts: bool = False

    def select(self, snapshot: Snapshot) -> Snapshot:
        """The part of ``snapshot`` that was asked for."""
        if self.used_only:
            snapshot = only_used(snapshot)
        out = Snapshot()
        if self.type in ("All", "Counters"):
            out.counters = self._filtered(snapshot.counters)
        if self.type in ("All", "Gauges"):
            out.gauges = self._filtered(snapshot.gauges)
        if self.type in ("All", "TextReadouts"):
            out.texts = self._filtered(snapshot.texts)
        if self.type in ("All", "Histograms"):
            out.histograms = self._filtered(snapshot.histograms)
        return out

    def _filtered(self, stats: dict[str, T]) -> dict[str, T]:
        if self.filter is None:
            return stats
        search, wanted = self.filter.search, not self.invert
        return {name: value for name, value in stats.items() if (search(name) is not None) is wanted}


def stats_query(request: AdminRequest) -> StatsQuery:
    query = request.query
    buckets = request.choice(
        "histogram_buckets", BUCKETS, f"usage: /stats?histogram_buckets=({'|'.join(BUCKETS)})\n"
    )
    pattern = None
    if query.get("filter"):
        pattern = regex(query["filter"], "Invalid re2 regex: {reason}")
    which = request.choice("type", TYPES, "invalid &type= param")
    how = request.choice(
        "format", FORMATS, "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n"
    )
    return StatsQuery(
        used_only="usedonly" in query,
        filter=pattern,
        invert="invert_filter" in query,
        type=which or "All",
        format=how or "text",
        buckets=buckets,
        text_readouts="text_readouts" in query,
    )


def stats_page(
    query: StatsQuery, snapshot: Snapshot, interval: Snapshot | None, settings: StatsSettings
) -> Answer:
    """``interval`` holds the histograms of the last interval (``Intervals.latest``)."""
    return at_once(stats_steps(query, snapshot, interval, settings))


def stats_steps(
    query: StatsQuery, snapshot: Snapshot, interval: Snapshot | None, settings: StatsSettings
) -> Steps[Answer]:
    """:func:`stats_page` in steps."""
    write = _json_rows if query.format == "json" else _text_rows
    rows = _Rows()
    for portion in (yield from portions(snapshot)):
        shown = query.select(settings.admit(portion))
        write(rows, query, shown, interval, settings)
        yield size(portion)
    if query.format == "json":
        return Answer(body=_json(query, rows), content_type=JSON)
    body = [*rows.texts, *rows.numbers, *rows.histograms]
    if query.format in ("html", "active-html"):
        for number, lines in enumerate(body):
            body[number] = html.escape(lines, quote=False)
            yield len(lines) // 500
        return Answer(body="".join((_HTML_HEAD, *body, _HTML_END)), content_type=HTML)
    return Answer(body="".join(body))


class _Rows:
    """What a page is made of, part by part; never an empty string."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.numbers: list[str] = []
        """Counters and gauges; one entry may hold many lines."""
        self.histograms: list[str] = []


def recent(interval: Snapshot | None, name: str) -> Histogram:
    """The histogram ``name`` of the last interval."""
    if interval is None:
        return _EMPTY
    found = interval.histograms.get(name)
    return _EMPTY if found is None else found[1]


def _numbers(shown: Snapshot) -> list[tuple[str, int]]:
    return sorted([*shown.counters.items(), *shown.gauges.items()])


# -- text ----------------------------------------------------------------------------------------


def _text_rows(
    rows: _Rows, query: StatsQuery, shown: Snapshot, interval: Snapshot | None, settings: StatsSettings
) -> None:
    rows.texts.extend([f'{name}: "{text}"\n' for name, text in sorted(shown.texts.items())])
    numbers = "".join([f"{name}: {value}\n" for name, value in _numbers(shown)])
    if numbers:
        rows.numbers.append(numbers)
    rows.histograms.extend(_text_histograms(query, shown, interval, settings))


def _text_histograms(
    query: StatsQuery, shown: Snapshot, interval: Snapshot | None, settings: StatsSettings
) -> Iterable[str]:
    for name in sorted(shown.histograms):
        unit, histogram = shown.histograms[name]
        if not histogram.count:
            yield f"{name}: {_NONE_YET}\n"
            continue
        lately, scale = recent(interval, name), scale_of(unit)
        if query.buckets in ("cumulative", "disjoint"):
            count = cumulative if query.buckets == "cumulative" else disjoint
            bounds = settings.bounds(name)
            pairs = zip(bounds, count(lately, bounds, scale), count(histogram, bounds, scale), strict=True)
            yield f"{name}: {' '.join(f'B{bound:g}({now},{all_time})' for bound, now, all_time in pairs)}\n"
        elif query.buckets == "detailed":
            yield (
                f"{name}:\n  totals={_buckets_text(histogram, scale)}\n"
                f"  intervals={_buckets_text(lately, scale)}\n  summary={_quantile_text(lately, histogram, scale)}\n"
            )
        else:
            yield f"{name}: {_quantile_text(lately, histogram, scale)}\n"


def _quantile_text(lately: Histogram, histogram: Histogram, scale: int) -> str:
    pairs = zip(PERCENTS, quantiles(lately, scale), quantiles(histogram, scale), strict=True)
    return " ".join(f"P{percent}({number(now)},{number(all_time)})" for percent, now, all_time in pairs)


def _buckets_text(histogram: Histogram, scale: int) -> str:
    parts: list[str] = []
    for bucket, count in sorted(histogram.buckets.items()):
        lower, width = lower_and_width(bucket, scale)
        parts.append(f"{number(lower)},{number(width)}:{count}")
    return ", ".join(parts)


# -- JSON ----------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def _json(query: StatsQuery, rows: _Rows) -> str:
    parts = [*rows.texts, *rows.numbers]
    if rows.histograms:
        joined = f"[{','.join(rows.histograms)}]"
        percents = f"[{','.join(PERCENTS)}]"
        if query.buckets == "detailed":
            joined = f'{{"supported_percentiles":{percents},"details":{joined}}}'
        elif query.buckets not in ("cumulative", "disjoint"):
            joined = f'{{"supported_quantiles":{percents},"computed_quantiles":{joined}}}'
        parts.append(f'{{"histograms":{joined}}}')
    return f'{{"stats":[{",".join(parts)}]}}'


def _json_rows(
    rows: _Rows, query: StatsQuery, shown: Snapshot, interval: Snapshot | None, settings: StatsSettings
) -> None:
    rows.texts.extend(
        [f'{{"name":{_quoted(name)},"value":{_quoted(text)}}}' for name, text in sorted(shown.texts.items())]
    )
    numbers = ",".join([f'{{"name":{_quoted(name)},"value":{value}}}' for name, value in _numbers(shown)])
    if numbers:
        rows.numbers.append(numbers)
    rows.histograms.extend(_json_histograms(query, shown, interval, settings))


def _json_histograms(
    query: StatsQuery, shown: Snapshot, interval: Snapshot | None, settings: StatsSettings
) -> list[str]:
    parts: list[str] = []
    for name in sorted(shown.histograms):
        unit, histogram = shown.histograms[name]
        lately, scale = recent(interval, name), scale_of(unit)
        if query.buckets in ("cumulative", "disjoint"):
            count = cumulative if query.buckets == "cumulative" else disjoint
            bounds = settings.bounds(name)
            triples = zip(bounds, count(lately, bounds, scale), count(histogram, bounds, scale), strict=True)
            rows = ",".join(
                f'{{"upper_bound":{json_number(bound)},"interval":{now},"cumulative":{all_time}}}'
                for bound, now, all_time in triples
            )
            parts.append(f'{{"name":{_quoted(name)},"buckets":[{rows}]}}')
            continue
        pairs = zip(quantiles(lately, scale), quantiles(histogram, scale), strict=True)
        values = ",".join(
            f'{{"cumulative":{json_number(all_time)},"interval":{json_number(now)}}}'
            for now, all_time in pairs
        )
        if query.buckets == "detailed":
            parts.append(
                f'{{"name":{_quoted(name)},"totals":{_json_buckets(histogram, scale)},'
                f'"intervals":{_json_buckets(lately, scale)},"percentiles":[{values}]}}'
            )
        else:
            parts.append(f'{{"name":{_quoted(name)},"values":[{values}]}}')
    return parts


def _json_buckets(histogram: Histogram, scale: int) -> str:
    rows: list[str] = []
    for bucket, count in sorted(histogram.buckets.items()):
        lower, width = lower_and_width(bucket, scale)
        rows.append(f'{{"lower_bound":{json_number(lower)},"width":{json_number(width)},"count":{count}}}')
    return f"[{','.join(rows)}]"


# -- HTML ----------------------------------------------------------------------------------------

_HTML_HEAD: Final = (
    "<!DOCTYPE html>\n<html lang='en'>\n<head><title>Weft stats</title></head>\n<body>\n"
    "<form method='get' action='stats'>"
    "<label>filter <input type='text' name='filter'></label> "
    "<label><input type='checkbox' name='usedonly' value=''>used only</label> "
    "<input type='hidden' name='format' value='html'><button>stats</button></form>\n"
    "<pre>\n"
)
_HTML_END: Final = "</pre>\n</body>\n</html>\n"
