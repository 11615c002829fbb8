"""What a histogram says: quantiles, sums and counts below a bound, as Envoy prints them.

A bucket ``exponent, mantissa`` covers ``[m/10, (m+1)/10) * 10^exponent``.  The k-th of the n samples
in a bucket is taken to lie at ``lower + width * k/(n+1)``, so a lone sample is in the middle.  The
quantile q of N samples is the sample number ``ceil(q*N)``, at least the first.

Samples are whole numbers, except that a histogram of unit ``percent`` holds millionths.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from weft.proxy.observe.histogram import Histogram

QUANTILES: Final = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)

BOUNDS: Final = (
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0,
    60000.0, 300000.0, 600000.0, 1800000.0, 3600000.0,
)  # fmt: skip
"""Upper bounds of the printed buckets unless the configuration sets others (Envoy's)."""


def scale_of(unit: str) -> int:
    """The power of ten that the samples of a unit are recorded in."""
    return -6 if unit == "percent" else 0


def lower_and_width(bucket: int, scale: int = 0) -> tuple[float, float]:
    """The lower bound of a bucket and its width; both 0 for the bucket of zero."""
    if bucket == 0:
        return 0.0, 0.0
    exponent, mantissa = divmod(bucket, 100)
    exponent += scale
    power = 10.0**exponent
    return mantissa / 10.0 * power, power / 10.0


def quantiles(histogram: Histogram, scale: int = 0, which: Sequence[float] = QUANTILES) -> list[float]:
    """One value for each of ``which`` (ascending); nan for all when nothing was recorded."""
    total = histogram.count
    if total == 0:
        return [math.nan] * len(which)
    ordered = sorted(histogram.buckets.items())
    out: list[float] = []
    position = 0
    before = 0
    bucket, count = ordered[0]
    for q in which:
        wanted = max(1, math.ceil(q * total))
        while before + count < wanted and position + 1 < len(ordered):
            before += count
            position += 1
            bucket, count = ordered[position]
        lower, width = lower_and_width(bucket, scale)
        out.append(lower + width * (min(wanted - before, count) / (count + 1)))
    return out


def approximate_sum(histogram: Histogram, scale: int = 0) -> float:
    """The sum as Envoy computes it, from the middles of the buckets."""
    out = 0.0
    for bucket, count in sorted(histogram.buckets.items()):
        lower, width = lower_and_width(bucket, scale)
        if lower:
            # The harmonic middle: it keeps the relative error of a log-linear bucket least.
            out += (lower + width * (lower / (lower + (lower + width)))) * count
    return out


def cumulative(histogram: Histogram, bounds: Sequence[float], scale: int = 0) -> list[int]:
    """Samples at or below each bound; a bucket that straddles a bound counts as below it."""
    out = [0] * len(bounds)
    for bucket, count in histogram.buckets.items():
        lower, _ = lower_and_width(bucket, scale)
        at = bisect_left(bounds, lower)
        if at < len(out):
            out[at] += count
    for i in range(1, len(out)):
        out[i] += out[i - 1]
    return out


def disjoint(histogram: Histogram, bounds: Sequence[float], scale: int = 0) -> list[int]:
    """Samples above the bound before and at or below each bound."""
    below = cumulative(histogram, bounds, scale)
    return [count - (below[i - 1] if i else 0) for i, count in enumerate(below)]


def number(value: float) -> str:
    """A float as Envoy prints it in text: the shortest that reads back the same, ``nan`` for none."""
    text = repr(value)
    return text[:-2] if text.endswith(".0") else text


def json_number(value: float) -> str:
    """A float as Envoy prints it in JSON: plain or scientific, whichever is shorter; null for nan."""
    if math.isnan(value):
        return "null"
    plain = number(value)
    if "e" in plain or "inf" in plain:
        return plain
    digits, _, exponent = f"{value:e}".partition("e")
    mantissa = number(float(repr(value / 10.0 ** int(exponent)))) if value else digits
    scientific = f"{mantissa}e{exponent}"
    return scientific if len(scientific) < len(plain) else plain
