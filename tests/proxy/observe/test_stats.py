"""Groups, snapshots, and their way from a worker to main."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.proxy.observe.histogram import Histogram
from weft.proxy.observe.intervals import Intervals
from weft.proxy.observe.stats import TEXT, Codes, Snapshot, StatGroup, Store, decode, encode, rows


class Listener(StatGroup):
    STATS = (
        *rows("downstream_cx_total", "ssl.handshake", gauges=("downstream_cx_active",)),
        ("state", "state", TEXT),
    )
    HISTOGRAMS = (("length", "downstream_cx_length_ms", "ms"), ("never", "never", "bytes"))

    def __init__(self):
        self.downstream_cx_total = 0
        self.ssl__handshake = 0
        self.downstream_cx_active = 0
        self.state = "warm"
        self.length = Histogram()
        self.never = Histogram()
        self.codes = Codes()
        self.late = None

    def more(self):
        return self.codes.named("downstream_rq", each=False)

    def more_histograms(self):
        return {} if self.late is None else {"late": ("us", self.late)}

    def reset_counters(self):
        super().reset_counters()
        self.codes.reset()


class One(StatGroup):
    STATS = rows("only")

    def __init__(self):
        self.only = 0


def plain(snapshot):
    return (
        snapshot.counters,
        snapshot.gauges,
        snapshot.texts,
        {name: (unit, h.count, h.total, h.buckets) for name, (unit, h) in snapshot.histograms.items()},
    )


@pytest.fixture
def store():
    out = Store()
    first, second, empty, one = Listener(), Listener(), Listener(), One()
    first.downstream_cx_total, first.ssl__handshake, first.downstream_cx_active = 3, 1, 2
    first.length.record(12)
    first.codes.count(200)
    first.codes.count(204)
    first.late = Histogram()
    first.late.record(7)
    second.downstream_cx_total = 4
    second.state = "live"
    second.length.record(1200)
    out.register("listener.a.", first)
    out.register("listener.a.", second)
    out.register("listener.b.", empty)
    out.register("", one)
    return out


def test_groups_of_one_prefix_add_up(store):
    counters, gauges, texts, histograms = plain(store.snapshot())

    assert counters == {
        "listener.a.downstream_cx_total": 7,
        "listener.a.ssl.handshake": 1,
        "listener.a.downstream_rq_2xx": 2,
        "listener.b.downstream_cx_total": 0,
        "listener.b.ssl.handshake": 0,
        "only": 0,
    }
    assert gauges == {"listener.a.downstream_cx_active": 2, "listener.b.downstream_cx_active": 0}
    assert texts == {"listener.a.state": "live", "listener.b.state": "warm"}
    assert histograms == {
        "listener.a.downstream_cx_length_ms": ("ms", 2, 1212.0, {112: 1, 312: 1}),
        "listener.a.never": ("bytes", 0, 0.0, {}),
        "listener.a.late": ("us", 1, 7.0, {70: 1}),
        "listener.b.downstream_cx_length_ms": ("ms", 0, 0.0, {}),
        "listener.b.never": ("bytes", 0, 0.0, {}),
    }


def test_what_main_decodes_is_the_workers_snapshot(store):
    assert plain(decode(store.pack())) == plain(store.snapshot())
    assert plain(decode(encode(store.snapshot()))) == plain(store.snapshot())
    assert plain(decode(Store().pack())) == plain(Snapshot())


def test_snapshots_of_workers_add_up_and_stay_their_own(store):
    total = Snapshot()
    parts = [decode(store.pack()), decode(store.pack())]
    for part in parts:
        total.add(part)

    assert total.counters["listener.a.downstream_cx_total"] == 14
    assert total.gauges["listener.a.downstream_cx_active"] == 4
    assert total.histograms["listener.a.downstream_cx_length_ms"][1].count == 4
    assert plain(parts[0]) == plain(store.snapshot())


def test_counters_go_to_zero_and_the_rest_stays(store):
    store.reset_counters()

    counters, gauges, _, histograms = plain(store.snapshot())
    assert not any(counters.values())
    assert "listener.a.downstream_rq_2xx" in counters
    assert gauges["listener.a.downstream_cx_active"] == 2
    assert histograms["listener.a.downstream_cx_length_ms"][1] == 2


def test_a_group_that_left_is_not_counted(store):
    for prefix, group in list(store.groups()):
        if prefix == "listener.a.":
            store.forget(prefix, group)

    assert not any(name.startswith("listener.a.") for name in store.snapshot().counters)


@given(
    st.dictionaries(st.text(max_size=8), st.integers(-(2**62), 2**62)),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8)),
    st.dictionaries(st.text(max_size=8), st.lists(st.integers(0, 10**9))),
)
def test_encoding_loses_nothing(numbers, texts, samples):
    snapshot = Snapshot()
    snapshot.counters = {name: abs(value) for name, value in numbers.items()}
    snapshot.gauges = numbers
    snapshot.texts = texts
    for name, values in samples.items():
        histogram = Histogram()
        for value in values:
            histogram.record(value)
        snapshot.histograms[name] = ("ms", histogram)

    assert plain(decode(encode(snapshot))) == plain(snapshot)


def snapshot_of(*samples):
    out = Snapshot()
    histogram = Histogram()
    for sample in samples:
        histogram.record(sample)
    out.histograms = {"h": ("ms", histogram)}
    return out


def test_an_interval_is_what_came_between_two_flushes():
    intervals = Intervals()
    assert intervals.latest is None

    intervals.flush(snapshot_of(1, 1))
    first = intervals.latest
    intervals.flush(snapshot_of(1, 1, 1, 5))
    second = intervals.latest
    intervals.flush(snapshot_of(1, 1, 1, 5))

    assert plain(first)[3] == {"h": ("ms", 2, 2.0, {10: 2})}
    assert plain(second)[3] == {"h": ("ms", 2, 6.0, {10: 1, 50: 1})}
    assert plain(intervals.latest)[3] == {}
