"""Filters before the terminal: connection limits, rate limits, filters that see bytes."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from weft.api.problems import Where
from weft.proxy.address import NOWHERE
from weft.proxy.network.connection import Connection, NetworkFilter
from weft.proxy.network.filtered import FilteredTransport, sees_data
from weft.proxy.network.local_ratelimit import local_ratelimit_settings
from weft.proxy.observe.stream_info import ConnectionInfo
from weft.testing.proxy import proxy

TYPES = "type.googleapis.com/envoy.extensions.filters.network."
ECHO = {"name": "echo", "typed_config": {"@type": TYPES + "echo.v3.Echo"}}


def limit(**fields):
    type = TYPES + "connection_limit.v3.ConnectionLimit"
    return {
        "name": "limit",
        "typed_config": {"@type": type, "stat_prefix": "c", "max_connections": 1, **fields},
    }


def rate(most=2, **fields):
    type = TYPES + "local_ratelimit.v3.LocalRateLimit"
    bucket = {"max_tokens": most, "tokens_per_fill": 1, "fill_interval": "10s"}
    return {
        "name": "rate",
        "typed_config": {"@type": type, "stat_prefix": "r", "token_bucket": bucket, **fields},
    }


@asynccontextmanager
async def running(*filters, runtime=None):
    address = {"socket_address": {"address": "10.0.0.1", "port_value": 80}}
    main = {"name": "main", "address": address, "filter_chains": [{"filters": [*filters, ECHO]}]}
    bootstrap = {"static_resources": {"listeners": [main]}}
    if runtime:
        bootstrap["layered_runtime"] = {"layers": [{"name": "s", "static_layer": runtime}]}
    async with proxy(json.dumps(bootstrap)) as it:
        yield it


async def echoes(client):
    client.send(b"x")
    return await client.read_some() == b"x"


async def test_a_connection_too_many_is_closed():
    async with running(limit()) as it:
        first = await it.connect("main")
        assert await echoes(first)
        second = await it.connect("main")
        assert await second.closed() == "eof"
        assert it.stat("connection_limit.c.active_connections") == 1
        assert it.stat("connection_limit.c.limited_connections") == 1
        first.close()
        await asyncio.sleep(0.1)
        third = await it.connect("main")
        assert await echoes(third)
        for client in (second, third):
            client.close()
        await asyncio.sleep(0.1)
        assert it.stat("connection_limit.c.active_connections") == 0
        assert it.connections == 0


async def test_a_connection_too_many_may_be_kept_waiting(loop):
    async with running(limit(delay="3s")) as it:
        first = await it.connect("main")
        assert await echoes(first)
        second = await it.connect("main")
        begun = loop.time()
        second.send(b"x" * 10)
        assert await second.closed() in ("eof", "reset")
        assert loop.time() - begun == pytest.approx(3.0, abs=0.1)
        assert second.total == 0

        third = await it.connect("main")
        third.reset()  # before its time is up
        await asyncio.sleep(5)
        assert it.connections == 1
        for client in (first, second):
            client.close()


@pytest.mark.parametrize(
    ("runtime", "limited"), [({}, False), ({"limit.on": True}, True), ({"limit.on": False}, False)]
)
async def test_the_limit_can_be_switched(runtime, limited):
    flag = {"default_value": False, "runtime_key": "limit.on"}
    async with running(limit(runtime_enabled=flag), runtime=runtime) as it:
        first = await it.connect("main")
        second = await it.connect("main")
        if limited:
            assert await second.closed() == "eof"
        else:
            assert await echoes(second)
        assert it.stat("connection_limit.c.limited_connections") == limited
        first.close()
        second.close()


async def test_connections_come_no_faster_than_the_bucket_fills():
    async with running(rate()) as it:
        good = [await it.connect("main") for _ in range(2)]
        for client in good:
            assert await echoes(client)
        refused = await it.connect("main")
        assert await refused.closed() == "eof"
        assert it.stat("local_rate_limit.r.rate_limited") == 1
        await asyncio.sleep(10)
        later = await it.connect("main")
        assert await echoes(later)
        for client in (*good, refused, later):
            client.close()


async def test_the_order_of_filters_is_theirs():
    # The rate limit comes first, so what the connection limit refuses has cost a token.
    async with running(rate(most=2), limit()) as it:
        clients = [await it.connect("main") for _ in range(3)]
        await asyncio.sleep(0.1)
        assert it.stat("connection_limit.c.limited_connections") == 1
        assert it.stat("local_rate_limit.r.rate_limited") == 1
        for client in clients:
            client.close()


def test_a_share_key_shares_equal_buckets():
    from weft.api.schema import message_class

    def settings(most, key):
        message = message_class("envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit")()
        message.stat_prefix, message.share_key = "r", key
        message.token_bucket.max_tokens = most
        message.token_bucket.fill_interval.seconds = 60
        return local_ratelimit_settings(message, Where.nowhere())

    one, same, other, own = settings(1, "k"), settings(1, "k"), settings(2, "k"), settings(1, "")
    assert one.bucket is same.bucket
    assert one.bucket is not other.bucket
    assert one.bucket is not own.bucket
    assert one.bucket.take(5.0)
    assert not same.bucket.take(5.0)


# -- filters that see bytes ------------------------------------------------------------------------


class Shout(NetworkFilter):
    def on_data(self, connection, data, end):
        return data.upper()


class Censor(NetworkFilter):
    def on_data(self, connection, data, end):
        return None if b"BAD" in data else data


class Watcher(NetworkFilter):
    """Sees nothing of the bytes."""


class Recorder:
    """Stands for a transport and, as terminal, for a protocol."""

    def __init__(self):
        self.protocol = None
        self.got = []
        self.closed = False

    def set_protocol(self, protocol):
        self.protocol = protocol

    def close(self):
        self.closed = True

    def data_received(self, data):
        self.got.append(data)

    def eof_received(self):
        self.got.append("eof")
        return True


def test_bytes_pass_the_filters_in_order():
    assert [sees_data(filter()) for filter in (Shout, Watcher)] == [True, False]
    transport, terminal = Recorder(), Recorder()
    connection = Connection(ConnectionInfo(1, 0.0, NOWHERE, NOWHERE), transport, 0)
    filtered = FilteredTransport(connection, [Shout(), Censor()])
    connection.transport = filtered
    filtered.set_protocol(terminal)

    assert transport.protocol is filtered
    transport.protocol.data_received(b"good")
    assert transport.protocol.eof_received() is True
    assert terminal.got == [b"GOOD", "eof"]
    transport.protocol.data_received(b"bad")
    assert terminal.got == [b"GOOD", "eof"]
    assert transport.closed
    assert filtered.get_extra_info("socket") is None
