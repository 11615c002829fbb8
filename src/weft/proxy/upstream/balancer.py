"""Choosing a host: first a priority, then maybe a locality, then one of its hosts.

A :class:`Balancer` is rebuilt when the hosts of its cluster change and only picks between changes.
Where there is nothing to choose but the host (one priority, no panic, no locality weights: nearly
every cluster) it has a single :class:`Picker`, and a pick is two method calls.

Picks are a function of the hosts and of the ``Random`` that is passed in.
"""

from math import gcd
from random import Random
from typing import Final

from weft.proxy.runtime import Runtime
from weft.proxy.upstream import hashing
from weft.proxy.upstream.edf import Cycle, Schedule, order
from weft.proxy.upstream.host import EXCLUDED, Host, HostSet, Locality
from weft.proxy.upstream.policy import Algorithm, PolicySettings
from weft.proxy.upstream.priorities import Load, load_of
from weft.proxy.upstream.stats import ClusterStats

LONGEST_ROUND: Final = 4096
"""Picks of a weighted round that are worked out beforehand, as a list to go through."""


class Picker:
    """Chooses among a fixed list of hosts."""

    def __init__(self, hosts: list[Host]) -> None:
        self.hosts = hosts

    def pick(self) -> Host | None:
        """The next host; None when there is none."""
        raise NotImplementedError


class Nobody(Picker):
    """No hosts."""

    def pick(self) -> Host | None:
        return None


class Rotation(Picker):
    """One after the other.  ``index`` goes on across rebuilds."""

    def __init__(self, hosts: list[Host], index: int) -> None:
        super().__init__(hosts)
        self.index: int = index % len(hosts)

    def pick(self) -> Host | None:
        index = self.index
        hosts = self.hosts
        host = hosts[index]
        index += 1
        self.index = index if index < len(hosts) else 0
        return host


class Weighted(Picker):
    """In proportion to weight, evenly spread, where a list of one whole round would be too long."""

    def __init__(self, hosts: list[Host], skip: int) -> None:
        super().__init__(hosts)
        self.cycle = Cycle([host.weight for host in hosts], skip)

    def pick(self) -> Host | None:
        return self.hosts[self.cycle.pick()]


class WeightedLeast(Picker):
    """In proportion to weight divided by the requests under way (plus one) to the power of a bias."""

    def __init__(self, hosts: list[Host], skip: int, bias: float) -> None:
        super().__init__(hosts)
        self.bias = bias
        self.schedule: Schedule[Host] = Schedule([(host, self.weight(host)) for host in hosts], skip)

    def weight(self, host: Host) -> float:
        active = host.stats.rq_active
        if self.bias == 1.0:
            return host.weight / (active + 1)
        if self.bias == 0.0:
            return float(host.weight)
        return float(host.weight / (active + 1) ** self.bias)

    def pick(self) -> Host | None:
        schedule = self.schedule
        host = schedule.first()
        schedule.queue_again(self.weight(host))
        return host


class Least(Picker):
    """Of a few hosts drawn by chance the one with the fewest requests under way."""

    def __init__(self, hosts: list[Host], random: Random, choices: int) -> None:
        super().__init__(hosts)
        self.random = random
        self.choices = choices

    def pick(self) -> Host | None:
        hosts = self.hosts
        count = len(hosts)
        best = hosts[int(self.random.random() * count)]
        for _ in range(self.choices - 1):
            drawn = hosts[int(self.random.random() * count)]
            if drawn.stats.rq_active < best.stats.rq_active:
                best = drawn
        return best


class LeastOfAll(Picker):
    """The host with the fewest requests under way; of equals one by chance."""

    def __init__(self, hosts: list[Host], random: Random) -> None:
        super().__init__(hosts)
        self.random = random

    def pick(self) -> Host | None:
        best: list[Host] = []
        fewest = -1
        for host in self.hosts:
            active = host.stats.rq_active
            if fewest < 0 or active < fewest:
                fewest = active
                best = [host]
            elif active == fewest:
                best.append(host)
        return best[int(self.random.random() * len(best))]


class AnyHost(Picker):
    """By chance, whatever the weights."""

    def __init__(self, hosts: list[Host], random: Random) -> None:
        super().__init__(hosts)
        self.random = random

    def pick(self) -> Host | None:
        hosts = self.hosts
        return hosts[int(self.random.random() * len(hosts))]


class ByLocality(Picker):
    """First a locality, in proportion to its weight and health, then one of its hosts."""

    def __init__(self, hosts: list[Host], parts: list[tuple[Picker, float]], skip: int) -> None:
        super().__init__(hosts)
        self.schedule: Schedule[tuple[Picker, float]] = Schedule([(part, part[1]) for part in parts], skip)

    def pick(self) -> Host | None:
        picker, weight = self.schedule.first()
        self.schedule.queue_again(weight)
        return picker.pick()


