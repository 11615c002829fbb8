"""Load by priority: Envoy's documented tables, and what must hold for any hosts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.proxy.address import Address
from weft.proxy.upstream.host import DEGRADED_ASSIGNED, EXCLUDED, FAILED_ASSIGNED, NO_LOCALITY, Host, HostSet
from weft.proxy.upstream.priorities import load_of


def host(health: int = 0, weight: int = 1, priority: int = 0) -> Host:
    made = Host(Address("10.0.0.1", 80), "", priority, NO_LOCALITY)
    made.assign(weight, {}, 0)
    made.health = health
    return made


def hosts(healthy: int, degraded: int = 0, failed: int = 0, factor: int = 140) -> HostSet:
    made = [host() for _ in range(healthy)]
    made += [host(DEGRADED_ASSIGNED) for _ in range(degraded)]
    made += [host(FAILED_ASSIGNED) for _ in range(failed)]
    return HostSet(made, {}, factor)


@pytest.mark.parametrize(
    ("sets", "healthy", "degraded", "panic"),
    [
        pytest.param([hosts(10)], (100,), (0,), (False,), id="all-well"),
        pytest.param([hosts(72, failed=28)], (100,), (0,), (False,), id="72-percent-count-as-whole"),
        pytest.param(
            [hosts(71, failed=29), hosts(100)], (99, 1), (0, 0), (False, False), id="71-percent-spill-one"
        ),
        pytest.param(
            [hosts(50, failed=50), hosts(100)], (70, 30), (0, 0), (False, False), id="half-spills-30"
        ),
        pytest.param([hosts(0, failed=100), hosts(100)], (0, 100), (0, 0), (False, False), id="failover"),
        pytest.param(
            [hosts(25, failed=75), hosts(100)], (35, 65), (0, 0), (False, False), id="second-bears-the-rest"
        ),
        pytest.param(
            [hosts(25, failed=75), hosts(25, failed=75)],
            (50, 50),
            (0, 0),
            (True, True),
            id="total-panic-by-hosts",
        ),
        pytest.param(
            [hosts(5, failed=95), hosts(65, failed=35)], (8, 92), (0, 0), (True, False), id="first-in-panic"
        ),
        pytest.param([hosts(50, degraded=50)], (70,), (30,), (False,), id="degraded-bear-the-rest"),
        pytest.param([hosts(0, degraded=10)], (0,), (100,), (False,), id="only-degraded"),
        pytest.param([hosts(0)], (100,), (0,), (True,), id="nobody"),
        pytest.param([hosts(0), hosts(1)], (0, 100), (0, 0), (False, False), id="empty-first-priority"),
        pytest.param(
            [hosts(60, failed=40, factor=100), hosts(100)], (60, 40), (0, 0), (False, False), id="factor-100"
        ),
    ],
)
def test_load(sets, healthy, degraded, panic):
    load = load_of(sets, 50.0, False)

    assert (load.healthy, load.degraded, load.panic) == (healthy, degraded, panic)


def test_panic_threshold_zero_switches_panic_off():
    assert load_of([hosts(0, failed=4)], 0.0, False).panic == (False,)
    assert load_of([hosts(1, failed=99)], 0.0, False).panic == (False,)


def test_excluded_hosts_count_neither_way():
    one = HostSet([host(), host(FAILED_ASSIGNED | EXCLUDED)], {}, 100)
    load = load_of([one, hosts(3)], 50.0, False)

    assert load.healthy == (100, 0)


def test_health_by_weight():
    uneven = HostSet([host(weight=1), host(FAILED_ASSIGNED, weight=9)], {}, 100)

    assert load_of([uneven, hosts(3)], 0.0, False).healthy == (50, 50)
    assert load_of([uneven, hosts(3)], 0.0, True).healthy == (10, 90)


COUNTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(COUNTS, st.sampled_from([0.0, 30.0, 50.0, 100.0]), st.integers(100, 200))
def test_shares_add_up_and_lead_where_somebody_is(counts, threshold, factor):
    sets = [hosts(*count, factor=factor) for count in counts]
    load = load_of(sets, threshold, False)

    assert sum(load.healthy) + sum(load.degraded) == 100
    chosen = [load.choose(value) for value in range(100)]
    for priority, share in enumerate(load.healthy):
        assert chosen.count((priority, False)) == share
    for priority, share in enumerate(load.degraded):
        assert chosen.count((priority, True)) == share
    if any(one.hosts for one in sets) and threshold > 0:
        for priority, degraded in set(chosen):
            usable = sets[priority].degraded if degraded else sets[priority].healthy
            assert usable or (load.panic[priority] and sets[priority].hosts)
