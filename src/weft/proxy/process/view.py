"""What the admin pages see of the process: :class:`~weft.proxy.admin.view.AdminView` over main."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from weft.api.problems import Where
from weft.api.schema import parse
from weft.proxy import extensions
from weft.proxy.admin.view import (
    ClusterStatus,
    Configuration,
    ListenerStatus,
    MemoryStatus,
    Outcome,
    Resource,
    RuntimeEntry,
    RuntimeStatus,
    ServerInfo,
    merge_clusters,
)
from weft.proxy.assemble import route_configs
from weft.proxy.observe import logging
from weft.proxy.observe.stats import Snapshot
from weft.proxy.observe.tags import StatsSettings
from weft.proxy.process.runtime_layers import parsed, text_of
from weft.proxy.process.server import Server
from weft.proxy.process.server_stats import STATE_NAMES
from weft.proxy.process.version import version
from weft.proxy.process.worker import memory_of_this_process
from weft.steps import Steps, patiently

if TYPE_CHECKING:
    from weft.proxy.explain.tables import Sources


class ProcessView:
    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def stats_settings(self) -> StatsSettings:
        return self._server.settings.stats

    def now(self) -> float:
        return time.time()

    # -- what there is -----------------------------------------------------------------------------

    async def snapshot(self) -> Snapshot:
        return await self._server.snapshot()

    async def interval(self) -> Snapshot | None:
        return self._server.intervals.latest

    async def clusters(self) -> list[ClusterStatus]:
        parts = await self._server.workers.clusters()
        return parts[0] if len(parts) == 1 else merge_clusters(parts)

    async def listeners(self) -> list[ListenerStatus]:
        server = self._server
        return [
            ListenerStatus(name=listener.name, addresses=server.sockets.addresses(listener))
            for listener in server.settings.listeners
        ]

    async def configuration(self) -> Configuration:
        return await patiently(self._configuration())

    def _configuration(self) -> Steps[Configuration]:
        server = self._server
        settings = server.settings
        clusters: list[Resource] = []
        for one in settings.clusters:
            message = parse("envoy.config.cluster.v3.Cluster", one.message_bytes)
            clusters.append(self._resource("cluster", one.name, message))
            yield 5
        listeners = [
            self._resource("listener", one.name, parse("envoy.config.listener.v3.Listener", one.message_bytes))
            for one in settings.listeners
        ]
        routes = [
            Resource(name=config.name, message=config, last_updated=listener.last_updated)
            for listener in listeners
            for config, _ in route_configs(listener.message, Where.nowhere())
        ]
        return Configuration(
            bootstrap=parse("envoy.config.bootstrap.v3.Bootstrap", settings.bootstrap),
            bootstrap_updated=server.born,
            clusters=clusters,
            listeners=listeners,
            routes=routes,
        )

    def _resource(self, kind: str, name: str, message: Any) -> Resource:
        updated = self._server.updated.get(f"{kind}/{name}", self._server.born)
        return Resource(name=name, message=message, last_updated=updated)

    async def unready(self) -> list[tuple[str, list[str]]]:
        warming = await self._server.workers.warming()
        return [("init manager Server", [f"cluster {name}" for name in warming])] if warming else []

    def server_info(self) -> ServerInfo:
        server = self._server
        uptime = time.time() - server.born
        state = "DRAINING" if server.healthcheck_failed else STATE_NAMES[server.server_stats.state]
        return ServerInfo(
            version=version(),
            state=state,
            uptime_current_epoch=uptime,
            uptime_all_epochs=uptime,
            options=server.options.as_envoy_prints(),
            identity=server.settings.identity,
            extensions={
                name: [(entry.name, entry.type) for entry in extensions.BUILT_IN[category]]
                for category, name in extensions.ENVOY_CATEGORIES.items()
            },
        )

    async def memory(self) -> MemoryStatus:
        parts = [memory_of_this_process(), *await self._server.workers.memory()]
        allocated = sum(part["allocated"] for part in parts)
        return MemoryStatus(
            allocated=allocated,
            heap_size=sum(part["physical"] for part in parts),
            total_physical_bytes=sum(part["physical"] for part in parts),
        )

    def runtime(self) -> RuntimeStatus:
        server = self._server
        layers = server.settings.runtime
        texts: list[dict[str, str]] = []
        for layer in layers:
            values = {key: parsed(text) for key, text in server.overrides.items()} if layer.admin else layer.values
            texts.append({key: text_of(value) for key, value in values.items()})
        entries: dict[str, RuntimeEntry] = {}
        for key in sorted({key for layer in texts for key in layer}):
            values_of = [layer.get(key, "") for layer in texts]
            final = next(text for text in reversed(values_of) if text)
            entries[key] = RuntimeEntry(final_value=final, layer_values=values_of)
        return RuntimeStatus(
            layers=[layer.name for layer in layers],
            entries=entries,
            modifiable=any(layer.admin for layer in layers),
        )

    def route_sources(self) -> "Sources":
        from weft.proxy.explain.sources import sources_of

        return sources_of(self._server.settings, self._server.overrides)

    def log_levels(self) -> dict[str, str]:
        return logging.levels()

    # -- what can be done --------------------------------------------------------------------------

    async def modify_runtime(self, values: Mapping[str, str]) -> Outcome:
        if not any(layer.admin for layer in self._server.settings.runtime):
            return Outcome(ok=False, text="No admin layer specified")
        self._server.override_runtime(dict(values))
        return Outcome(ok=True, text="OK\n")

    async def set_log_level(self, level: str, component: str = "") -> bool:
        if not logging.set_level(level, component):
            return False
        self._server.workers.set_log_level(level, component)
        return True

    async def reset_counters(self) -> None:
        self._server.stats.reset_counters()
        self._server.workers.reset_counters()

    async def healthcheck(self, *, fail: bool) -> None:
        self._server.healthcheck_failed = fail
        self._server.workers.fail_healthcheck(fail)

    async def drain_listeners(self, *, graceful: bool, inbound_only: bool, skip_exit: bool) -> Outcome:
        self._server.drain_listeners(graceful=graceful, inbound_only=inbound_only, skip_exit=skip_exit)
        return Outcome(ok=True, text="OK\n")

    async def reopen_logs(self) -> None:
        self._server.reopen_logs()

    async def reload(self, *, dry_run: bool) -> Outcome:
        ok, text = await self._server.reload(dry_run=dry_run)
        return Outcome(ok=ok, text=text + "\n")

    def quit(self) -> None:
        self._server.end()