class Balancer:
    """The choice of a cluster.  :meth:`rebuild` after every change of hosts or their health."""

    def __init__(self, policy: PolicySettings, stats: ClusterStats, random: Random, runtime: Runtime) -> None:
        self.policy = policy
        self._stats = stats
        self._random = random
        self._runtime = runtime
        self._seed: int = random.getrandbits(32)
        self._only: Picker | None = None
        """What every pick comes from, where there is nothing else to decide."""
        self._load = Load((100,), (0,), (False,))
        self._healthy: list[Picker] = []
        self._degraded: list[Picker] = []
        self._all: list[Picker] = []
        self._rotations: dict[tuple[int, str, Locality | None], Rotation] = {}
        self._sets: list[HostSet] = []
        self._tables: list[hashing.Table | None] = []
        """By priority, of policies that hash; None until the first request needs it."""
        self.ring_stats = hashing.RingStats()
        self.maglev_stats = hashing.MaglevStats()

    def pick_for(self, hash: int) -> Host | None:
        """For policies that hash: the host of a 64-bit hash; one by chance for a negative one."""
        if hash < 0:
            hash = self._random.getrandbits(64)
        if not self._tables:
            return None
        load = self._load
        priority, _ = load.choose(hash)
        panic = load.panic[priority]
        if panic:
            self._stats.lb_healthy_panic += 1
        table = self._tables[priority]
        if table is None:
            hosts = self._sets[priority]
            table = hashing.table_of(
                hashing.shares(hosts, hosts.hosts if panic else hosts.healthy, self.policy.locality_weighted),
                self.policy,
                self.ring_stats,
                self.maglev_stats,
            )
            self._tables[priority] = table
        return table.choose(hash, 0)

    def pick(self) -> Host | None:
        only = self._only
        if only is not None:
            return only.pick()
        return self._choose()

    def _choose(self) -> Host | None:
        if not self._healthy:
            return None
        load = self._load
        priority, degraded = load.choose(self._random.getrandbits(32))
        if load.panic[priority]:
            self._stats.lb_healthy_panic += 1
            if self.policy.fail_on_panic:
                return None
            return self._all[priority].pick()
        return (self._degraded if degraded else self._healthy)[priority].pick()

    def rebuild(self, sets: list[HostSet], by_weight: bool) -> None:
        """Take new host sets, by priority."""
        threshold = self.policy.panic_threshold
        threshold = float(self._runtime.integer("upstream.healthy_panic_threshold", int(threshold)))
        load = load_of(sets, threshold, by_weight) if sets else Load((100,), (0,), (threshold > 0,))
        kept: dict[tuple[int, str, Locality | None], Rotation] = {}
        old, self._rotations = self._rotations, kept
        self._load = load
        self._only = None
        if self.policy.hashes:
            self._sets = sets
            self._tables = [None] * len(sets)
            return
        if not sets:
            self._healthy = self._degraded = self._all = [Nobody([])]
        else:
            self._healthy = [
                self._source(i, "healthy", hosts, hosts.healthy, old) for i, hosts in enumerate(sets)
            ]
            self._degraded = [
                self._source(i, "degraded", hosts, hosts.degraded, old) for i, hosts in enumerate(sets)
            ]
            self._all = [self._picker((i, "all", None), hosts.hosts, old) for i, hosts in enumerate(sets)]
        for priority, share in enumerate(load.healthy):
            if share == 100 and not load.panic[priority]:
                self._only = self._healthy[priority]
        for priority, share in enumerate(load.degraded):
            if share == 100 and not load.panic[priority]:
                self._only = self._degraded[priority]

    def _source(
        self,
        priority: int,
        state: str,
        hosts: HostSet,
        usable: list[Host],
        old: dict[tuple[int, str, Locality | None], Rotation],
    ) -> Picker:
        if not self.policy.locality_weighted or not hosts.locality_weights:
            return self._picker((priority, state, None), usable, old)
        whole = hosts.by_locality(hosts.hosts)
        parts: list[tuple[Picker, float]] = []
        for locality, members in hosts.by_locality(usable).items():
            total = sum(1 for host in whole[locality] if not host.health & EXCLUDED)
            share = min(1.0, hosts.factor / 100.0 * len(members) / total) if total else 0.0
            weight = hosts.locality_weights.get(locality, 0) * share
            if weight > 0:
                parts.append((self._picker((priority, state, locality), members, old), weight))
        if not parts:
            return self._picker((priority, state, None), usable, old)
        return ByLocality(usable, parts, self._seed)

    def _picker(
        self,
        key: tuple[int, str, Locality | None],
        hosts: list[Host],
        old: dict[tuple[int, str, Locality | None], Rotation],
    ) -> Picker:
        if not hosts:
            return Nobody(hosts)
        policy = self.policy
        if policy.algorithm is Algorithm.RANDOM:
            return AnyHost(hosts, self._random)
        weight = hosts[0].weight
        equal = all(host.weight == weight for host in hosts)
        if policy.algorithm is Algorithm.LEAST_REQUEST:
            if not equal:
                bias = policy.bias
                if policy.bias_key:
                    bias = self._runtime.number(policy.bias_key, bias)
                return WeightedLeast(hosts, self._seed, bias if bias >= 0.0 else 1.0)
            if policy.full_scan:
                return LeastOfAll(hosts, self._random)
            return Least(hosts, self._random, policy.choice_count)
        if not equal:
            weights = [host.weight for host in hosts]
            if sum(weights) // gcd(*weights) > LONGEST_ROUND:
                return Weighted(hosts, self._seed)
            return Rotation([hosts[index] for index in order(weights)], self._seed)
        before = old.get(key)
        rotation = Rotation(hosts, self._seed if before is None else before.index)
        self._rotations[key] = rotation
        return rotation
