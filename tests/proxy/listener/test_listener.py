"""Listeners at work: accepting, listener filters, chains, limits, hand-off, changes and ends."""

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager

import pytest

from weft.api.load import load_bootstrap
from weft.proxy.assemble import server_settings
from weft.testing.network import byte_by_byte
from weft.testing.peer import Client, Upstream
from weft.testing.proxy import proxy

TYPES = "type.googleapis.com/envoy.extensions."
LISTENER = "listener.10.0.0.1_80."


def typed(name, type, **fields):
    return {"name": name, "typed_config": {"@type": TYPES + type, **fields}}


ECHO = typed("echo", "filters.network.echo.v3.Echo")
INSPECTOR = typed("inspector", "filters.listener.http_inspector.v3.HttpInspector")
ORIGINAL_DST = typed("original_dst", "filters.listener.original_dst.v3.OriginalDst")


def answer(text):
    return typed("answer", "filters.network.direct_response.v3.Config", response={"inline_string": text})


def proxy_protocol(**fields):
    return typed("proxy_protocol", "filters.listener.proxy_protocol.v3.ProxyProtocol", **fields)


def address(ip="10.0.0.1", port=80):
    return {"socket_address": {"address": ip, "port_value": port}}


def chain(*filters, match=None, name=""):
    made = {"filters": list(filters or (ECHO,)), "name": name}
    if match is not None:
        made["filter_chain_match"] = match
    return made


def listener(name="main", **fields):
    return {"name": name, "address": address(), "filter_chains": [chain()], **fields}


def bootstrap(*listeners, runtime=None):
    made = {"static_resources": {"listeners": list(listeners)}}
    if runtime:
        made["layered_runtime"] = {"layers": [{"name": "static", "static_layer": runtime}]}
    return json.dumps(made)


def settings_of(*listeners):
    loaded = load_bootstrap(None, bootstrap(*listeners))
    settings = server_settings(loaded.bootstrap, loaded.problems.where).listeners
    loaded.problems.raise_if_any()
    return settings


@asynccontextmanager
async def running(*listeners, runtime=None):
    async with proxy(bootstrap(*listeners, runtime=runtime)) as made:
        yield made


def original(ip, port):
    """Connection tracking's answer for a redirected IPv4 connection."""
    return {(socket.IPPROTO_IP, 80): struct.pack("!HH4s8x", socket.AF_INET, port, socket.inet_aton(ip))}


# -- plain -----------------------------------------------------------------------------------------


async def test_a_connection_is_counted_from_its_beginning_to_its_end():
    async with running(listener()) as it:
        client = await it.connect("main")
        client.send(b"hello")
        assert await client.read(5) == b"hello"
        assert it.stat(LISTENER + "downstream_cx_active") == 1
        assert it.stat(LISTENER + "worker_0.downstream_cx_active") == 1
        assert it.connections == 1

        client.send_eof()
        assert await client.closed() == "eof"
        client.close()
        await asyncio.sleep(0.1)

        assert (
            it.stats().items()
            >= {
                LISTENER + "downstream_cx_total": 1,
                LISTENER + "downstream_cx_destroy": 1,
                LISTENER + "worker_0.downstream_cx_total": 1,
                "listener_manager.listener_added": 1,
                "listener_manager.listener_create_success": 1,
                "listener_manager.total_listeners_active": 1,
                "listener_manager.workers_started": 1,
            }.items()
        )
        assert it.stat(LISTENER + "downstream_cx_active") == 0
        assert it.stat(LISTENER + "downstream_pre_cx_active") == 0
        assert it.worker.snapshot().histograms[LISTENER + "downstream_cx_length_ms"][1].count == 1
        assert it.connections == 0


async def test_direct_response_answers_and_closes():
    async with running(listener(filter_chains=[chain(answer("go away"))])) as it:
        client = await it.connect("main")
        assert await client.read_all() == b"go away"
        client.close()


async def test_a_chain_without_filters_closes_at_once():
    async with running(listener(filter_chains=[{}])) as it:
        client = await it.connect("main")
        assert await client.read_all() == b""
        client.close()
        await asyncio.sleep(0)
        assert it.stat(LISTENER + "downstream_cx_total") == 1


