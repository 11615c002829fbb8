"""Balancers that hash: a request with the same hash goes to the same host, as far as can be.

Both spread the hosts of one priority over a table, once per change of the hosts:

``Ring`` (ketama): every host stands at many places of a circle of 64-bit numbers, in proportion to
its weight; a request goes to the first place at or after its hash.  ``Maglev``: hosts take turns in
filling a table of prime size, each in its own order; a request goes to ``hash % size``.

``Bounded`` passes over hosts that have more than their share under way.  Given the same hosts and
the same hash, all of them choose the host that Envoy chooses.
"""

from array import array
from bisect import bisect_left
from math import ceil
from typing import ClassVar, Final

import xxhash

from weft.proxy.observe.stats import StatGroup, rows
from weft.proxy.upstream.host import Host, HostSet
from weft.proxy.upstream.policy import Algorithm, HashFunction, PolicySettings

_MASK: Final = (1 << 64) - 1

WeightedHosts = list[tuple[Host, float]]
"""Hosts with their share of the whole, which adds up to 1."""


class RingStats(StatGroup):
    """``cluster.<name>.ring_hash_lb.``; of the last ring that was built."""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(
        gauges=("max_hashes_per_host", "min_hashes_per_host", "size")
    )

    def __init__(self) -> None:
        self.max_hashes_per_host: int = 0
        self.min_hashes_per_host: int = 0
        self.size: int = 0


class MaglevStats(StatGroup):
    """``cluster.<name>.maglev_lb.``; of the last table that was built."""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(
        gauges=("max_entries_per_host", "min_entries_per_host")
    )

    def __init__(self) -> None:
        self.max_entries_per_host: int = 0
        self.min_entries_per_host: int = 0


class Table:
    """Hosts spread over a table.  This one is empty; see the subclasses."""

    def choose(self, hash: int, attempt: int) -> Host | None:
        """``attempt`` counts the hosts that were drawn and refused before."""
        return None


class Ring(Table):
    def __init__(self, hosts: WeightedHosts, policy: PolicySettings, stats: RingStats) -> None:
        least = min([share for _, share in hosts])
        # So many places that the lightest host has a whole number of them, but no more than allowed.
        scale = min(ceil(least * policy.minimum_ring_size) / least, float(policy.maximum_ring_size))
        murmur = policy.hash_function is HashFunction.MURMUR_HASH_2
        places: list[tuple[int, int]] = []
        fewest = policy.maximum_ring_size
        most = 0
        placed = 0
        target = 0.0
        for number, (host, share) in enumerate(hosts):
            key = hash_key(host, policy.use_hostname) + b"_"
            target += scale * share
            count = 0
            while placed < target:
                text = key + b"%d" % count
                places.append((murmur_hash2(text) if murmur else int(xxhash.xxh64_intdigest(text)), number))
                count += 1
                placed += 1
            fewest = min(fewest, count)
            most = max(most, count)
        places.sort(key=_hash_of)
        self._hashes: array[int] = array("Q", [hash for hash, _ in places])
        self._hosts: list[Host] = [hosts[number][0] for _, number in places]
        stats.size = len(places)
        stats.min_hashes_per_host = fewest
        stats.max_hashes_per_host = most

    def choose(self, hash: int, attempt: int) -> Host | None:
        hosts = self._hosts
        at = bisect_left(self._hashes, hash)
        return hosts[(at + attempt) % len(hosts)] if at < len(hosts) else hosts[attempt % len(hosts)]


def _hash_of(place: tuple[int, int]) -> int:
    return place[0]


class Maglev(Table):
    def __init__(self, hosts: WeightedHosts, policy: PolicySettings, stats: MaglevStats) -> None:
        size = policy.table_size
        # Filled in the order of the keys, so that the order of the configuration does not matter.
        keyed = sorted(
            [
                (hash_key(host, policy.use_hostname), share, number)
                for number, (host, share) in enumerate(hosts)
            ]
        )
        heaviest = max([share for _, share, _ in keyed])
        places = [int(xxhash.xxh64_intdigest(key)) % size for key, _, _ in keyed]
        skips = [int(xxhash.xxh64_intdigest(key, 1)) % (size - 1) + 1 for key, _, _ in keyed]
        due = [0.0] * len(keyed)
        counts = [0] * len(keyed)
        table: list[int] = [-1] * size
        left = size
        turn = 0
        while left:
            turn += 1
            for i in range(len(keyed)):
                if not left:
                    break
                if turn * keyed[i][1] < due[i]:
                    continue  # a lighter host sits out some turns
                due[i] += heaviest
                place = places[i]
                skip = skips[i]
                while table[place] >= 0:
                    place = (place + skip) % size
                table[place] = keyed[i][2]
                places[i] = (place + skip) % size
                counts[i] += 1
                left -= 1
        self._size: int = size
        self._hosts: list[Host] = [host for host, _ in hosts]
        self._table: array[int] = array("I", table)
        stats.min_entries_per_host = min(counts)
        stats.max_entries_per_host = max(counts)

    def choose(self, hash: int, attempt: int) -> Host | None:
        if attempt:
            hash ^= _MASK - attempt + 1
        return self._hosts[self._table[hash % self._size]]


