"""Numbers that Envoy 1.40 printed for the same samples, and properties that hold for all."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.proxy.observe.histogram import Histogram, bucket_of
from weft.proxy.observe.quantiles import (
    BOUNDS,
    QUANTILES,
    approximate_sum,
    cumulative,
    disjoint,
    json_number,
    lower_and_width,
    number,
    quantiles,
)

SAMPLES = st.lists(st.integers(0, 10**12), min_size=1, max_size=60)


def histogram(samples):
    out = Histogram()
    for sample in samples:
        out.record(sample)
    return out


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        pytest.param([21], [21.5] * 10, id="one-sample-is-the-middle-of-its-bucket"),
        pytest.param([0] * 3, [0.0] * 10, id="zeros"),
        pytest.param(
            [1] * 6,
            [1.0142857142857142, 1.0285714285714285, 1.042857142857143, 1.0714285714285714]
            + [1.0857142857142856] * 6,
            id="spread-over-a-bucket",
        ),
        pytest.param(
            [0] * 4 + [1] * 2, [0, 0, 0, 1.0333333333333334] + [1.0666666666666667] * 6, id="two-buckets"
        ),
        pytest.param(
            [0] * 3 + [1] + [2] * 2, [0, 0, 0, 2.033333333333333] + [2.066666666666667] * 6, id="three"
        ),
        pytest.param(
            [1] * 39,
            [1.0025, 1.025, 1.05, 1.075, 1.09, 1.095, 1.0975, 1.0975, 1.0975, 1.0975],
            id="thirty-nine",
        ),
    ],
)
def test_quantiles_are_envoys(samples, expected):
    assert quantiles(histogram(samples)) == expected


def test_quantiles_of_nothing_are_nan():
    assert all(math.isnan(value) for value in quantiles(Histogram()))


def test_the_sum_is_envoys():
    assert f"{approximate_sum(histogram([21])):.32g}" == "21.488372093023254905119756585918"
    assert f"{approximate_sum(histogram([1] * 6)):.32g}" == "6.2857142857142864755815026001073"
    assert approximate_sum(histogram([0, 0])) == 0


@given(SAMPLES)
def test_quantiles_ascend_between_the_least_and_the_greatest(samples):
    values = quantiles(histogram(samples))

    assert values == sorted(values)
    assert values[0] >= min(samples) * 0.9
    assert values[-1] <= max(samples) * 1.1


@given(SAMPLES)
def test_every_sample_is_in_its_bucket(samples):
    for sample in samples:
        lower, width = lower_and_width(bucket_of(sample))
        assert lower * (1 - 1e-12) <= sample <= (lower + width) * (1 + 1e-12)


@given(SAMPLES, SAMPLES)
def test_workers_add_up(first, second):
    both = histogram(first)
    both.merge(histogram(second))

    assert both.buckets == histogram(first + second).buckets
    assert quantiles(both) == quantiles(histogram(first + second))
    assert (both.count, both.total) == (len(first + second), sum(first + second))


@given(SAMPLES)
def test_counts_below_bounds_are_exact_for_whole_numbers(samples):
    below = cumulative(histogram(samples), BOUNDS)

    # A sample in the bucket of a bound counts as below it.
    assert below == [sum(1 for s in samples if lower_and_width(bucket_of(s))[0] <= bound) for bound in BOUNDS]
    assert [sum(disjoint(histogram(samples), BOUNDS)[: i + 1]) for i in range(len(BOUNDS))] == below


@given(SAMPLES, SAMPLES)
def test_since_is_what_came_after(first, second):
    before = histogram(first)
    after = before.copy()
    for sample in second:
        after.record(sample)

    recent = after.since(before)
    assert recent.buckets == histogram(second).buckets
    assert (recent.count, recent.total) == (len(second), sum(second))


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(-1, 0), (0, 0), (1, 10), (9, 90), (10, 110), (99, 199), (100, 210), (1299, 312), (10**18, 1810)],
)
def test_buckets(value, bucket):
    assert bucket_of(value) == bucket
    assert histogram([value]).buckets == {bucket: 1}


@pytest.mark.parametrize(
    ("value", "text", "json"),
    [
        (0.0, "0", "0"),
        (99.5, "99.5", "99.5"),
        (1.0142857142857142, "1.0142857142857142", "1.0142857142857142"),
        (60000.0, "60000", "60000"),
        (300000.0, "300000", "3e+05"),
        (1800000.0, "1800000", "1800000"),
        (math.nan, "nan", "null"),
        (1e20, "1e+20", "1e+20"),
    ],
)
def test_numbers_are_written_as_envoy_writes_them(value, text, json):
    assert (number(value), json_number(value)) == (text, json)


def test_there_are_ten_quantiles():
    assert [number(q * 100) for q in QUANTILES] == [
        "0",
        "25",
        "50",
        "75",
        "90",
        "95",
        "99",
        "99.5",
        "99.9",
        "100",
    ]


@given(st.integers(-5, 20_000))
def test_recording_is_bucket_of(value):
    assert histogram([value]).buckets == {bucket_of(value): 1}
