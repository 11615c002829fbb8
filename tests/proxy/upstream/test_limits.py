"""Limits: alone, shared by workers, changed by the runtime, and what the gauges show."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.proxy.observe.stats import Store
from weft.proxy.runtime import Runtime
from weft.proxy.upstream.limits import (
    CONNECTIONS,
    PENDING,
    POOLS,
    REQUESTS,
    RETRIES,
    UNLIMITED,
    Limits,
    LimitStats,
    RemainingStats,
    RetryBudget,
    SharedRows,
    Thresholds,
)

KINDS = {
    CONNECTIONS: ("can_connect", "connection_began", "connection_ended", "max_connections"),
    PENDING: ("can_wait", "wait_began", "wait_ended", "max_pending"),
    REQUESTS: ("can_request", "request_began", "request_ended", "max_requests"),
    RETRIES: ("can_retry", "retry_began", "retry_ended", "max_retries"),
    POOLS: ("can_pool", "pool_began", "pool_ended", "max_connection_pools"),
}


def limits(thresholds: Thresholds = Thresholds(), **more) -> Limits:  # noqa: B008  # frozen
    more.setdefault("runtime", Runtime())
    return Limits(thresholds, "web", more.pop("priority", 0), **more)


def test_defaults_are_envoys():
    made = limits()

    assert (made.max_connections, made.max_pending, made.max_requests, made.max_retries) == (
        1024,
        1024,
        1024,
        3,
    )
    assert made.max_connection_pools == UNLIMITED == 18446744073709551615


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_counted_apart(kind):
    can, began, ended, most = KINDS[kind]
    made = limits(Thresholds(**{most: 2}))
    for _ in range(2):
        assert getattr(made, can)()
        getattr(made, began)()
    assert not getattr(made, can)()
    assert [made.used(other) for other in KINDS] == [2 if other == kind else 0 for other in KINDS]
    getattr(made, ended)()

    assert getattr(made, can)()


def test_zero_forbids_everything():
    made = limits(Thresholds(max_connections=0, max_requests=0))

    assert not made.can_connect()
    assert not made.can_request()


def test_the_runtime_wins_while_it_says_something():
    runtime = Runtime()
    default = limits(runtime=runtime)
    high = limits(runtime=runtime, priority=1)
    default.request_began()
    assert default.can_request()
    runtime.replace(
        {"circuit_breakers.web.default.max_requests": 1, "circuit_breakers.other.default.max_requests": 0}
    )

    assert not default.can_request()
    assert high.can_request()
    runtime.replace({})
    assert default.can_request()


@pytest.mark.parametrize(
    ("key", "check"),
    [
        ("max_connections", "can_connect"),
        ("max_pending_requests", "can_wait"),
        ("max_requests", "can_request"),
        ("max_retries", "can_retry"),
        ("max_connection_pools", "can_pool"),
    ],
)
def test_runtime_keys(key, check):
    made = limits(runtime=Runtime({f"circuit_breakers.web.high.{key}": 0}), priority=1)

    assert not getattr(made, check)()


@pytest.mark.parametrize(
    ("requests", "pending", "allowed"),
    [
        pytest.param(0, 0, 3, id="the-minimum-when-idle"),
        pytest.param(15, 0, 3, id="twenty-percent-below-the-minimum"),
        pytest.param(30, 10, 8, id="twenty-percent-of-active-and-waiting"),
    ],
)
def test_retry_budget(requests, pending, allowed):
    made = limits(Thresholds(max_retries=0, retry_budget=RetryBudget()))
    for _ in range(requests):
        made.request_began()
    for _ in range(pending):
        made.wait_began()
    for _ in range(allowed):
        assert made.can_retry()
        made.retry_began()

    assert not made.can_retry()


def test_the_runtime_can_bring_in_a_retry_budget():
    runtime = Runtime()
    made = limits(Thresholds(max_retries=0), runtime=runtime)
    assert not made.can_retry()
    runtime.replace({"circuit_breakers.web.default.retry_budget.min_retry_concurrency": 1})

    assert made.can_retry()
    made.retry_began()
    assert not made.can_retry()


def test_changed_thresholds_keep_what_is_counted():
    made = limits(Thresholds(max_connections=5))
    made.connection_began()
    made.update(Thresholds(max_connections=1))

    assert not made.can_connect()
    assert made.connections == 1


# -- several workers -----------------------------------------------------------------------------------


def workers(rows: SharedRows, name: str, thresholds: Thresholds) -> list[Limits]:
    slot = rows.slot(name)
    return [
        limits(thresholds, shared=rows, worker=worker, slot=slot, priority=priority)
        for worker in range(rows.workers)
        for priority in (0,)
    ]


def test_the_limit_is_the_clusters_not_the_workers():
    rows = SharedRows(2, capacity=8)
    one, two = workers(rows, "web", Thresholds(max_requests=3))
    one.request_began()
    one.request_began()
    two.request_began()

    assert not one.can_request()
    assert not two.can_request()
    assert (one.requests, two.requests, two.used(REQUESTS)) == (2, 1, 3)
    one.request_ended()
    assert two.can_request()


def test_clusters_and_priorities_do_not_mix():
    rows = SharedRows(2, capacity=8)
    web, _ = workers(rows, "web", Thresholds(max_requests=1))
    _, shop = workers(rows, "shop", Thresholds(max_requests=1))
    high = limits(Thresholds(max_requests=1), shared=rows, worker=1, slot=rows.slot("web"), priority=1)
    web.request_began()

    assert shop.can_request()
    assert high.can_request()
    assert rows.slot("web") == 0
    assert rows.slot("shop") == 1


def test_what_a_dead_worker_held_is_forgotten():
    rows = SharedRows(2, capacity=8)
    one, two = workers(rows, "web", Thresholds(max_connections=1))
    one.connection_began()
    assert not two.can_connect()
    rows.clear(0)

    assert two.can_connect()


def test_no_slot_left_means_own_limits():
    rows = SharedRows(2, capacity=1)
    rows.slot("web")
    one, two = workers(rows, "late", Thresholds(max_requests=1))
    one.request_began()

    assert rows.slot("late") == -1
    assert not one.can_request()
    assert two.can_request()


def test_rows_are_seen_across_a_fork():
    rows = SharedRows(2, capacity=8)
    one, two = workers(rows, "web", Thresholds(max_requests=2))
    child = os.fork()
    if child == 0:
        two.request_began()
        two.request_began()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

    assert not one.can_request()
    assert one.used(REQUESTS) == 2


STEPS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(list(KINDS)), st.booleans()), max_size=80)


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(0, 4))
def test_over_any_history_the_sum_never_passes_the_limit(steps, most):
    rows = SharedRows(3, capacity=2)
    thresholds = Thresholds(**{entry[3]: most for entry in KINDS.values()})
    all_workers = workers(rows, "web", thresholds)
    held = {(worker, kind): 0 for worker in range(3) for kind in KINDS}
    for worker, kind, begin in steps:
        can, began, ended, _ = KINDS[kind]
        one = all_workers[worker]
        total = sum(held[other, kind] for other in range(3))
        assert getattr(one, can)() == (total < most)
        if begin and total < most:
            getattr(one, began)()
            held[worker, kind] += 1
        elif not begin and held[worker, kind]:
            getattr(one, ended)()
            held[worker, kind] -= 1
        for other in range(3):
            assert all_workers[other].used(kind) == sum(held[w, kind] for w in range(3))


# -- gauges ------------------------------------------------------------------------------------------------


def test_gauges_show_what_is_open_and_what_remains():
    made = limits(Thresholds(max_connections=1, max_requests=2, track_remaining=True))
    made.connection_began()
    made.request_began()
    store = Store()
    store.register("cluster.web.circuit_breakers.default.", RemainingStats(made))

    gauges = store.snapshot().gauges
    assert {name.rpartition(".")[2]: value for name, value in gauges.items()} == {
        "cx_open": 1,
        "cx_pool_open": 0,
        "rq_open": 0,
        "rq_pending_open": 0,
        "rq_retry_open": 0,
        "remaining_cx": 0,
        "remaining_cx_pools": UNLIMITED,
        "remaining_pending": 1024,
        "remaining_retries": 3,
        "remaining_rq": 1,
    }


def test_remaining_is_only_for_those_who_ask():
    store = Store()
    store.register("", LimitStats(limits()))

    assert sorted(store.snapshot().gauges) == [
        "cx_open",
        "cx_pool_open",
        "rq_open",
        "rq_pending_open",
        "rq_retry_open",
    ]


def test_with_a_retry_budget_no_retries_remain_as_in_envoy():
    made = limits(Thresholds(retry_budget=RetryBudget(), track_remaining=True))

    assert RemainingStats(made).remaining_retries == 0
