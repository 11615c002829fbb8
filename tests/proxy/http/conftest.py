"""One connection manager before one cluster, all in memory; when it ends, nothing may be left of it."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from weft.testing.peer import Upstream
from weft.testing.proxy import proxy
from weft.testing.transcript import read_message

TYPES = "type.googleapis.com/envoy.extensions."
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


def config(hcm, routes, cluster, buffer, node, more=()):
    manager = {
        "@type": TYPES + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "m",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        *routes,
                        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": {"inline_string": "here"}}},
                        {"match": {"prefix": "/"}, "route": {"cluster": "u"}},
                    ],
                }
            ]
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": TYPES + "filters.http.router.v3.Router"}}],
        **hcm,
    }  # fmt: skip
    limit = {} if buffer is None else {"per_connection_buffer_limit_bytes": buffer}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 80}}
    endpoint = {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 81}}}
    return json.dumps(
        {
            "node": node,
            "static_resources": {
                "listeners": [
                    {
                        "name": "m",
                        "address": address,
                        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                        **limit,
                    }
                ],
                "clusters": [
                    {
                        "name": "u",
                        "connect_timeout": "1s",
                        "load_assignment": {"cluster_name": "u", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
                        **limit,
                        **cluster,
                    },
                    *more,
                ],
            },
        }
    )  # fmt: skip


class World:
    def __init__(self, running, upstream):
        self.running = running
        self.upstream = upstream
        self.clients = []

    async def client(self, **more):
        self.clients.append(await self.running.connect("m", **more))
        return self.clients[-1]

    async def ask(self, client, data=GET, **more):
        client.send(data)
        return await read_message(client, request=False, **more)

    async def request(self, peer=None):
        """The next request at the upstream, on ``peer`` or a new connection."""
        if peer is None:
            peer = await self.upstream.accept()
        return peer, await read_message(peer, request=True)

    async def exchange(self, data=GET, answer=OK, **more):
        """One request on a connection of its own: what the host saw, and what the client got."""
        client = await self.client()
        client.send(data)
        peer, request = await self.request()
        peer.send(answer)
        response = await read_message(client, request=False, **more)
        client.close()
        return request, response

    def stat(self, name):
        """Of the connection manager; with a dot: by its whole name."""
        return self.running.stat(name if "." in name else "http.m." + name)

    def gauges(self):
        return {
            name: value
            for name, value in self.running.stats().items()
            if name.endswith(("_active", "_buffered")) and name.startswith(("http.", "cluster.", "listener."))
        }

    def armed(self):
        """Deadlines of somebody that would expire."""
        heap = self.running.worker.deadlines._heap
        return {type(one).__name__ for when, _, one in heap if one.queued == when and one.when}

    def limits(self):
        limits = self.running.worker.context.clusters.get("u").limits[0]
        return (limits.connections, limits.requests, limits.pending)

    async def rest(self):
        """Until everything that is ready has happened: only then the clock moves."""
        await asyncio.sleep(1e-6)

    async def end(self):
        for client in self.clients:
            client.close()
        self.upstream.close()
        await asyncio.sleep(3)
        assert self.gauges() == {}
        assert self.armed() == set()
        assert self.limits() == (0, 0, 0)
        assert self.running.connections == 0
        assert self.stat("downstream_cx_total") == self.stat("downstream_cx_destroy")


@asynccontextmanager
async def running_world(*, hcm=None, routes=(), cluster=None, buffer=None, filters=(), node=None, bugs=0, clusters=()):
    """``bugs``: how many tracebacks are expected to be logged; ``clusters``: besides ``u``."""
    text = config(hcm or {}, routes, cluster or {}, buffer, node or {}, clusters)
    async with (
        await Upstream.listen("10.0.0.1", 81) as upstream,
        proxy(text, http_filters=filters) as running,
    ):
        world = World(running, upstream)
        yield world
        await world.end()
        assert len(running.bugs) == bugs, "\n".join(running.bugs)
        running.bugs.clear()


@pytest.fixture
def world():
    return running_world
