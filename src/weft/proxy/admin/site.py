"""What is at which path: every admin endpoint, served from an :class:`AdminView`."""

import re
from collections.abc import Callable
from typing import Any, Final

from weft.proxy.admin import info_pages
from weft.proxy.admin.clusters_page import clusters_steps, listeners_page
from weft.proxy.admin.endpoints import Endpoint, Parameter, help_text, home_page
from weft.proxy.admin.query import AdminRequest, Answer, Refused, parse_query
from weft.proxy.admin.stats_page import StatsQuery, stats_query, stats_steps
from weft.proxy.admin.view import AdminView, Outcome
from weft.proxy.observe.tags import Matches, TagExtractor
from weft.steps import patiently

_SLASHES: Final = re.compile(r"//+")

_STATS: Final = (
    Parameter("usedonly", "Only stats that have been written since the start", flag=True),
    Parameter("filter", "Only stats whose name this regular expression (RE2) finds something in"),
    Parameter("invert_filter", "Only stats that the filter does not match", flag=True),
)


class Site:
    """Answers requests.  Knows no socket: ``admin/server.py`` does."""

    def __init__(self, view: AdminView, allow_paths: tuple[Matches, ...] = ()) -> None:
        self._view = view
        self._allow_paths = allow_paths
        self._extractor: TagExtractor | None = None
        self._extractor_for: Any = None
        self._lookups = False
        listed = [Endpoint("/", "This page", self._home), *self._reads(), *self._orders()]
        self._endpoints = sorted(listed, key=lambda endpoint: endpoint.path)
        self._by_path = {endpoint.path: endpoint for endpoint in self._endpoints}

    async def answer(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> Answer:
        """Never raises for a request that is wrong, only for a bug."""
        path, _, query = target.partition("?")
        path = normal_path(path)
        asked = path + target[target.find("?") :] if "?" in target else path
        if self._allow_paths and not any(allowed(asked) for allowed in self._allow_paths):
            return Answer(body=f"request to path {asked} not allowed", status=403)
        endpoint = self._by_path.get(path)
        if endpoint is None:
            return Answer(body="invalid path. " + help_text(self._endpoints), status=404)
        if endpoint.mutates and method != "POST":
            return Answer(body=f"Method {method} not allowed, POST required.", status=405)
        request = AdminRequest(
            method=method, path=path, query=parse_query(query), body=body, content_type=content_type
        )
        try:
            return await endpoint.serve(request)
        except Refused as refused:
            return refused.answer

    # -- the list --------------------------------------------------------------------------------

    def _reads(self) -> list[Endpoint]:
        buckets = Parameter(
            "histogram_buckets", "How histograms are shown", ("cumulative", "disjoint", "detailed", "summary")
        )
        text_or_json = Parameter("format", "Output format", ("text", "json"))
        return [
            Endpoint("/certs", "Certificates in use", self._certs),
            Endpoint(
                "/clusters",
                "Clusters and their hosts",
                self._clusters,
                False,
                (
                    Parameter(
                        "filter", "Only clusters whose name this regular expression (RE2) finds something in"
                    ),
                    text_or_json,
                ),
            ),
            Endpoint(
                "/config_dump",
                "The configuration that runs; secrets are redacted",
                self._config_dump,
                False,
                (
                    Parameter("resource", "Only the resources of this list, such as dynamic_listeners"),
                    Parameter(
                        "mask", "Only these fields (a field mask), of every element when resource is given"
                    ),
                    Parameter(
                        "name_regex", "Only resources whose whole name matches this regular expression (RE2)"
                    ),
                    Parameter("include_eds", "The endpoints of every cluster too", flag=True),
                ),
            ),
            Endpoint("/contention", "Lock contention; Weft's workers share no locks", self._contention),
            Endpoint("/heap_dump", "Heap dump; not available", self._no_heap),
            Endpoint("/help", "This list as text", self._help),
            Endpoint(
                "/hot_restart_version", "Version of the hot-restart protocol", self._hot_restart_version
            ),
            Endpoint(
                "/init_dump",
                "What is still initializing",
                self._init_dump,
                False,
                (Parameter("mask", "Only targets of this part, such as listener"),),
            ),
            Endpoint("/listeners", "Listeners and their addresses", self._listeners, False, (text_or_json,)),
            Endpoint("/memory", "Memory in use, main and workers together", self._memory),
            Endpoint("/ready", "The state of the server; status 200 when it is LIVE, else 503", self._ready),
            Endpoint("/runtime", "Runtime values, layer by layer", self._runtime),
            Endpoint("/server_info", "Version, state, command line and node", self._server_info),
            Endpoint(
                "/stats",
                "Stats",
                self._stats,
                False,
                (
                    *_STATS,
                    Parameter("format", "Output format", ("html", "text", "json", "prometheus")),
                    Parameter(
                        "type", "Kinds of stats", ("All", "Counters", "Histograms", "Gauges", "TextReadouts")
                    ),
                    buckets,
                ),
            ),
            Endpoint(
                "/stats/prometheus",
                "Stats in the Prometheus text format",
                self._prometheus,
                False,
                (
                    *_STATS,
                    Parameter("text_readouts", "Texts too, as gauges with the text in a label", flag=True),
                    Parameter("histogram_buckets", "How histograms are shown", ("cumulative", "summary")),
                ),
            ),
            Endpoint(
                "/stats/recentlookups", "Stats looked up by name; Weft looks none up", self._recent_lookups
            ),
        ]

    def _orders(self) -> list[Endpoint]:
        switch = (Parameter("enable", "Start or stop", ("y", "n")),)
        return [
            Endpoint("/cpuprofiler", "CPU profiler; not available", self._profiler("CPU"), True, switch),
            Endpoint("/heapprofiler", "Heap profiler; not available", self._profiler("heap"), True, switch),
            Endpoint(
                "/drain_listeners",
                "Close the listeners and let their connections end",
                self._drain_listeners,
                True,
                (
                    Parameter("graceful", "Ask clients to leave first, for the drain time", flag=True),
                    Parameter("skip_exit", "Drain connections, and keep the listeners open", flag=True),
                    Parameter("inboundonly", "Only listeners whose traffic_direction is INBOUND", flag=True),
                ),
            ),
            Endpoint(
                "/healthcheck/fail", "Answer health checks as failed", self._healthcheck(fail=True), True
            ),
            Endpoint(
                "/healthcheck/ok", "Answer health checks as usual again", self._healthcheck(fail=False), True
            ),
            Endpoint(
                "/logging",
                "Show or change log levels; one change in one request",
                self._logging,
                True,
                (
                    Parameter("level", "Level for every component", info_pages.LEVELS),
                    Parameter("paths", "Levels of some: <component>:<level>,<component>:<level>"),
                ),
            ),
            Endpoint("/quitquitquit", "End the server", self._quit, True),
            Endpoint(
                "/reload",
                "Read the configuration file again, and change what differs",
                self._reload,
                True,
                (Parameter("dry_run", "Only tell what would change", flag=True),),
            ),
            Endpoint("/reopen_logs", "Reopen access logs", self._reopen_logs, True),
            Endpoint(
                "/route/explain",
                "Which route a request would take, and why no other: JSON in the body",
                self._explain,
                True,
                (Parameter("format", "Output format", ("json", "text")),),
            ),
            Endpoint("/reset_counters", "Set every counter to zero", self._reset_counters, True),
            Endpoint(
                "/runtime_modify",
                "Set runtime values: ?key=value&key2=value2; an empty value takes an override away",
                self._runtime_modify,
                True,
            ),
            Endpoint("/stats/recentlookups/clear", "Forget the lookups", self._lookups_switch(None), True),
            Endpoint(
                "/stats/recentlookups/disable", "Stop recording lookups", self._lookups_switch(False), True
            ),
            Endpoint("/stats/recentlookups/enable", "Record lookups", self._lookups_switch(True), True),
        ]

    # -- pages -----------------------------------------------------------------------------------

    async def _home(self, request: AdminRequest) -> Answer:
        return home_page(self._endpoints)

    async def _help(self, request: AdminRequest) -> Answer:
        return Answer(body=help_text(self._endpoints))

    async def _certs(self, request: AdminRequest) -> Answer:
        return info_pages.certs_page()

    async def _clusters(self, request: AdminRequest) -> Answer:
        return await patiently(clusters_steps(request, await self._view.clusters()))

    async def _listeners(self, request: AdminRequest) -> Answer:
        return listeners_page(request, await self._view.listeners())

    async def _config_dump(self, request: AdminRequest) -> Answer:
        from weft.api.dump import dict_steps
        from weft.proxy.admin.config_dump import config_dump_steps

        clusters = await self._view.clusters() if "include_eds" in request.query else []
        configuration = await self._view.configuration()
        return await patiently(config_dump_steps(request, configuration, clusters, dict_steps))

    async def _contention(self, request: AdminRequest) -> Answer:
        return Answer(
            body="Weft's workers are processes that share no locks: there is no contention to show.\n"
        )

    async def _no_heap(self, request: AdminRequest) -> Answer:
        return Answer(body="Weft does not make heap dumps; see /memory.\n", status=501)

    async def _hot_restart_version(self, request: AdminRequest) -> Answer:
        return Answer(body=self._view.server_info().hot_restart_version)

    async def _init_dump(self, request: AdminRequest) -> Answer:
        return await info_pages.init_dump_page(request, self._view)

    async def _memory(self, request: AdminRequest) -> Answer:
        return info_pages.memory_page(await self._view.memory())

    async def _ready(self, request: AdminRequest) -> Answer:
        return info_pages.ready_page(self._view.server_info())

    async def _runtime(self, request: AdminRequest) -> Answer:
        return info_pages.runtime_page(self._view.runtime())

    async def _server_info(self, request: AdminRequest) -> Answer:
        return info_pages.server_info_page(self._view.server_info())

    async def _stats(self, request: AdminRequest) -> Answer:
        query = stats_query(request)
        if query.format == "prometheus":
            return await self._prometheus_answer(query)
        if query.buckets == "prometheusnative":
            raise Refused("Invalid histogram_buckets type for non prometheus stats type")
        snapshot, interval = await self._view.snapshot(), await self._view.interval()
        return await patiently(stats_steps(query, snapshot, interval, self._view.stats_settings))

    async def _prometheus(self, request: AdminRequest) -> Answer:
        return await self._prometheus_answer(stats_query(request))

    async def _prometheus_answer(self, query: StatsQuery) -> Answer:
        from weft.proxy.admin.prometheus import prometheus_page

        settings = self._view.stats_settings
        extractor = self._extractor
        if extractor is None or self._extractor_for is not settings:
            extractor = self._extractor = TagExtractor(settings)
            self._extractor_for = settings
        snapshot = await self._view.snapshot()
        return await prometheus_page(query, snapshot, await self._view.interval(), settings, extractor)

    async def _recent_lookups(self, request: AdminRequest) -> Answer:
        if not self._lookups:
            return Answer(
                body="Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\ntotal: 0\n"
            )
        return Answer(body="   Count Lookup\n\ntotal: 0\n")

    # -- orders ----------------------------------------------------------------------------------

    def _profiler(self, what: str) -> Callable[[AdminRequest], Any]:
        async def serve(request: AdminRequest) -> Answer:
            if request.query.get("enable") not in ("y", "n"):
                raise Refused("?enable=<y|n>\n")
            if request.query["enable"] == "n":
                return Answer(body="OK\n")
            raise Refused(
                f"Weft has no {what} profiler of its own. A profiler that attaches to a process, such as py-spy, "
                "works on main and on every worker.\n",
                501,
            )

        return serve

    def _healthcheck(self, *, fail: bool) -> Callable[[AdminRequest], Any]:
        async def serve(request: AdminRequest) -> Answer:
            await self._view.healthcheck(fail=fail)
            return Answer(body="OK\n")

        return serve

    def _lookups_switch(self, on: bool | None) -> Callable[[AdminRequest], Any]:
        async def serve(request: AdminRequest) -> Answer:
            if on is not None:
                self._lookups = on
            return Answer(body="OK\n")

        return serve

    async def _drain_listeners(self, request: AdminRequest) -> Answer:
        return _outcome(
            await self._view.drain_listeners(
                graceful="graceful" in request.query,
                inbound_only="inboundonly" in request.query,
                skip_exit="skip_exit" in request.query,
            )
        )

    async def _logging(self, request: AdminRequest) -> Answer:
        return await info_pages.logging_page(request, self._view)

    async def _quit(self, request: AdminRequest) -> Answer:
        self._view.quit()
        return Answer(body="OK\n")

    async def _reload(self, request: AdminRequest) -> Answer:
        return _outcome(await self._view.reload(dry_run="dry_run" in request.query))

    async def _reopen_logs(self, request: AdminRequest) -> Answer:
        await self._view.reopen_logs()
        return Answer(body="OK\n")

    async def _explain(self, request: AdminRequest) -> Answer:
        from weft.proxy.admin.explain_page import explain_steps

        return await patiently(explain_steps(request, self._view.route_sources()))

    async def _reset_counters(self, request: AdminRequest) -> Answer:
        await self._view.reset_counters()
        return Answer(body="OK\n")

    async def _runtime_modify(self, request: AdminRequest) -> Answer:
        return await info_pages.modify_runtime(request, self._view)


def _outcome(outcome: Outcome) -> Answer:
    text = outcome.text or ("OK" if outcome.ok else "failed")
    return Answer(body=text if text.endswith("\n") else text + "\n", status=200 if outcome.ok else 400)


def normal_path(path: str) -> str:
    """Slashes merged and dot segments resolved, as Envoy's admin listener does before it looks."""
    if "//" in path:
        path = _SLASHES.sub("/", path)
    if "/." not in path:
        return path
    out: list[str] = []
    for part in path.split("/")[1:]:
        if part == "..":
            if out:
                out.pop()
        elif part != ".":
            out.append(part)
    return "/" + "/".join(out)
