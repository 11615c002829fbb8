"""Balancers that hash: who is chosen, by how much it moves, and what is refused.

That they choose Envoy's host is shown by the differential suite ``hashing``.
"""

from collections import Counter
from random import Random

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.proxy.address import Address
from weft.proxy.runtime import Runtime
from weft.proxy.upstream.balancer import Balancer
from weft.proxy.upstream.hashing import (
    Bounded,
    Maglev,
    MaglevStats,
    Mersenne,
    Ring,
    RingStats,
    hash_key,
    murmur_hash2,
)
from weft.proxy.upstream.host import FAILED_ASSIGNED, NO_LOCALITY, Host, HostSet, Locality
from weft.proxy.upstream.policy import Algorithm, HashFunction, PolicySettings
from weft.proxy.upstream.stats import ClusterStats

RING = PolicySettings(algorithm=Algorithm.RING_HASH)
MAGLEV = PolicySettings(algorithm=Algorithm.MAGLEV, table_size=1009)
KEYS = [xxhash.xxh64_intdigest(b"%d" % number) for number in range(4000)]


def host(number, weight=1, health=0, locality=NO_LOCALITY, metadata=None, name=""):
    made = Host(Address(f"10.0.0.{number}", 80), name, 0, locality)
    made.assign(weight, metadata or {}, health)
    return made


def even(hosts):
    total = sum(one.weight for one in hosts)
    return [(one, one.weight / total) for one in hosts]


def balancer(*sets, policy, weights=None):
    made = Balancer(policy, ClusterStats(), Random(0), Runtime())
    made.rebuild([HostSet(hosts, weights or {}, 140) for hosts in sets], False)
    return made


def test_murmur_of_every_length_of_the_tail():
    # MurmurHash64A(key, seed 0xc70f6907), by the reference implementation of its author.
    assert murmur_hash2(b"hello") == 2762169579135187400
    assert murmur_hash2(b"") == 6142509188972423790
    assert len({murmur_hash2(b"abcdefghijkl"[:size]) for size in range(13)}) == 13


def test_mersenne_is_cpps():
    # std::mt19937{5489}: its 10 000th number is 4123659995 (C++ standard, [rand.predef]).
    random = Mersenne(5489)
    numbers = [random.below(1 << 32) for _ in range(10000)]
    assert numbers[-1] == 4123659995


def test_a_ring_tells_its_size():
    stats = RingStats()
    Ring(even([host(number) for number in range(5)]), RING, stats)
    assert (stats.size, stats.min_hashes_per_host, stats.max_hashes_per_host) == (1025, 205, 205)


def test_a_ring_keeps_to_its_largest_size():
    stats = RingStats()
    policy = PolicySettings(algorithm=Algorithm.RING_HASH, minimum_ring_size=5, maximum_ring_size=7)
    Ring(even([host(1, 1), host(2, 9)]), policy, stats)
    assert stats.size == 7


def test_a_ring_by_hand():
    hosts = [host(1), host(2)]
    policy = PolicySettings(algorithm=Algorithm.RING_HASH, minimum_ring_size=2)
    ring = Ring(even(hosts), policy, RingStats())
    places = sorted((xxhash.xxh64_intdigest(f"10.0.0.{n}:80_0".encode()), n - 1) for n in (1, 2))
    (low, first), (high, second) = places
    assert ring.choose(low, 0) is hosts[first]
    assert ring.choose(low + 1, 0) is hosts[second]
    assert ring.choose(high, 0) is hosts[second]
    assert ring.choose(high + 1, 0) is hosts[first]
    assert ring.choose(0, 0) is hosts[first]
    assert ring.choose(low, 1) is hosts[second]
    assert ring.choose(high + 1, 3) is hosts[second]


@pytest.mark.parametrize("policy", [RING, MAGLEV, PolicySettings(algorithm=Algorithm.RING_HASH, hash_function=HashFunction.MURMUR_HASH_2)])  # fmt: skip
def test_hosts_share_by_weight(policy):
    hosts = [host(1), host(2), host(3, weight=2)]
    made = balancer(hosts, policy=policy)
    counts = Counter(made.pick_for(key) for key in KEYS)
    for one in hosts:
        assert abs(counts[one] / len(KEYS) - one.weight / 4) < 0.07


@pytest.mark.parametrize("policy", [RING, MAGLEV])
def test_little_moves_when_a_host_leaves(policy):
    hosts = [host(number) for number in range(10)]
    before, after = balancer(hosts, policy=policy), balancer(hosts[:-1], policy=policy)
    stayed = [key for key in KEYS if before.pick_for(key) is not hosts[-1]]
    moved = sum(before.pick_for(key) is not after.pick_for(key) for key in stayed)
    assert moved / len(stayed) < 0.12


