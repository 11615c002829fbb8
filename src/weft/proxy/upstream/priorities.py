"""How load is shared among the priorities of a cluster, in whole percent.

Requests go to the first priority as long as it is healthy.  Its health is overestimated by the
overprovisioning factor (1.4: with 72 % of its hosts it still counts as whole); what it cannot bear
spills over to the next.  Where too few hosts are healthy anywhere (*panic*), health is taken to be
what is wrong and all hosts are used.  Recomputed when hosts change, never per request.
"""

from dataclasses import dataclass

from weft.proxy.upstream.host import Host, HostSet


@dataclass(frozen=True, slots=True)
class Load:
    """Shares of load by priority; ``healthy`` and ``degraded`` together add up to 100."""

    healthy: tuple[int, ...]
    degraded: tuple[int, ...]
    panic: tuple[bool, ...]

    def choose(self, value: int) -> tuple[int, bool]:
        """(priority, degraded) for a random value of any size."""
        left = value % 100 + 1
        for priority in range(len(self.healthy)):
            left -= self.healthy[priority]
            if left <= 0:
                return priority, False
        for priority in range(len(self.degraded)):
            left -= self.degraded[priority]
            if left <= 0:
                return priority, True
        return 0, False


def load_of(sets: list[HostSet], threshold: float, by_weight: bool) -> Load:
    """``threshold``: percent of hosts below which a priority panics; ``by_weight``: hosts count by weight."""
    count = len(sets)
    health = [0] * count
    degraded = [0] * count
    for priority, hosts in enumerate(sets):
        health[priority], degraded[priority] = _availability(hosts, by_weight)
    total = min(100, sum(health) + sum(degraded))
    limit = min(100.0, threshold)
    healthy_load = [0] * count
    degraded_load = [0] * count
    if total:
        left, first_healthy = _distribute(healthy_load, health, 100, total)
        left, first_degraded = _distribute(degraded_load, degraded, left, total)
        if left:  # what rounding left over
            if first_healthy >= 0:
                healthy_load[first_healthy] += left
            else:
                degraded_load[first_degraded] += left
    elif limit == 0:
        healthy_load[0] = 100
        return Load(tuple(healthy_load), tuple(degraded_load), (False,) * count)
    panic = [total != 100 and _panics(hosts, limit) for hosts in sets]
    if all(panic):
        healthy_load, degraded_load = _panic_load(sets), [0] * count
    return Load(tuple(healthy_load), tuple(degraded_load), tuple(panic))


def _availability(hosts: HostSet, by_weight: bool) -> tuple[int, int]:
    """Percent of healthy and of degraded hosts, overprovisioned, at most 100."""
    total = len(hosts.hosts) - hosts.excluded
    if total <= 0:
        return 0, 0
    healthy, degraded = len(hosts.healthy), len(hosts.degraded)
    if by_weight:
        total = _weight(hosts.hosts)
        healthy, degraded = _weight(hosts.healthy), _weight(hosts.degraded)
    factor = hosts.factor
    return min(100, factor * healthy // total), min(100, factor * degraded // total)


def _weight(hosts: list[Host]) -> int:
    return sum(host.weight for host in hosts)


def _distribute(load: list[int], availability: list[int], left: int, total: int) -> tuple[int, int]:
    """Share out ``left`` by availability; what is left, and the first priority that can take any."""
    first = -1
    for priority, percent in enumerate(availability):
        if first < 0 and percent > 0:
            first = priority
        load[priority] = min(left, 100 * percent // total)
        left -= load[priority]
    return left, first


def _panics(hosts: HostSet, threshold: float) -> bool:
    total = len(hosts.hosts) - hosts.excluded
    if total <= 0:
        return threshold > 0
    return 100.0 * (len(hosts.healthy) + len(hosts.degraded)) / total < threshold


def _panic_load(sets: list[HostSet]) -> list[int]:
    """By number of hosts, whatever their health."""
    counts = [len(hosts.hosts) for hosts in sets]
    total = sum(counts)
    if not total:
        return [100] + [0] * (len(sets) - 1)
    load = [100 * count // total for count in counts]
    first = next(priority for priority, count in enumerate(counts) if count)
    load[first] += 100 - sum(load)
    return load
