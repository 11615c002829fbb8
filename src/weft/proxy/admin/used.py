"""``usedonly``: which stats have been written since the start.

Envoy keeps a bit for each stat.  Weft writes plain integers and keeps none, so it is told from the
values: a counter or histogram that is not zero was used; a gauge that is back at zero was used when
the counter it goes with was.
"""

from typing import Final

from weft.proxy.observe.stats import Snapshot

_COMPANIONS: Final[tuple[tuple[str, str], ...]] = (
    ("_active", "_total"),
    ("_bytes_buffered", "_bytes_total"),
    ("_buffered", "_total"),
)
"""Endings: of a gauge, of the counter that grows whenever the gauge is first written."""

_ALWAYS: Final = (
    "membership_total",
    "membership_healthy",
    "membership_degraded",
    "membership_excluded",
    "warming_state",
    "max_host_weight",
)
"""Written when a cluster is built."""

_ALWAYS_FIRST: Final = frozenset(("server", "listener_manager", "cluster_manager", "runtime"))


def used_gauge(name: str, value: int, counters: dict[str, int]) -> bool:
    if value:
        return True
    for ending, companion in _COMPANIONS:
        if name.endswith(ending):
            return counters.get(name[: -len(ending)] + companion, 0) != 0
    first, _, _ = name.partition(".")
    if first in _ALWAYS_FIRST:
        return True
    last = name.rpartition(".")[2]
    if last in _ALWAYS:
        return True
    if ".circuit_breakers." in name and last in ("cx_open", "cx_pool_open", "rq_open", "rq_pending_open"):
        return counters.get(name.partition(".circuit_breakers.")[0] + ".upstream_cx_total", 0) != 0
    return False


def only_used(snapshot: Snapshot) -> Snapshot:
    out = Snapshot()
    out.counters = {name: value for name, value in snapshot.counters.items() if value}
    out.gauges = {
        name: value for name, value in snapshot.gauges.items() if used_gauge(name, value, snapshot.counters)
    }
    out.texts = {name: value for name, value in snapshot.texts.items() if value}
    out.histograms = {name: value for name, value in snapshot.histograms.items() if value[1].count}
    return out
