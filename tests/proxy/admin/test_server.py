"""The admin server at byte level, on the virtual loop."""

import asyncio
import json
import socket
import stat
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.proxy.address import Address
from weft.proxy.admin import server
from weft.proxy.admin.server import Admin
from weft.proxy.observe.stats import Store
from weft.testing import run
from weft.testing.peer import Client

ADDRESS = Address("127.0.0.1", 0)


def talk(view, *steps, **options):
    """Send each step (or wait that many seconds) on one connection; what came back after each."""

    async def main():
        admin = Admin(view, asyncio.get_running_loop(), **options)
        address = await admin.start(ADDRESS)
        client = await Client.connect(address.ip, address.port)
        received = []
        for step in steps:
            if isinstance(step, bytes):
                client.send(step)
                step = 0.01
            await asyncio.sleep(step)
            received.append(client.take())
        client.close()
        await asyncio.sleep(0.01)
        admin.close()
        return received

    return run(main)


def get(path, *, method="GET", headers="", close=False):
    extra = "connection: close\r\n" if close else ""
    return f"{method} {path} HTTP/1.1\r\nhost: admin\r\n{headers}{extra}\r\n".encode()


def test_an_answer_to_the_byte(view):
    received = talk(view, get("/ready"))

    assert received == [
        b"HTTP/1.1 200 OK\r\n"
        b"content-type: text/plain; charset=UTF-8\r\n"
        b"cache-control: no-cache, max-age=0\r\n"
        b"x-content-type-options: nosniff\r\n"
        b"date: Sun, 09 Sep 2001 01:46:40 GMT\r\n"
        b"server: envoy\r\n"
        b"content-length: 5\r\n"
        b"\r\n"
        b"LIVE\n"
    ]


def test_a_connection_is_kept_and_requests_may_run_ahead(view):
    received = talk(view, get("/ready") + get("/hot_restart_version") + get("/ready"), get("/ready"))

    assert [piece.count(b"HTTP/1.1 200 OK") for piece in received] == [3, 1]
    assert received[0].index(b"LIVE") < received[0].index(b"weft.1") < received[0].rindex(b"LIVE")


def test_head_has_the_length_and_no_body(view):
    received = talk(view, get("/ready", method="HEAD") + get("/ready"))

    first, _, second = received[0].partition(b"\r\n\r\n")
    assert b"content-length: 5" in first
    assert second.startswith(b"HTTP/1.1 200 OK")