async def test_echo_reads_no_more_than_is_read_from_it():
    limited = listener(per_connection_buffer_limit_bytes=64 * 1024)
    async with running(limited) as it:
        client = await it.connect("main", reading=False)
        for _ in range(64):
            client.send(b"x" * 65536)
        await asyncio.sleep(1.0)
        assert client.transport.get_write_buffer_size() > 1 << 20
        client.resume()
        assert len(await client.read(64 * 65536)) == 64 * 65536
        client.close()


# -- chains ----------------------------------------------------------------------------------------


async def test_the_matching_chain_carries_and_the_default_takes_the_rest():
    two = listener(
        filter_chains=[
            chain(
                answer("near"),
                match={"source_prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]},
            )
        ],
        default_filter_chain=chain(answer("far")),
    )
    async with running(two) as it:
        near = await it.connect("main", local=("10.1.1.1", 5000))
        far = await it.connect("main", local=("192.0.2.1", 5000))
        assert await near.read_all() == b"near"
        assert await far.read_all() == b"far"
        near.close()
        far.close()


async def test_no_matching_chain_closes_and_counts():
    none = listener(filter_chains=[chain(match={"destination_port": 81})])
    async with running(none) as it:
        client = await it.connect("main")
        assert await client.closed() == "eof"
        client.close()
        assert it.stat(LISTENER + "no_filter_chain_match") == 1
        assert it.stat(LISTENER + "downstream_cx_total") == 0


# -- listener filters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", b"one", id="http-1.1"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", b"zero", id="http-1.0"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"two", id="http-2"),
        pytest.param(b"\x16\x03\x01 something\n", b"other", id="not-http"),
    ],
)
@pytest.mark.parametrize("slowly", [False, True])
async def test_the_protocol_chooses_the_chain(loop, sent, answered, slowly):
    if slowly:
        loop.network.link.chunks = byte_by_byte
    by_protocol = listener(
        listener_filters=[INSPECTOR],
        filter_chains=[
            chain(answer("one"), match={"application_protocols": ["http/1.1"]}),
            chain(answer("zero"), match={"application_protocols": ["http/1.0"]}),
            chain(answer("two"), match={"application_protocols": ["h2c"]}),
            chain(answer("other")),
        ],
    )
    async with running(by_protocol) as it:
        client = await it.connect("main")
        client.send(sent)
        assert (await client.read_all()).startswith(answered[:1])
        client.close()
        assert sum(value for name, value in it.stats().items() if name.startswith("http_inspector.")) == 1
        assert it.stat(LISTENER + "downstream_pre_cx_active") == 0


@pytest.mark.parametrize("slowly", [False, True])
async def test_proxy_protocol_tells_where_a_connection_comes_from(loop, slowly):
    if slowly:
        loop.network.link.chunks = byte_by_byte
    told = listener(
        listener_filters=[proxy_protocol()],
        filter_chains=[
            chain(
                match={
                    "source_prefix_ranges": [{"address_prefix": "203.0.113.0", "prefix_len": 24}],
                    "source_ports": [77],
                }
            )
        ],
        default_filter_chain=chain(answer("?")),
    )
    async with running(told) as it:
        client = await it.connect("main")
        client.send(b"PROXY TCP4 203.0.113.9 198.51.100.1 77 443\r\nhello")
        assert await client.read(5) == b"hello"
        (connection,) = it.worker.listeners.get("main").open.values()
        assert connection.info.remote.text == "203.0.113.9:77"
        assert connection.info.local.text == "198.51.100.1:443"
        assert connection.info.direct_remote.ip == "127.0.0.1"
        client.close()
        assert it.stat("proxy_proto.versions.v1.found") == 1


@pytest.mark.parametrize(
    ("fields", "sent", "stat"),
    [
        pytest.param({}, b"GET / HTTP/1.1\r\n\r\n", "not_found_disallowed", id="missing"),
        pytest.param({}, b"PROXY TCP4 1.2.3.4\r\n", "versions.v1.error", id="wrong"),
        pytest.param(
            {"disallowed_versions": ["V1"]}, b"PROXY UNKNOWN\r\n", "versions.v1.disallowed", id="disallowed"
        ),
    ],
)
async def test_a_refused_proxy_header_resets_and_counts(fields, sent, stat):
    async with running(listener(listener_filters=[proxy_protocol(stat_prefix="p", **fields)])) as it:
        client = await it.connect("main")
        client.send(sent)
        assert await client.closed() == "reset"
        client.close()
        assert it.stat("proxy_proto.p." + stat) == 1
        assert it.stat(LISTENER + "downstream_pre_cx_active") == 0
        assert it.stat(LISTENER + "downstream_cx_total") == 0


