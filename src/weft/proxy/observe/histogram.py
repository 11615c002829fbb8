"""Log-linear histograms (the circllhist rule): two significant decimal digits per bucket.

Envoy's histograms are made so; equal buckets mean equal quantiles, and buckets of many workers
add up without loss.  Samples are whole numbers; how a histogram's unit scales them, and what a
bucket's bounds are, is :mod:`weft.proxy.observe.quantiles`' business.
"""


class Histogram:
    """Counts by bucket.  A bucket is ``exponent * 100 + mantissa`` with mantissa 10..99; 0 is zero."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count: int = 0
        self.total: float = 0.0
        """Exact sum of the samples; Envoy prints the approximate one, ``quantiles.approximate_sum``."""

    def record(self, value: int) -> None:
        """Count one non-negative whole value (milliseconds, bytes, ...)."""
        self.count += 1
        self.total += value
        # The ladder of bucket_of, unrolled for what a proxy mostly sees: this is on the path of requests.
        if value < 10:
            bucket = value * 10 if value > 0 else 0
        elif value < 100:
            bucket = 100 + value
        elif value < 1000:
            bucket = 200 + value // 10
        elif value < 10000:
            bucket = 300 + value // 100
        else:
            bucket = bucket_of(value)
        buckets = self.buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1

    def copy(self) -> "Histogram":
        out = Histogram()
        out.buckets = dict(self.buckets)
        out.count = self.count
        out.total = self.total
        return out

    def merge(self, other: "Histogram") -> None:
        self.count += other.count
        self.total += other.total
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def since(self, earlier: "Histogram") -> "Histogram":
        """What was recorded after ``earlier``, an older copy of this histogram."""
        out = Histogram()
        for bucket, count in self.buckets.items():
            more = count - earlier.buckets.get(bucket, 0)
            if more > 0:
                out.buckets[bucket] = more
                out.count += more
        out.total = self.total - earlier.total
        return out


def bucket_of(value: int) -> int:
    """The bucket of a whole value: 0 for 0, else exponent * 100 + two leading digits."""
    if value <= 0:
        return 0
    if value < 10:
        return value * 10
    exponent = 1
    while value >= 100:
        value //= 10
        exponent += 1
    return exponent * 100 + value
