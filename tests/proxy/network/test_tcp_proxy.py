"""tcp_proxy on a virtual loop: both directions, half closes, failures, timeouts, back-pressure, logs."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from weft.testing.peer import Client, Upstream
from weft.testing.proxy import proxy

TYPE = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
FILE = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
LOG = (
    "%ACCESS_LOG_TYPE% %RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON% %DOWNSTREAM_LOCAL_CLOSE_REASON% "
    "%BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\n"
)
HOST = "10.0.1.1:9000"


def address(ip, port):
    return {"socket_address": {"address": ip, "port_value": port}}


def cluster(name, *hosts, **fields):
    endpoints = [{"endpoint": {"address": address(host, 9000)}} for host in hosts]
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment, **fields}


def bootstrap(*clusters, log="", **fields):
    if "weighted_clusters" not in fields:
        fields.setdefault("cluster", "up")
    if log:
        text = {"text_format_source": {"inline_string": LOG}}
        fields["access_log"] = [
            {"name": "file", "typed_config": {"@type": FILE, "path": log, "log_format": text}}
        ]
    tcp = {"name": "tcp", "typed_config": {"@type": TYPE, "stat_prefix": "t", **fields}}
    main = {"name": "main", "address": address("10.0.0.1", 80), "filter_chains": [{"filters": [tcp]}]}
    return json.dumps(
        {"static_resources": {"listeners": [main], "clusters": list(clusters) or [cluster("up", "10.0.1.1")]}}
    )


@asynccontextmanager
async def running(*clusters, **fields):
    async with proxy(bootstrap(*clusters, **fields)) as it:
        yield it


async def upstream(ip="10.0.1.1", **fields):
    return await Upstream.listen(ip, 9000, **fields)


async def settle():
    await asyncio.sleep(0.05)


def lines(it, path):
    it.worker._log_files.flush()
    return path.read_text().splitlines()


# -- carrying --------------------------------------------------------------------------------------


async def test_bytes_go_both_ways_and_are_counted():
    async with running() as it, await upstream() as up:
        client = await it.connect("main")
        client.send(b"ping")
        host = await up.accept()
        assert await host.read(4) == b"ping"
        host.send(b"pong!")
        assert await client.read(5) == b"pong!"
        assert (
            it.stats().items()
            >= {
                "tcp.t.downstream_cx_total": 1,
                "tcp.t.downstream_cx_rx_bytes_total": 4,
                "tcp.t.downstream_cx_tx_bytes_total": 5,
                "cluster.up.upstream_cx_total": 1,
                "cluster.up.upstream_cx_active": 1,
                "cluster.up.upstream_rq_total": 1,
                "cluster.up.upstream_rq_active": 1,
                "cluster.up.upstream_rq_pending_total": 1,
                "cluster.up.upstream_cx_tx_bytes_total": 4,
                "cluster.up.upstream_cx_rx_bytes_total": 5,
            }.items()
        )

        client.close()
        assert await host.closed() == "eof"
        host.close()
        await settle()
        assert it.connections == 0
        for gauge in ("upstream_cx_active", "upstream_rq_active", "upstream_rq_pending_active"):
            assert it.stat(f"cluster.up.{gauge}") == 0


async def test_what_comes_before_the_upstream_connection_waits_for_it(loop):
    loop.network.links[("10.0.1.1", 9000)] = type(loop.network.link)(latency=0.2)
    async with running() as it, await upstream() as up:
        client = await it.connect("main")
        client.send(b"early")
        client.send_eof()
        host = await up.accept()
        assert await host.read_all() == b"early"
        host.send(b"late")
        host.send_eof()
        assert await client.read_all() == b"late"
        client.close()
        host.close()


async def test_the_client_may_close_its_half_first():
    async with running() as it, await upstream() as up:
        client = await it.connect("main")
        client.send(b"question")
        client.send_eof()
        host = await up.accept()
        assert await host.read_all() == b"question"
        host.send(b"answer")
        assert await client.read(6) == b"answer"
        assert it.connections == 1
        host.close()
        assert await client.read_all() == b""
        await settle()
        assert it.connections == 0
        # The upstream closed last, so the end counts as its own, as in Envoy.
        assert it.stat("cluster.up.upstream_cx_destroy_remote") == 1
        assert it.stat("cluster.up.upstream_cx_destroy_remote_with_active_rq") == 1
        client.close()


async def test_the_upstream_may_close_its_half_first():
    async with running() as it, await upstream() as up:
        client = await it.connect("main")
        host = await up.accept()
        host.send(b"greeting")
        host.send_eof()
        assert await client.read_all() == b"greeting"
        client.send(b"still here")
        assert await host.read(10) == b"still here"
        assert it.connections == 1
        client.close()
        assert await host.read_all() == b""
        await settle()
        assert it.connections == 0
        assert it.stat("cluster.up.upstream_cx_destroy_local") == 1
        host.close()


async def test_a_reset_goes_through(tmp_path):
    log = tmp_path / "log"
    async with running(log=str(log)) as it, await upstream() as up:
        client = await it.connect("main")
        host = await up.accept()
        client.send(b"abc")
        await host.read(3)
        host.reset()
        assert await client.closed() == "reset"
        client.close()

        other = await it.connect("main")
        host = await up.accept()
        other.send(b"x")
        await host.read(1)
        other.reset()
        assert await host.closed() == "reset"
        await settle()
        assert it.connections == 0
        assert lines(it, log) == [
            f"TcpConnectionEnd UR - - 3 0 up {HOST} 1",
            f"TcpConnectionEnd - - - 1 0 up {HOST} 1",
        ]
        assert it.stat("cluster.up.upstream_cx_destroy_remote") == 1
        assert it.stat("cluster.up.upstream_cx_destroy_local") == 1


async def test_what_the_client_sent_before_it_left_still_arrives():
    async with running() as it, await upstream(reading=False) as up:
        client = await it.connect("main")
        host = await up.accept()
        client.send(b"x" * 900_000)
        await settle()
        client.close()
        await asyncio.sleep(1.0)
        host.resume()
        assert len(await host.read_all()) == 900_000
        host.close()
        await settle()
        assert it.stat("cluster.up.upstream_cx_active") == 0


async def test_neither_side_is_read_faster_than_the_other_reads():
    small = cluster("up", "10.0.1.1", per_connection_buffer_limit_bytes=65536)
    async with running(small) as it, await upstream(reading=False) as up:
        client = await it.connect("main", reading=False)
        host = await up.accept()
        for _ in range(100):
            client.send(b"c" * 65536)
            host.send(b"h" * 65536)
        await asyncio.sleep(1.0)
        assert client.transport.get_write_buffer_size() > 4 << 20
        assert host.transport.get_write_buffer_size() > 2 << 20
        assert it.stat("tcp.t.downstream_flow_control_paused_reading_total") >= 1
        assert it.stat("cluster.up.upstream_flow_control_backed_up_total") >= 1
        assert it.stat("cluster.up.upstream_flow_control_paused_reading_total") >= 1
        client.resume()
        host.resume()
        assert len(await host.read(6_553_600)) == len(await client.read(6_553_600)) == 6_553_600
        assert it.stat("tcp.t.downstream_flow_control_resumed_reading_total") >= 1
        assert it.stat("cluster.up.upstream_flow_control_drained_total") >= 1
        client.close()
        host.close()


# -- where to --------------------------------------------------------------------------------------


@pytest.mark.seed(3)
async def test_weights_share_connections_out():
    weights = {"clusters": [{"name": "a", "weight": 3}, {"name": "b", "weight": 1}]}
    both = (cluster("a", "10.0.1.1"), cluster("b", "10.0.1.2"))
    async with (
        running(*both, weighted_clusters=weights) as it,
        await upstream() as one,
        await upstream("10.0.1.2") as two,
    ):
        clients = [await it.connect("main") for _ in range(80)]
        await settle()
        assert len(one.peers) + len(two.peers) == 80
        assert 50 <= len(one.peers) <= 70
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("clusters", "fields", "line", "stats"),
    [
        pytest.param(
            [], {"cluster": "nowhere"}, "NC - tcp_initializion_failure:3 0 0 - - 0",
            {"tcp.t.downstream_cx_no_route": 1}, id="no-cluster",
        ),
        pytest.param(
            [cluster("up")], {}, "UH - tcp_initializion_failure:1 0 0 up - 0",
            {"cluster.up.upstream_cx_none_healthy": 1}, id="no-host",
        ),
        pytest.param(
            [], {}, f"UF,URX delayed_connect_error:_Connection_refused tcp_initializion_failure:0 0 0 up {HOST} 1",
            {"cluster.up.upstream_cx_connect_fail": 1, "cluster.up.upstream_cx_connect_attempts_exceeded": 1,
             "cluster.up.upstream_rq_pending_failure_eject": 1}, id="refused",
        ),
        pytest.param(
            [], {"max_connect_attempts": 3},
            f"UF,URX delayed_connect_error:_Connection_refused tcp_initializion_failure:0 0 0 up {HOST} 3",
            {"cluster.up.upstream_cx_connect_fail": 3, "cluster.up.upstream_cx_connect_attempts_exceeded": 1}, id="refused-three-times",
        ),
        pytest.param(
            [cluster("up", "10.0.1.1", circuit_breakers={"thresholds": [{"max_connections": 0}]})], {},
            "UO - tcp_initializion_failure:2 0 0 up - 0", {"cluster.up.upstream_cx_overflow": 1}, id="overflow",
        ),
    ],
)  # fmt: skip
async def test_without_an_upstream_the_client_is_let_go(tmp_path, clusters, fields, line, stats):
    log = tmp_path / "log"
    async with running(*clusters, log=str(log), **fields) as it:
        client = await it.connect("main")
        assert await client.read_all() == b""
        client.close()
        await settle()
        assert lines(it, log) == ["TcpConnectionEnd " + line]
        assert it.stats().items() >= stats.items()
        assert it.connections == 0
        assert it.stat("cluster.up.upstream_rq_pending_active") == 0


async def test_a_silent_host_costs_the_connect_timeout(loop, tmp_path):
    loop.network.silent.add(("10.0.1.1", 9000))
    log = tmp_path / "log"
    async with running(log=str(log)) as it:
        begun = loop.time()
        client = await it.connect("main")
        await client.closed()
        assert loop.time() - begun == pytest.approx(1.0, abs=0.1)
        client.close()
        await settle()
        assert lines(it, log)[0].startswith("TcpConnectionEnd UF,URX ")


async def test_a_later_attempt_may_succeed(loop):
    async with running(max_connect_attempts=5, backoff_options={"base_interval": "1s"}) as it:
        client = await it.connect("main")
        client.send(b"patience")
        await asyncio.sleep(0.01)
        async with await upstream() as up:
            host = await up.accept(within=60)
            assert await host.read(8) == b"patience"
            client.close()
        assert it.stat("cluster.up.upstream_cx_connect_fail") >= 1


async def test_a_client_that_leaves_stops_the_connecting(loop):
    loop.network.silent.add(("10.0.1.1", 9000))
    async with running() as it:
        client = await it.connect("main")
        await settle()
        assert it.stat("cluster.up.upstream_cx_active") == 1
        client.reset()
        await settle()
        assert it.connections == 0
        assert it.stat("cluster.up.upstream_cx_active") == 0
        assert it.stat("cluster.up.upstream_rq_pending_active") == 0


# -- when ------------------------------------------------------------------------------------------


async def test_an_idle_session_ends(loop, tmp_path):
    log = tmp_path / "log"
    async with running(log=str(log), idle_timeout="10s") as it, await upstream() as up:
        client = await it.connect("main", within=60)
        host = await up.accept()
        await asyncio.sleep(9)
        client.send(b"x")
        await host.read(1)
        await asyncio.sleep(9)
        host.send(b"y")
        await client.read(1)
        begun = loop.time()
        await client.closed()
        assert loop.time() - begun == pytest.approx(10.0, abs=0.1)
        await host.closed()
        client.close()
        host.close()
        await settle()
        assert it.stat("tcp.t.idle_timeout") == 1
        assert lines(it, log) == [f"TcpConnectionEnd - - tcp_session_idle_timeout 1 1 up {HOST} 1"]


@pytest.mark.parametrize(("fields", "ends"), [({}, True), ({"idle_timeout": "0s"}, False)])
async def test_the_idle_timeout_is_an_hour_unless_it_is_off(fields, ends):
    async with running(**fields) as it, await upstream():
        client = await it.connect("main")
        await asyncio.sleep(3599)
        assert not client.ended
        await asyncio.sleep(2)
        assert bool(client.ended) == ends
        client.close()


async def test_a_session_lasts_no_longer_than_allowed(loop, tmp_path):
    log = tmp_path / "log"
    async with running(log=str(log), max_downstream_connection_duration="5s") as it, await upstream() as up:
        begun = loop.time()
        client = await it.connect("main", within=60)
        await up.accept()
        assert await client.closed() == "eof"
        assert loop.time() - begun == pytest.approx(5.0, abs=0.1)
        client.close()
        await settle()
        assert it.stat("tcp.t.max_downstream_connection_duration") == 1
        assert lines(it, log) == [f"TcpConnectionEnd DT - max_connection_duration_reached 0 0 up {HOST} 1"]


async def test_the_log_may_tell_of_the_beginning_and_the_middle(tmp_path):
    log = tmp_path / "log"
    options = {"flush_access_log_on_connected": True, "access_log_flush_interval": "2s"}
    async with running(log=str(log), access_log_options=options) as it, await upstream() as up:
        client = await it.connect("main")
        client.send(b"x")
        host = await up.accept()
        await host.read(1)
        await asyncio.sleep(5)
        client.close()
        await host.closed()
        host.close()
        await settle()
        assert [line.split()[0] for line in lines(it, log)] == [
            "TcpUpstreamConnected", "TcpPeriodic", "TcpPeriodic", "TcpConnectionEnd",
        ]  # fmt: skip
        assert lines(it, log)[0] == f"TcpUpstreamConnected - - - 0 0 up {HOST} 1"
        assert lines(it, log)[1] == f"TcpPeriodic - - - 1 0 up {HOST} 1"


async def test_connecting_may_wait_for_data():
    waits = {"upstream_connect_mode": "ON_DOWNSTREAM_DATA", "max_early_data_bytes": 100}
    async with running(**waits) as it, await upstream() as up:
        client = await it.connect("main")
        await asyncio.sleep(1)
        assert not up.peers
        client.send(b"now")
        host = await up.accept()
        assert await host.read(3) == b"now"
        assert it.stat("tcp.t.early_data_received_count_total") == 1
        client.close()
        silent = await it.connect("main")
        silent.send_eof()
        assert await silent.closed() == "eof"
        assert len(up.peers) == 1
        silent.close()


async def test_closing_the_listener_closes_its_sessions():
    async with running() as it, await upstream() as up:
        client = await it.connect("main")
        host = await up.accept()
        it.worker.listeners.get("main").stop()
        assert await client.closed() == "eof"
        assert await host.closed() == "eof"
        client.close()
        host.close()
        await settle()
        assert it.connections == 0


async def test_unix_sockets_on_both_sides():
    # A listener and a cluster of Unix sockets, which have no ports and no addresses.
    tcp = {"name": "tcp", "typed_config": {"@type": TYPE, "stat_prefix": "t", "cluster": "up"}}
    main = {"name": "main", "address": {"pipe": {"path": "/run/in"}}, "filter_chains": [{"filters": [tcp]}]}
    up_cluster = cluster("up")
    up_cluster["load_assignment"]["endpoints"] = [
        {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": "/run/out"}}}}]}
    ]
    text = json.dumps({"static_resources": {"listeners": [main], "clusters": [up_cluster]}})
    async with proxy(text) as it, await Upstream.listen(path="/run/out") as up:
        client = await Client.connect(path="/run/in")
        client.send(b"ping")
        host = await up.accept()
        assert await host.read(4) == b"ping"
        assert it.stat("listener./run/in.downstream_cx_total") == 1
        client.close()