@pytest.mark.parametrize(
    "fields", [{"allow_requests_without_proxy_protocol": True},
               {"allow_requests_without_proxy_protocol": True, "disallowed_versions": ["V1"]}]
)  # fmt: skip
async def test_a_missing_proxy_header_may_be_allowed(fields):
    sent = b"PROXY UNKNOWN\r\n" if "disallowed_versions" in fields else b"hello"
    async with running(listener(listener_filters=[proxy_protocol(**fields)])) as it:
        client = await it.connect("main")
        client.send(sent)
        assert await client.read(len(sent)) == sent
        client.close()
        assert it.stat("proxy_proto.not_found_allowed") == 1


async def test_tlvs_become_metadata():
    rules = [
        {"tlv_type": 1, "on_tlv_present": {"key": "a"}},
        {"tlv_type": 2, "on_tlv_present": {"metadata_namespace": "n", "key": "b"}},
    ]
    tlvs = b"\x01\x00\x02hi\x02\x00\x04\xff\xfeab\x07\x00\x00"
    ends = socket.inet_aton("1.2.3.4") + socket.inet_aton("5.6.7.8") + struct.pack("!HH", 11, 22)
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(ends) + len(tlvs)) + ends + tlvs
    async with running(listener(listener_filters=[proxy_protocol(rules=rules)])) as it:
        client = await it.connect("main")
        client.send(header + b"x")
        await client.read(1)
        (connection,) = it.worker.listeners.get("main").open.values()
        assert connection.info.dynamic_metadata == {
            "envoy.filters.listener.proxy_protocol": {"a": "hi"},
            "n": {"b": "!!ab"},
        }
        client.close()


async def test_filters_that_wait_too_long_end_the_connection(loop):
    async with running(listener(listener_filters=[INSPECTOR], listener_filters_timeout="2s")) as it:
        client = await it.connect("main")
        client.send(b"GE")
        begun = loop.time()
        assert await client.closed() == "reset"
        assert loop.time() - begun == pytest.approx(2.0, abs=0.1)
        client.close()
        assert it.stat(LISTENER + "downstream_pre_cx_timeout") == 1
        assert it.stat(LISTENER + "downstream_pre_cx_active") == 0
        assert it.stat(LISTENER + "downstream_cx_total") == 0


async def test_the_timeout_is_15_seconds_by_default(loop):
    async with running(listener(listener_filters=[INSPECTOR])) as it:
        client = await it.connect("main", within=60)
        begun = loop.time()
        await client.closed()
        assert loop.time() - begun == pytest.approx(15.0, abs=0.1)
        client.close()


async def test_filters_that_wait_too_long_may_be_passed():
    patient = listener(
        listener_filters=[INSPECTOR], listener_filters_timeout="2s", continue_on_listener_filters_timeout=True
    )
    async with running(patient) as it:
        client = await it.connect("main")
        client.send(b"GE")
        assert await client.read(2) == b"GE"
        client.close()
        assert it.stat(LISTENER + "downstream_pre_cx_timeout") == 1


async def test_a_peer_that_leaves_during_the_filters_is_counted():
    async with running(listener(listener_filters=[INSPECTOR])) as it:
        client = await it.connect("main")
        client.send(b"GE")
        client.send_eof()
        await client.closed()
        client.close()
        other = await it.connect("main")
        other.send(b"GE")
        await asyncio.sleep(0.01)
        other.reset()
        await asyncio.sleep(0.01)
        assert it.stat(LISTENER + "downstream_listener_filter_remote_close") == 1
        assert it.stat(LISTENER + "downstream_listener_filter_error") == 1
        assert it.stat(LISTENER + "downstream_pre_cx_active") == 0
        assert it.worker.listeners.has_room()


async def test_a_filter_can_be_left_out_by_port():
    left_out = listener(
        listener_filters=[
            {**proxy_protocol(), "filter_disabled": {"destination_port_range": {"start": 80, "end": 81}}}
        ]
    )
    async with running(left_out) as it:
        client = await it.connect("main")
        client.send(b"hello")
        assert await client.read(5) == b"hello"
        client.close()


# -- original destination --------------------------------------------------------------------------


def virtual(name, ip, port, text):
    return listener(name, address=address(ip, port), bind_to_port=False, filter_chains=[chain(answer(text))])


