"""Token buckets against a naive model, and shared by processes."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.proxy.token_bucket import TokenBucket
from weft.proxy.worker_counts import WorkerCounts


def test_a_burst_then_the_rate():
    bucket = TokenBucket(3, 1, 0.5)

    assert [bucket.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert not bucket.take(100.49)
    assert bucket.take(100.5)
    assert not bucket.take(100.5)
    assert bucket.tokens(1000.0) == 3.0


def test_a_full_bucket_gains_nothing():
    bucket = TokenBucket(2, 10, 1.0)

    assert bucket.take(5.0)
    assert bucket.take(500.0)
    assert bucket.take(500.0)
    assert not bucket.take(500.0)


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 40).map(lambda n: n / 8),
    st.lists(st.tuples(st.integers(0, 64).map(lambda n: n / 16), st.integers(1, 4)), max_size=40),
)
def test_the_bucket_is_the_naive_one(most, per_fill, interval, history):
    bucket = TokenBucket(most, per_fill, interval)
    now, tokens, last = 1000.0, float(most), 1000.0
    for wait, count in history:
        now += wait
        tokens, last = min(float(most), tokens + (now - last) * per_fill / interval), now
        if abs(tokens - count) < 1e-6:
            tokens = bucket.tokens(now)  # on the edge rounding may decide either way
            if bucket.take(now, count):
                tokens -= count
            continue
        assert bucket.take(now, count) == (tokens >= count)
        if tokens >= count:
            tokens -= count


def in_a_fork(work):
    """Run ``work`` in a child process; its exit status."""
    pid = os.fork()
    if not pid:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(("shared", "left_for_child"), [(True, 1), (False, 3)])
def test_processes_draw_from_a_shared_bucket(shared, left_for_child):
    bucket = TokenBucket(3, 1, 3600.0, shared=shared)
    assert bucket.take(50.0)
    assert bucket.take(50.0)

    def child():
        return sum(bucket.take(50.0) for _ in range(5)) if shared else 3

    assert in_a_fork(child) == left_for_child
    assert bucket.take(50.0) == (not shared)


def test_workers_add_up_their_counts():
    counts = WorkerCounts()
    counts.begin(0)
    counts.count(0, 2)

    def child():
        counts.begin(3)
        counts.count(3, 5)
        return counts.total()

    assert in_a_fork(child) == 7
    assert counts.total() == 7
    counts.count(0, -2)
    assert counts.total() == 5
    counts.begin(3)  # the worker that died is replaced
    assert counts.total() == 0