@pytest.mark.parametrize("policy", [RING, MAGLEV])
def test_the_order_of_hosts_does_not_matter(policy):
    hosts = [host(number) for number in range(6)]
    one, other = balancer(hosts, policy=policy), balancer(hosts[::-1], policy=policy)
    assert all(one.pick_for(key) is other.pick_for(key) for key in KEYS[:500])


def test_maglev_is_full_and_even():
    stats = MaglevStats()
    Maglev(even([host(number) for number in range(7)]), MAGLEV, stats)
    assert (stats.min_entries_per_host, stats.max_entries_per_host) == (1009 // 7, 1009 // 7 + 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(0, 2**64 - 1), st.integers(0, 5))
def test_every_hash_has_a_host(weights, hash, attempt):
    hosts = even([host(number, weight) for number, weight in enumerate(weights)])
    members = [one for one, _ in hosts]
    small = PolicySettings(algorithm=Algorithm.MAGLEV, table_size=101)
    assert Ring(hosts, RING, RingStats()).choose(hash, attempt) in members
    assert Maglev(hosts, small, MaglevStats()).choose(hash, attempt) in members


def test_another_attempt_may_take_another_host():
    maglev = Maglev(even([host(number) for number in range(5)]), MAGLEV, MaglevStats())
    assert len({maglev.choose(KEYS[0], attempt) for attempt in range(20)}) > 1


def test_what_stands_for_a_host():
    assert hash_key(host(1), False) == b"10.0.0.1:80"
    assert hash_key(host(1, name="a.example"), True) == b"a.example"
    assert hash_key(host(1, metadata={"envoy.lb": {"hash_key": "k"}}), True) == b"k"
    assert hash_key(host(1, metadata={"envoy.lb": {"hash_key": 7}}), False) == b"10.0.0.1:80"


@pytest.mark.parametrize("policy", [RING, MAGLEV])
def test_unhealthy_hosts_are_not_in_the_table_but_in_panic(policy):
    well = [host(1), host(2), host(3, health=FAILED_ASSIGNED)]
    made = balancer(well, policy=policy)
    assert {made.pick_for(key) for key in KEYS} == set(well[:2])
    ill = [host(1), host(2, health=FAILED_ASSIGNED), host(3, health=FAILED_ASSIGNED)]
    made = balancer(ill, policy=policy)
    assert {made.pick_for(key) for key in KEYS} == set(ill)
    assert made._stats.lb_healthy_panic == len(KEYS)


def test_without_hosts_there_is_nobody():
    assert balancer([], policy=RING).pick_for(1) is None
    assert balancer(policy=MAGLEV).pick_for(1) is None


def test_without_a_hash_hosts_are_drawn_by_chance():
    hosts = [host(1), host(2)]
    made = balancer(hosts, policy=RING)
    assert {made.pick_for(-1) for _ in range(50)} == set(hosts)


def test_localities_weigh():
    here, there, nowhere = Locality("here"), Locality("there"), Locality("nowhere")
    hosts = [
        host(1, locality=here),
        host(2, locality=there),
        host(3, locality=there),
        host(4, locality=nowhere),
    ]
    policy = PolicySettings(algorithm=Algorithm.RING_HASH, locality_weighted=True)
    made = balancer(hosts, policy=policy, weights={here: 3, there: 1})
    counts = Counter(made.pick_for(key) for key in KEYS)
    assert counts[hosts[3]] == 0
    assert abs(counts[hosts[0]] / len(KEYS) - 0.75) < 0.07


def test_a_busy_host_is_passed_over_and_the_same_way_each_time():
    hosts = [host(number) for number in range(4)]
    ring = Ring(even(hosts), RING, RingStats())
    bounded = Bounded(ring, even(hosts), 150)
    key = KEYS[0]
    first = ring.choose(key, 0)
    assert bounded.choose(key, 0) is first
    first.stats.rq_active = 10
    second = bounded.choose(key, 0)
    assert second is not first
    assert bounded.choose(key, 0) is second


def test_when_all_are_too_busy_the_least_busy_is_taken():
    hosts = [host(number) for number in range(3)]
    for one, active in zip(hosts, (150, 100, 200), strict=True):
        one.stats.rq_active = active
    bounded = Bounded(Ring(even(hosts), RING, RingStats()), even(hosts), 10)
    assert {bounded.choose(key, 0) for key in KEYS[:50]} == {hosts[1]}
