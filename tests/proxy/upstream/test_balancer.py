"""Who is picked: order, distribution, panic, localities; against hand-made expectations and at random."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.proxy.address import Address
from weft.proxy.runtime import Runtime
from weft.proxy.upstream.balancer import LONGEST_ROUND, Balancer
from weft.proxy.upstream.edf import order
from weft.proxy.upstream.host import DEGRADED_ASSIGNED, FAILED_ASSIGNED, NO_LOCALITY, Host, HostSet, Locality
from weft.proxy.upstream.policy import Algorithm, PolicySettings
from weft.proxy.upstream.stats import ClusterStats

ROUND_ROBIN = PolicySettings()
LEAST = PolicySettings(algorithm=Algorithm.LEAST_REQUEST)
RANDOM = PolicySettings(algorithm=Algorithm.RANDOM)


def host(
    number: int, weight: int = 1, health: int = 0, locality: Locality = NO_LOCALITY, priority: int = 0
) -> Host:
    made = Host(Address(f"10.0.{priority}.{number}", 80), "", priority, locality)
    made.assign(weight, {}, health)
    return made


def balancer(
    *sets: list[Host],
    policy: PolicySettings = ROUND_ROBIN,
    weights: dict[Locality, int] | None = None,
    seed: int = 0,
) -> Balancer:
    made = Balancer(policy, ClusterStats(), Random(seed), Runtime())
    made.rebuild([HostSet(hosts, weights or {}, 140) for hosts in sets], False)
    return made


def picks(made: Balancer, count: int) -> list[Host | None]:
    return [made.pick() for _ in range(count)]


def numbers(hosts: list[Host], picked: list[Host | None]) -> list[int]:
    return [hosts.index(one) for one in picked if one is not None]


def close(observed: Counter, expected: dict, count: int) -> None:
    """Chi-square, at a level that a seeded run either meets for ever or never."""
    statistic = sum(
        (observed[key] - share * count) ** 2 / (share * count) for key, share in expected.items() if share > 0
    )
    freedom = len(expected) - 1
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5 + 4
    assert not set(observed) - {key for key, share in expected.items() if share > 0}


# -- round robin ------------------------------------------------------------------------------------


def test_equal_weights_rotate_from_a_random_start():
    hosts = [host(n) for n in range(3)]
    starts = set()
    for seed in range(20):
        went = numbers(hosts, picks(balancer(hosts, seed=seed), 7))
        starts.add(went[0])
        assert went == [(went[0] + n) % 3 for n in range(7)]
    assert starts == {0, 1, 2}


def test_rotation_goes_on_when_hosts_change():
    hosts = [host(n) for n in range(4)]
    made = balancer(hosts)
    last = numbers(hosts, picks(made, 3))[-1]
    made.rebuild([HostSet([*hosts, host(9)], {}, 140)], False)

    assert made.pick() is hosts[(last + 1) % 4]


def test_unequal_weights_go_in_the_order_of_their_round():
    hosts = [host(0, 3), host(1, 1), host(2, 2), host(3, 7)]
    went = numbers(hosts, picks(balancer(hosts, seed=5), 26))
    round = order([3, 1, 2, 7])

    assert went[:13] == went[13:]
    assert went[:13] in [round[at:] + round[:at] for at in range(13)]


def test_a_long_round_is_not_laid_out_yet_exact():
    hosts = [host(0, LONGEST_ROUND), host(1, 1), host(2, LONGEST_ROUND - 1)]
    total = sum(one.weight for one in hosts)
    went = Counter(numbers(hosts, picks(balancer(hosts), total)))

    for number, one in enumerate(hosts):
        assert abs(went[number] - one.weight) <= 1


# -- others -------------------------------------------------------------------------------------------


def test_random_ignores_weight():
    hosts = [host(0, 1), host(1, 50), host(2, 100)]
    went = Counter(numbers(hosts, picks(balancer(hosts, policy=RANDOM), 9000)))

    close(went, {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}, 9000)


def test_least_request_takes_the_less_busy_of_two():
    hosts = [host(n) for n in range(3)]
    hosts[0].stats.rq_active = 5
    hosts[1].stats.rq_active = 1
    went = Counter(numbers(hosts, picks(balancer(hosts, policy=LEAST), 9000)))

    # Of two draws with return: the busiest only when drawn twice, the idlest unless missed twice.
    close(went, {0: 1 / 9, 1: 3 / 9, 2: 5 / 9}, 9000)


def test_least_request_by_full_scan():
    hosts = [host(n) for n in range(4)]
    for one, active in zip(hosts, (2, 1, 1, 3), strict=True):
        one.stats.rq_active = active
    policy = PolicySettings(algorithm=Algorithm.LEAST_REQUEST, full_scan=True)
    went = Counter(numbers(hosts, picks(balancer(hosts, policy=policy), 4000)))

    close(went, {1: 0.5, 2: 0.5}, 4000)


@pytest.mark.parametrize(
    ("bias", "shares"),
    [
        pytest.param(1.0, (2 / 3, 1 / 3), id="half-the-weight-for-twice-the-load"),
        pytest.param(0.0, (1 / 2, 1 / 2), id="load-ignored"),
        pytest.param(2.0, (4 / 5, 1 / 5), id="load-counts-double"),
    ],
)
def test_least_request_with_weights(bias, shares):
    hosts = [host(0, 4), host(1, 4), host(2, 1)]
    hosts[1].stats.rq_active = 1
    policy = PolicySettings(algorithm=Algorithm.LEAST_REQUEST, bias=bias)
    went = Counter(numbers(hosts, picks(balancer(hosts, policy=policy), 5000)))

    between = went[0] + went[1]
    assert went[0] / between == pytest.approx(shares[0], abs=0.01)
    assert went[1] / between == pytest.approx(shares[1], abs=0.01)


# -- health, priorities, panic ------------------------------------------------------------------------


def test_failed_hosts_get_nothing():
    hosts = [host(0), host(1, health=FAILED_ASSIGNED), host(2), host(3)]

    assert set(numbers(hosts, picks(balancer(hosts), 30))) == {0, 2, 3}


def test_panic_uses_everybody_and_is_counted():
    hosts = [host(0), host(1, health=FAILED_ASSIGNED), host(2, health=FAILED_ASSIGNED)]
    stats = ClusterStats()
    made = Balancer(ROUND_ROBIN, stats, Random(0), Runtime())
    made.rebuild([HostSet(hosts, {}, 140)], False)

    assert set(numbers(hosts, picks(made, 30))) == {0, 1, 2}
    assert stats.lb_healthy_panic == 30


def test_panic_can_be_told_to_fail():
    hosts = [host(0), host(1, health=FAILED_ASSIGNED), host(2, health=FAILED_ASSIGNED)]

    assert picks(balancer(hosts, policy=PolicySettings(fail_on_panic=True)), 3) == [None] * 3


def test_the_runtime_moves_the_panic_threshold():
    hosts = [host(0), host(1, health=FAILED_ASSIGNED), host(2, health=FAILED_ASSIGNED)]
    made = Balancer(ROUND_ROBIN, ClusterStats(), Random(0), Runtime({"upstream.healthy_panic_threshold": 30}))
    made.rebuild([HostSet(hosts, {}, 140)], False)

    assert set(numbers(hosts, picks(made, 30))) == {0}


def test_load_spills_over_by_priority():
    first = [host(n) for n in range(2)] + [host(2 + n, health=FAILED_ASSIGNED) for n in range(2)]
    second = [host(n, priority=1) for n in range(2)]
    went = Counter(one.priority for one in picks(balancer(first, second), 10_000) if one)

    close(went, {0: 0.70, 1: 0.30}, 10_000)


def test_degraded_hosts_only_bear_what_is_left():
    hosts = [host(0), host(1, health=DEGRADED_ASSIGNED)]
    went = Counter(numbers(hosts, picks(balancer(hosts), 10_000)))

    close(went, {0: 0.70, 1: 0.30}, 10_000)


def test_nobody_is_nobody():
    stats = ClusterStats()
    made = Balancer(ROUND_ROBIN, stats, Random(0), Runtime())
    made.rebuild([HostSet([], {}, 140)], False)

    assert made.pick() is None
    assert stats.lb_healthy_panic == 1


# -- localities ----------------------------------------------------------------------------------------

NEAR, FAR, DARK = Locality(zone="near"), Locality(zone="far"), Locality(zone="dark")


def test_localities_share_by_weight():
    hosts = [host(n, locality=NEAR) for n in range(1)] + [host(5 + n, locality=FAR) for n in range(4)]
    hosts.append(host(9, locality=DARK))
    policy = PolicySettings(locality_weighted=True)
    made = balancer(hosts, policy=policy, weights={NEAR: 3, FAR: 1, DARK: 0})
    went = Counter(one.locality for one in picks(made, 400) if one)

    assert went == {NEAR: 300, FAR: 100}


def test_a_locality_loses_weight_with_its_hosts():
    hosts = [host(0, locality=NEAR), host(1, health=FAILED_ASSIGNED, locality=NEAR), host(2, locality=FAR)]
    policy = PolicySettings(locality_weighted=True)
    went = Counter(
        one.locality for one in picks(balancer(hosts, policy=policy, weights={NEAR: 1, FAR: 1}), 1700) if one
    )

    # Half of near is left: 1.4 x 50 % = 70 % of its weight.
    assert went == {NEAR: pytest.approx(700, abs=2), FAR: pytest.approx(1000, abs=2)}


def test_weights_of_localities_do_nothing_unless_asked():
    hosts = [host(0, locality=NEAR), host(1, locality=FAR)]
    went = Counter(one.locality for one in picks(balancer(hosts, weights={NEAR: 9, FAR: 1}), 100) if one)

    assert went == {NEAR: 50, FAR: 50}


# -- any history -------------------------------------------------------------------------------------------

HOSTS = st.lists(
    st.tuples(
        st.integers(1, 9), st.sampled_from([0, 0, 0, FAILED_ASSIGNED, DEGRADED_ASSIGNED]), st.integers(0, 2)
    ),
    max_size=10,
)
POLICIES = st.sampled_from([ROUND_ROBIN, LEAST, RANDOM, PolicySettings(locality_weighted=True)])


@settings(max_examples=150, deadline=None)
@given(st.lists(HOSTS, min_size=1, max_size=4), POLICIES, st.integers(0, 99))
def test_over_any_history_only_hosts_that_are_there_are_picked(history, policy, seed):
    stats = ClusterStats()
    made = Balancer(policy, stats, Random(seed), Runtime())
    for members in history:
        sets: list[list[Host]] = [[], [], []]
        for number, (weight, health, priority) in enumerate(members):
            place = NEAR if number % 2 else FAR
            sets[priority].append(host(number, weight, health, place, priority))
        made.rebuild([HostSet(hosts, {NEAR: 2, FAR: 1}, 140) for hosts in sets], False)
        present = [one for hosts in sets for one in hosts]
        before = stats.lb_healthy_panic
        picked = picks(made, 40)

        assert all(one in present for one in picked if one is not None)
        if present:
            assert None not in picked
        else:
            assert picked == [None] * 40
        if any(one is not None and one.health & FAILED_ASSIGNED for one in picked):
            assert stats.lb_healthy_panic > before


def test_the_same_seed_makes_the_same_choices():
    hosts = [host(n) for n in range(5)]
    for policy in (ROUND_ROBIN, LEAST, RANDOM):
        one = numbers(hosts, picks(balancer(hosts, policy=policy, seed=3), 50))
        assert one == numbers(hosts, picks(balancer(hosts, policy=policy, seed=3), 50))
