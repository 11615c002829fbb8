"""A process that exists only as what its admin pages show."""

from collections.abc import Mapping
from typing import Any

import pytest

from weft.proxy.admin.view import (
    ClusterStatus,
    Configuration,
    HostStatus,
    LimitStatus,
    ListenerStatus,
    MemoryStatus,
    Outcome,
    RuntimeEntry,
    RuntimeStatus,
    ServerInfo,
)
from weft.proxy.context import Identity
from weft.proxy.explain.tables import Sources
from weft.proxy.observe.histogram import Histogram
from weft.proxy.observe.stats import Snapshot
from weft.proxy.observe.tags import DEFAULT, StatsSettings


def histogram(*samples: int) -> Histogram:
    out = Histogram()
    for sample in samples:
        out.record(sample)
    return out


class FakeView:
    """``orders`` is the transcript of what was asked to be done."""

    def __init__(self) -> None:
        self.orders: list[Any] = []
        self.settings = DEFAULT
        self.stats = Snapshot()
        self.recent: Snapshot | None = None
        self.cluster_list: list[ClusterStatus] = []
        self.listener_list: list[ListenerStatus] = []
        self.config = Configuration(bootstrap=None)
        self.not_ready: list[tuple[str, list[str]]] = []
        self.state = "LIVE"
        self.levels = {"admin": "info", "http": "info", "upstream": "info"}
        self.modifiable = True
        self.outcome = Outcome(ok=True)
        self.sources = Sources(tables=())

    @property
    def stats_settings(self) -> StatsSettings:
        return self.settings

    def now(self) -> float:
        return 1_000_000_000.0

    async def snapshot(self) -> Snapshot:
        return self.stats

    async def interval(self) -> Snapshot | None:
        return self.recent

    async def clusters(self) -> list[ClusterStatus]:
        return self.cluster_list

    async def listeners(self) -> list[ListenerStatus]:
        return self.listener_list

    async def configuration(self) -> Configuration:
        return self.config

    async def unready(self) -> list[tuple[str, list[str]]]:
        return self.not_ready

    def server_info(self) -> ServerInfo:
        return ServerInfo(
            version="abc/1.2.3/Clean/RELEASE/none",
            state=self.state,
            uptime_current_epoch=9.7,
            uptime_all_epochs=65.0,
            hot_restart_version="weft.1",
            options={"base_id": "0", "concurrency": 1},
            identity=Identity(node_id="n0", cluster="c0", zone="z1", region="r1"),
            extensions={"envoy.filters.http": [("envoy.filters.http.router", "envoy.extensions.x.Router")]},
        )

    async def memory(self) -> MemoryStatus:
        return MemoryStatus(allocated=100, heap_size=200, total_physical_bytes=300)

    def runtime(self) -> RuntimeStatus:
        return RuntimeStatus(
            layers=["base", "adm"],
            entries={
                "n": RuntimeEntry(final_value="1", layer_values=["1", ""]),
                "a.b": RuntimeEntry(final_value="true", layer_values=["", "true"]),
            },
            modifiable=self.modifiable,
        )

    def route_sources(self) -> Sources:
        return self.sources

    async def modify_runtime(self, values: Mapping[str, str]) -> Outcome:
        self.orders.append(("runtime", dict(values)))
        return self.outcome

    def log_levels(self) -> dict[str, str]:
        return dict(self.levels)

    async def set_log_level(self, level: str, component: str = "") -> bool:
        for name in [component] if component else list(self.levels):
            self.levels[name] = level
        return True

    async def reset_counters(self) -> None:
        self.orders.append("reset")

    async def healthcheck(self, *, fail: bool) -> None:
        self.orders.append(("healthcheck", fail))
        self.state = "DRAINING" if fail else "LIVE"

    async def drain_listeners(self, *, graceful: bool, inbound_only: bool, skip_exit: bool) -> Outcome:
        self.orders.append(("drain", graceful, inbound_only, skip_exit))
        return self.outcome

    async def reopen_logs(self) -> None:
        self.orders.append("reopen")

    async def reload(self, *, dry_run: bool) -> Outcome:
        self.orders.append(("reload", dry_run))
        return self.outcome

    def quit(self) -> None:
        self.orders.append("quit")


@pytest.fixture
def view() -> FakeView:
    return FakeView()


@pytest.fixture
def web() -> ClusterStatus:
    return ClusterStatus(
        name="web",
        default=LimitStatus(max_connections=7),
        high=LimitStatus(max_retries=9),
        hosts=[
            HostStatus(
                address="127.0.0.1:18099",
                weight=3,
                region="a",
                zone="b",
                sub_zone="c",
                counters={"cx_connect_fail": 3, "cx_total": 3, "rq_error": 3},
                gauges={"cx_active": 1},
            ),
            HostStatus(
                address="127.0.0.2:18099",
                hostname="h2",
                flags=["eds_status_draining"],
                canary=True,
                priority=1,
            ),
        ],
    )