class Bounded(Table):
    """Passes over hosts with more requests under way than ``factor`` percent of their share."""

    def __init__(self, table: Table, hosts: WeightedHosts, factor: int) -> None:
        self._table = table
        self._hosts = hosts
        self._shares: dict[Host, float] = dict(hosts)
        self._factor: int = factor

    def choose(self, hash: int, attempt: int) -> Host | None:
        first = self._table.choose(hash, attempt)
        if first is None:
            return None
        active = sum([host.stats.rq_active for host, _ in self._hosts])
        slots = ((active + 1) * self._factor + 99) // 100
        best = first
        least = _overload(first, self._shares[first], slots)
        if least <= 1.0:
            return first
        # The rest in an order drawn by the hash: the same hash overflows the same way every time.
        random = Mersenne(hash)
        order = list(range(len(self._hosts)))
        for i in range(len(order)):
            j = i + random.below(len(order) - i)
            order[i], order[j] = order[j], order[i]
            host, share = self._hosts[order[i]]
            if host is first:
                continue
            load = _overload(host, share, slots)
            if load <= 1.0:
                return host
            if load < least:
                best, least = host, load
        return best


def _overload(host: Host, share: float, slots: int) -> float:
    return host.stats.rq_active / max(ceil(slots * share), 1)


def shares(hosts: HostSet, usable: list[Host], by_locality: bool) -> WeightedHosts:
    """The ``usable`` hosts of a set with their shares, by the weights of localities where these count."""
    if not by_locality or not hosts.locality_weights:
        return _normalized(usable, 1.0)
    total = sum(hosts.locality_weights.values())
    found: WeightedHosts = []
    for locality, members in hosts.by_locality(usable).items():
        weight = hosts.locality_weights.get(locality, 0)
        if weight:
            found.extend(_normalized(members, weight / total))
    return found


def _normalized(hosts: list[Host], share: float) -> WeightedHosts:
    total = sum([host.weight for host in hosts])
    return [(host, host.weight * share / total) for host in hosts]


def table_of(hosts: WeightedHosts, policy: PolicySettings, ring: RingStats, maglev: MaglevStats) -> Table:
    """The table that a policy asks for."""
    if not hosts:
        return Table()
    table: Table
    if policy.algorithm is Algorithm.RING_HASH:
        table = Ring(hosts, policy, ring)
    else:
        table = Maglev(hosts, policy, maglev)
    return Bounded(table, hosts, policy.hash_balance_factor) if policy.hash_balance_factor else table


def hash_key(host: Host, use_hostname: bool) -> bytes:
    """What stands for a host in tables: ``envoy.lb`` metadata ``hash_key``, else its name or address."""
    lb = host.metadata.get("envoy.lb")
    if isinstance(lb, dict):
        key = lb.get("hash_key")
        if isinstance(key, str) and key:
            return key.encode()
    return (host.hostname if use_hostname else host.address.text).encode()


_MULTIPLIER: Final = 0xC6A4A7935BD1E995
_SEED: Final = 0xC70F6907


def murmur_hash2(data: bytes) -> int:
    """MurmurHash64A with the seed of libstdc++'s ``std::hash`` (Envoy's ``MURMUR_HASH_2``)."""
    size = len(data)
    value = _SEED ^ (size * _MULTIPLIER & _MASK)
    whole = size & ~7
    for at in range(0, whole, 8):
        word = int.from_bytes(data[at : at + 8], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 47) * _MULTIPLIER & _MASK
        value = (value ^ word) * _MULTIPLIER & _MASK
    if size > whole:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    value = (value ^ value >> 47) * _MULTIPLIER & _MASK
    return value ^ value >> 47


class Mersenne:
    """MT19937 seeded with one number, as C++'s ``std::mt19937`` is (Python's own seeds otherwise)."""

    def __init__(self, seed: int) -> None:
        from random import Random

        state = [seed & 0xFFFFFFFF]
        for i in range(1, 624):
            before = state[-1]
            state.append((1812433253 * (before ^ before >> 30) + i) & 0xFFFFFFFF)
        self._random = Random()
        self._random.setstate((3, (*state, 624), None))

    def below(self, count: int) -> int:
        """Uniform in ``[0, count)``, as Envoy's bounded-load balancer draws."""
        step = (1 << 32) // count
        while True:
            value = self._random.getrandbits(32) // step
            if value < count:
                return value