def test_a_client_may_ask_to_close(view):
    received = talk(view, get("/ready", close=True), get("/ready"))

    assert b"connection: close\r\n" in received[0]
    assert received[1] == b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"GET /ready HTTP/1.1\r\n\r\n", b"400", id="no-host"),
        pytest.param(b"\x16\x03\x01\r\n\r\n", b"400", id="not-http"),
        pytest.param(b"GET /ready HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000, b"431", id="head-without-end"),
        pytest.param(
            get("/runtime_modify", method="POST", headers="content-length: 2000000\r\n"), b"413", id="body"
        ),
        pytest.param(
            get("/runtime_modify", method="POST", headers="transfer-encoding: chunked\r\n")
            + b"fffff\r\n"
            + b"y" * 0xFFFFF
            + b"\r\nfffff\r\n"
            + b"y" * 0xFFFFF,
            b"413",
            id="chunked-body",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_connection_closed(view, sent, status):
    received = talk(view, sent, get("/ready"))

    assert received[0].split()[1] == status
    assert b"connection: close\r\n" in received[0]
    assert received[1] == b""


def test_a_body_comes_whole_or_in_chunks(view):
    form = "content-type: application/x-www-form-urlencoded\r\n"
    talk(
        view,
        get("/runtime_modify", method="POST", headers=form + "content-length: 7\r\n") + b"a=1",
        b"&b=2",
        get("/runtime_modify", method="POST", headers=form + "transfer-encoding: chunked\r\n")
        + b"3\r\nc=x\r\n",
        b"2\r\n+y\r\n0\r\n\r\n",
    )

    assert view.orders == [("runtime", {"a": "1", "b": "2"}), ("runtime", {"c": "x y"})]


def test_expect_continue_is_answered(view):
    received = talk(
        view,
        get(
            "/runtime_modify",
            method="POST",
            headers="content-type: application/x-www-form-urlencoded\r\nexpect: 100-continue\r\ncontent-length: 3\r\n",
        ),
        b"a=1",
    )

    assert received[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert received[1].startswith(b"HTTP/1.1 200 OK")


def test_a_head_that_does_not_end_in_time_is_answered_408(view):
    received = talk(view, b"GET /ready HT", server.HEAD_TIMEOUT + 1)

    assert received[1].startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_lives_until_its_timeout(view):
    received = talk(
        view, get("/ready"), server.IDLE_TIMEOUT - 1, get("/ready"), server.IDLE_TIMEOUT + 1, get("/ready")
    )

    assert [bool(piece) for piece in received] == [True, False, True, False, False]


def test_a_client_that_does_not_read_is_dropped_and_others_are_served(view):
    view.stats.counters = {f"cluster.c{i}.upstream_cx_total": i for i in range(100_000)}

    async def main():
        admin = Admin(view, asyncio.get_running_loop())
        address = await admin.start(ADDRESS)
        slow = await Client.connect(address.ip, address.port)
        slow.pause()
        slow.send(get("/stats"))
        await asyncio.sleep(1)
        quick = await Client.connect(address.ip, address.port)
        quick.send(get("/ready"))
        answer = await quick.read_until(b"LIVE\n")
        assert len(admin.connections) == 2
        await asyncio.sleep(server.WRITE_TIMEOUT + 1)
        left = len(admin.connections)
        slow.close()
        quick.close()
        await asyncio.sleep(0.1)
        admin.close()
        return answer, left

    answer, left = run(main)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert left == 1


def test_a_large_answer_arrives_whole(view):
    view.stats.counters = {f"cluster.c{i}.upstream_cx_total": i for i in range(20_000)}

    async def main():
        admin = Admin(view, asyncio.get_running_loop())
        address = await admin.start(ADDRESS)
        client = await Client.connect(address.ip, address.port)
        client.send(get("/stats", close=True))
        raw = await client.read_all()
        client.close()
        admin.close()
        return raw

    head, _, body = run(main).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert body.count(b"\n") == 20_000


def test_connections_beyond_the_most_are_closed(view, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)

    async def main():
        admin = Admin(view, asyncio.get_running_loop())
        address = await admin.start(ADDRESS)
        clients = [await Client.connect(address.ip, address.port) for _ in range(3)]
        await asyncio.sleep(0.1)
        left = len(admin.connections)
        for client in clients:
            client.close()
        await asyncio.sleep(0.1)
        admin.close()
        return left

    assert run(main) == 2


def test_a_bug_costs_one_answer(view, caplog):
    async def broken():
        raise RuntimeError("boom")

    view.clusters = broken
    received = talk(view, get("/clusters"), get("/ready"))

    assert received[0].startswith(b"HTTP/1.1 500 ")
    assert received[1].startswith(b"HTTP/1.1 200 ")
    assert "boom" in caplog.text


def test_access_logs_see_every_request(view):
    seen = []

    class Log:
        def log(self, info):
            seen.append((info.request.method, info.request.path, info.status, info.bytes_sent))

    talk(view, get("/ready"), get("/nope", method="POST"), access_logs=(Log(),))

    assert seen[0] == (b"GET", b"/ready", 200, 5)
    assert seen[1][:3] == (b"POST", b"/nope", 404)


def test_the_address_is_written_for_whoever_waits(view, tmp_path):
    file = tmp_path / "admin-address"

    async def main():
        admin = Admin(view, asyncio.get_running_loop())
        address = await admin.start(ADDRESS, address_path=str(file))
        admin.close()
        await asyncio.sleep(0)
        return address

    address = run(main)
    assert address.port != 0
    assert file.read_text() == address.text


def test_a_unix_socket_with_its_mode_and_a_stale_one_before_it(view, tmp_path):
    path = tmp_path / "admin.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()

    async def main():
        loop = asyncio.get_running_loop()
        admin = Admin(view, loop)
        await admin.start(Address(path=str(path)), mode=0o600)
        mode = stat.S_IMODE(path.stat().st_mode)
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(get("/server_info", close=True))
        raw = await reader.read()
        writer.close()
        admin.close()
        await asyncio.sleep(0)
        return mode, raw

    mode, raw = asyncio.run(main())
    assert mode == 0o600
    assert json.loads(raw.partition(b"\r\n\r\n")[2])["state"] == "LIVE"


def test_the_server_counts_itself(view):
    store = Store()
    talk(view, get("/ready"), get("/nope"), b"\x16\x03\x01\r\n\r\n", store=store)

    snapshot = store.snapshot()
    assert {name: value for name, value in snapshot.counters.items() if value} == {
        "http.admin.downstream_cx_destroy": 1,
        "http.admin.downstream_cx_protocol_error": 1,
        "http.admin.downstream_cx_total": 1,
        "http.admin.downstream_cx_tx_bytes_total": snapshot.counters[
            "http.admin.downstream_cx_tx_bytes_total"
        ],
        "http.admin.downstream_rq_2xx": 1,
        "http.admin.downstream_rq_4xx": 1,
        "http.admin.downstream_rq_completed": 2,
        "http.admin.downstream_rq_total": 2,
        "listener.admin.downstream_cx_destroy": 1,
        "listener.admin.downstream_cx_total": 1,
    }
    assert not any(snapshot.gauges.values())
    assert snapshot.histograms["http.admin.downstream_rq_time"][1].count == 2


CONVERSATION = (
    get("/ready")
    + get(
        "/runtime_modify",
        method="POST",
        headers="content-type: application/x-www-form-urlencoded\r\ncontent-length: 3\r\n",
    )
    + b"a=1"
    + get(
        "/runtime_modify",
        method="POST",
        headers="content-type: application/x-www-form-urlencoded\r\ntransfer-encoding: chunked\r\n",
    )
    + b"3\r\nb=2\r\n0\r\n\r\n"
    + get("/nope", method="HEAD")
    + get("/hot_restart_version")
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CONVERSATION)), max_size=8))
def test_however_the_bytes_are_cut_the_answers_are_the_same(view, cuts):
    ends = [*sorted(cuts), len(CONVERSATION)]
    pieces = [CONVERSATION[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]

    whole = b"".join(talk(view, CONVERSATION))
    view.orders.clear()
    assert b"".join(talk(view, *pieces)) == whole
    assert view.orders == [("runtime", {"a": "1"}), ("runtime", {"b": "2"})]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [b"GET ", b"/stats?filter=", b" HTTP/1.1\r\n", b"host: a\r\n", b"\r\n", b"\0", b"%zz", b"("]
            ),
        ),
        max_size=12,
    )
)
def test_no_bytes_are_a_bug(view, caplog, pieces):
    talk(view, b"".join(pieces), server.HEAD_TIMEOUT + 1)

    assert "a bug" not in caplog.text
    assert view.orders == []


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(
        [
            "/",
            "/help",
            "/stats",
            "/stats/prometheus",
            "/clusters",
            "/listeners",
            "/certs",
            "/init_dump",
            "/x",
            "/runtime",
        ]
    ),
    query=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "usedonly",
                    "filter",
                    "invert_filter",
                    "format",
                    "type",
                    "histogram_buckets",
                    "text_readouts",
                    "mask",
                    "resource",
                ]
            ),
            st.one_of(
                st.text(max_size=6),
                st.sampled_from(["json", "html", "Gauges", "detailed", "cumulative", "(", "%", "a|b"]),
            ),
        ),
        max_size=4,
    ),
)
def test_no_query_is_a_bug(view, caplog, path, query):
    target = path + "?" + "&".join(f"{name}={quote(value)}" for name, value in query)
    received = talk(view, get(target, close=True))

    assert received[0].split()[1] in (b"200", b"400", b"404")
    assert "a bug" not in caplog.text