@pytest.mark.parametrize(
    ("destination", "answered"),
    [
        pytest.param(("172.16.0.1", 8080), b"exact", id="exact"),
        pytest.param(("172.16.0.2", 8080), b"any", id="any-address-of-the-port"),
        pytest.param(("172.16.0.2", 9999), b"own", id="nobody"),
    ],
)
async def test_connections_are_handed_to_their_original_destination(loop, destination, answered):
    loop.network.accepted_options.update(original(*destination))
    front = listener(use_original_dst=True, filter_chains=[chain(answer("own"))])
    listeners = [front, virtual("exact", "172.16.0.1", 8080, "exact"), virtual("any", "0.0.0.0", 8080, "any")]
    async with running(*listeners) as it:
        client = await it.connect("main")
        assert await client.read_all() == answered
        client.close()
        await asyncio.sleep(0)
        name = {b"exact": "172.16.0.1_8080", b"any": "0.0.0.0_8080", b"own": "10.0.0.1_80"}[answered]
        assert it.stat(f"listener.{name}.downstream_cx_total") == 1
        assert it.connections == 0


async def test_without_use_original_dst_the_destination_is_only_matched(loop):
    loop.network.accepted_options.update(original("172.16.0.1", 8080))
    front = listener(
        listener_filters=[ORIGINAL_DST],
        filter_chains=[chain(answer("restored"), match={"destination_port": 8080})],
    )
    async with running(front, virtual("exact", "172.16.0.1", 8080, "exact")) as it:
        client = await it.connect("main")
        assert await client.read_all() == b"restored"
        client.close()


async def test_bytes_and_filters_go_with_a_handed_off_connection(loop):
    loop.network.accepted_options.update(original("172.16.0.1", 8080))
    front = listener(
        use_original_dst=True, listener_filters=[proxy_protocol(allow_requests_without_proxy_protocol=True)]
    )
    back = listener(
        "back", address=address("172.16.0.1", 8080), bind_to_port=False, listener_filters=[INSPECTOR],
        filter_chains=[chain(match={"application_protocols": ["http/1.1"]})],
    )  # fmt: skip
    async with running(front, back) as it:
        client = await it.connect("main")
        client.send(b"GET / HTTP/1.1\r\n")
        assert await client.read(16) == b"GET / HTTP/1.1\r\n"
        (connection,) = it.worker.listeners.get("back").open.values()
        assert connection.info.listener_name == "back"
        assert connection.info.local.text == "172.16.0.1:8080"
        client.close()


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "stat"),
    [
        ("envoy.resource_limits.listener.main.connection_limit", "downstream_cx_overflow"),
        ("overload.global_downstream_max_connections", "downstream_global_cx_overflow"),
    ],
)
async def test_connections_beyond_the_limit_are_closed(key, stat):
    async with running(listener(), runtime={key: 2}) as it:
        kept = [await it.connect("main") for _ in range(2)]
        refused = await it.connect("main")
        assert await refused.closed() == "eof"
        refused.close()
        assert it.stat(LISTENER + stat) == 1
        assert it.stat(LISTENER + "downstream_cx_total") == 2

        kept[0].close()
        await asyncio.sleep(0.1)
        again = await it.connect("main")
        again.send(b"x")
        assert await again.read(1) == b"x"
        for client in (again, kept[1]):
            client.close()


async def test_a_listener_may_ignore_the_global_limit():
    free = listener(ignore_global_conn_limit=True)
    async with running(free, runtime={"overload.global_downstream_max_connections": 0}) as it:
        client = await it.connect("main")
        client.send(b"x")
        assert await client.read(1) == b"x"
        client.close()


# -- changes and ends ------------------------------------------------------------------------------


