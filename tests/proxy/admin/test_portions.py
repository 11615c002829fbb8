"""A snapshot in portions: nothing is lost, and what is sorted in each is sorted in all."""

from hypothesis import given
from hypothesis import strategies as st

from weft.proxy.admin.portions import portions
from weft.proxy.observe.stats import Snapshot
from weft.steps import at_once

NAMES = st.dictionaries(st.text("ab-./", min_size=1, max_size=9), st.integers())


@given(counters=NAMES, gauges=NAMES)
def test_portions_are_the_snapshot_in_order(counters, gauges):
    snapshot = Snapshot()
    snapshot.counters, snapshot.gauges = counters, gauges

    parts = list(at_once(portions(snapshot)))

    names = [name for part in parts for name in sorted([*part.counters, *part.gauges])]
    assert names == sorted([*counters, *gauges])
    for kind, whole in (("counters", counters), ("gauges", gauges)):
        assert {name: value for part in parts for name, value in getattr(part, kind).items()} == whole


def test_stats_of_one_object_stay_together():
    snapshot = Snapshot()
    snapshot.counters = {"cluster.a-b.x": 1, "cluster.a.x": 1, "server.x": 1}
    snapshot.gauges = {"cluster.a.sub.y": 2, "cluster.a-b.y": 2}

    parts = list(at_once(portions(snapshot)))

    assert [{**part.counters, **part.gauges} for part in parts] == [
        {"cluster.a-b.x": 1, "cluster.a-b.y": 2},
        {"cluster.a.x": 1, "cluster.a.sub.y": 2},
        {"server.x": 1},
    ]