async def test_only_changed_chains_are_replaced(loop):
    by_port = lambda *ports: [chain(match={"source_ports": [port]}, name=str(port)) for port in ports]  # noqa: E731
    async with running(listener(filter_chains=by_port(1, 2))) as it:
        listeners = it.worker.listeners
        listeners.drain_time = 30.0
        kept = await it.connect("main", local=("10.9.9.9", 1))
        dropped = await it.connect("main", local=("10.9.9.9", 2), within=60)
        for client in (kept, dropped):
            client.send(b"x")
            await client.read(1)
        before = listeners.get("main")

        (changed,) = settings_of(listener(filter_chains=by_port(1, 3)))
        assert await listeners.apply(changed) is before

        assert it.stat("listener_manager.listener_in_place_updated") == 1
        assert it.stat("listener_manager.total_filter_chains_draining") == 1
        new = await it.connect("main", local=("10.9.9.9", 3))
        refused = await it.connect("main", local=("10.9.9.8", 2))
        assert await refused.closed() == "eof"
        begun = loop.time()
        assert await dropped.closed() == "eof"
        assert loop.time() - begun == pytest.approx(30.0, abs=0.1)
        assert it.stat("listener_manager.total_filter_chains_draining") == 0
        for client in (kept, new):
            client.send(b"y")
            assert await client.read(1) == b"y"
        for client in (kept, new, dropped, refused):
            client.close()


async def test_a_chain_that_is_empty_stops_draining_early():
    async with running(listener(filter_chains=[chain(name="old")])) as it:
        client = await it.connect("main")
        client.send(b"x")
        await client.read(1)
        (changed,) = settings_of(listener(filter_chains=[chain(name="new")]))
        await it.worker.listeners.apply(changed)
        assert it.stat("listener_manager.total_filter_chains_draining") == 1
        client.close()
        await asyncio.sleep(0.1)
        assert it.stat("listener_manager.total_filter_chains_draining") == 0


async def test_an_unchanged_listener_is_left_alone():
    async with running(listener()) as it:
        before = it.worker.listeners.get("main")
        (same,) = settings_of(listener())
        assert await it.worker.listeners.apply(same) is before
        assert it.stat("listener_manager.listener_modified") == 0


async def test_a_changed_listener_replaces_and_drains_the_old_one(loop):
    async with running(listener()) as it:
        it.worker.listeners.drain_time = 20.0
        old = await it.connect("main", within=60)
        old.send(b"x")
        await old.read(1)

        (changed,) = settings_of(listener(filter_chains=[chain(answer("new"))], stat_prefix="s"))
        await it.worker.listeners.apply(changed)

        assert it.stat("listener_manager.listener_modified") == 1
        assert it.stat("listener_manager.total_listeners_draining") == 1
        new = await it.connect("main")
        assert await new.read_all() == b"new"
        old.send(b"y")
        assert await old.read(1) == b"y"
        begun = loop.time()
        assert await old.closed() == "eof"
        assert loop.time() - begun == pytest.approx(20.0, abs=0.1)
        assert it.stat("listener_manager.total_listeners_draining") == 0
        for client in (old, new):
            client.close()


async def test_a_removed_listener_accepts_no_more_and_its_connections_drain():
    async with running(listener()) as it:
        listeners = it.worker.listeners
        client = await it.connect("main")
        client.send(b"x")
        await client.read(1)
        (connection,) = listeners.get("main").open.values()

        assert listeners.remove("main")
        assert not listeners.remove("main")

        with pytest.raises(ConnectionRefusedError):
            await Client.connect("10.0.0.1", 80)
        assert connection.drained
        assert listeners.connections == 1
        assert it.stat("listener_manager.listener_removed") == 1
        assert it.stat("listener_manager.total_listeners_active") == 0
        client.close()
        await asyncio.sleep(0.1)
        assert listeners.connections == 0
        assert it.stat("listener_manager.total_listeners_draining") == 0


async def test_draining_stops_accepting_and_keeps_what_is_there():
    inbound = listener("in", address=address("10.0.0.2"), traffic_direction="INBOUND")
    async with running(listener(), inbound) as it:
        kept = await it.connect("main")
        it.worker.listeners.drain(inbound_only=True)
        with pytest.raises(ConnectionRefusedError):
            await Client.connect("10.0.0.2", 80)
        more = await it.connect("main")
        it.worker.listeners.drain()
        with pytest.raises(ConnectionRefusedError):
            await Client.connect("10.0.0.1", 80)
        for client in (kept, more):
            client.send(b"x")
            assert await client.read(1) == b"x"
            client.close()
        assert it.stat("listener_manager.listener_stopped") == 2


async def test_an_address_in_use_changes_nothing():
    async with running(listener()) as it, await Upstream.listen("10.0.0.5", 80):
        (taken,) = settings_of(listener("other", address=address("10.0.0.5")))
        with pytest.raises(OSError, match="in use"):
            await it.worker.listeners.apply(taken)
        assert it.worker.listeners.names() == ["main"]
        assert it.stat("listener_manager.listener_create_failure") == 1
