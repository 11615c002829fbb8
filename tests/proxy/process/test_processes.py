"""Main and its workers as processes: starting, dying, reloading, draining.

Nothing here waits for a time to pass: every wait is for something to be seen.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import time

import pytest

from weft.testing.bootstraps import bootstrap, cluster, listener
from weft.testing.process import eventually, refused

QUICK_WATCHDOG = {"worker_watchdog": {"miss_timeout": "0.1s", "megamiss_timeout": "0.3s"}}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_and_ends(start, upstream, tmp_path, workers):
    config = bootstrap(listener(upstream="c"), clusters=[cluster("c", upstream.port)])
    proxy = start(config, "--concurrency", workers, "--base-id", "7", "--base-id-path", str(tmp_path / "base")).ready()

    assert proxy.get("/") == (200, "hello")
    assert proxy.get("/up") == (200, "upstream")
    stats = proxy.stats()
    assert stats["http.web.downstream_rq_total"] == 2
    assert (stats["server.concurrency"], stats["server.live"], stats["server.state"]) == (int(workers), 1, 0)
    assert stats["listener_manager.total_listeners_active"] == 1
    assert stats["cluster_manager.active_clusters"] == 1
    assert (tmp_path / "base").read_text() == "7"
    assert len(proxy.workers()) == (0 if workers == "1" else 2)
    assert proxy.end() == 0
    assert proxy.output() == b""
    assert "Traceback" not in proxy.log


def test_init_only_ends_by_itself(start):
    proxy = start(bootstrap(listener()), "--concurrency", "2", "--mode", "init_only")

    assert proxy.wait() == 0


def test_an_address_that_is_taken(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = json.loads(bootstrap(listener(enable_reuse_port=False)))
        config["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = port
        proxy = start(json.dumps(config), "--concurrency", "2")

        assert proxy.wait() == 1
        assert f"cannot bind '127.0.0.1:{port}': Address already in use" in proxy.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_admin_address_that_is_taken(start, workers):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = json.loads(bootstrap(listener()))
        config["admin"]["address"]["socket_address"]["port_value"] = port
        proxy = start(json.dumps(config), "--concurrency", workers)

        assert proxy.wait() == 1
        assert f"admin: cannot bind '127.0.0.1:{port}': Address already in use" in proxy.log


def test_a_killed_worker_costs_only_its_connections(start):
    proxy = start(bootstrap(listener()), "--concurrency", "2").ready()
    clients = [proxy.client() for _ in range(24)]
    assert [client.get() for client in clients] == [(200, "hello")] * 24
    before = proxy.stats("listener.")
    held = {
        index: next(v for k, v in before.items() if k.endswith(f"worker_{index}.downstream_cx_active"))
        for index in (0, 1)
    }
    assert sum(held.values()) == 24

    victim = proxy.workers()[0]
    os.kill(victim, signal.SIGKILL)
    survivors = 0
    for client in clients:
        with contextlib.suppress(OSError, http.client.HTTPException):
            survivors += client.get() == (200, "hello")

    assert survivors == held[1]
    eventually(lambda: len(proxy.workers()) == 2 and victim not in proxy.workers(), "a replacement")
    assert [proxy.get() for _ in range(20)] == [(200, "hello")] * 20
    assert f"worker 0 (pid {victim}) was killed by SIGKILL" in proxy.log
    stats = proxy.stats()
    assert stats["server.worker_died"] == 1
    # What the dead worker had told is not lost; the look at the stats above was the last time it told.
    assert stats["http.web.downstream_rq_total"] == 24 + survivors + 20
    assert stats["listener_manager.listener_added"] == 1
    for client in clients:
        client.close()


def test_connections_that_wait_for_a_dead_worker_are_accepted_by_its_successor(start):
    proxy = start(bootstrap(listener(), watchdogs=QUICK_WATCHDOG), "--concurrency", "2").ready()
    port = proxy.port("web")
    victim = proxy.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
    for sock in waiting:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    os.kill(victim, signal.SIGKILL)

    for sock in waiting:
        sock.settimeout(15)
        with sock:
            assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_a_stuck_worker_is_counted_and_may_go_on(start):
    proxy = start(bootstrap(listener(), watchdogs=QUICK_WATCHDOG), "--concurrency", "2").ready()
    stuck = proxy.workers()[1]
    os.kill(stuck, signal.SIGSTOP)

    stats = eventually(lambda: (s := proxy.stats())["server.worker_1.watchdog_mega_miss"] and s, "a mega miss")
    # On a loaded machine the other one may have missed too; each is counted where it belongs.
    for kind in ("watchdog_miss", "watchdog_mega_miss"):
        assert stats[f"workers.{kind}"] == stats[f"server.worker_0.{kind}"] + stats[f"server.worker_1.{kind}"]
    assert stats["server.worker_1.watchdog_miss"] >= 1
    assert stats["main_thread.watchdog_miss"] == stats["server.main_thread.watchdog_miss"]
    os.kill(stuck, signal.SIGCONT)
    assert stuck in proxy.workers()
    assert [proxy.get() for _ in range(10)] == [(200, "hello")] * 10


def test_a_stuck_sole_worker_is_counted_afterwards(start):
    watchdog = {"miss_timeout": "0.05s", "megamiss_timeout": "0.1s"}
    proxy = start(bootstrap(listener(), watchdog=watchdog), "--concurrency", "1").ready()

    def missed():
        proxy.signal(signal.SIGSTOP)
        time.sleep(0.2)  # the one thing that must take time here: being stuck
        proxy.signal(signal.SIGCONT)
        stats = proxy.stats()
        return stats["workers.watchdog_mega_miss"] and stats["main_thread.watchdog_mega_miss"]

    eventually(missed, "a mega miss")


def test_a_stuck_worker_is_ended_when_the_configuration_says_so(start):
    watchdogs = {"worker_watchdog": {"miss_timeout": "0.1s", "megamiss_timeout": "0.2s", "kill_timeout": "0.4s"}}
    proxy = start(bootstrap(listener(), watchdogs=watchdogs), "--concurrency", "2").ready()
    stuck = proxy.workers()[1]
    os.kill(stuck, signal.SIGSTOP)

    eventually(lambda: stuck not in proxy.workers() and len(proxy.workers()) == 2, "a replacement")
    proxy.logged("is stuck for")
    assert [proxy.get() for _ in range(10)] == [(200, "hello")] * 10


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reload_touches_what_changed(start, upstream, workers):
    config = bootstrap(listener("web", says="old"), listener("other"), listener("gone"))
    proxy = start(config, "--concurrency", workers).ready()
    web, other, left = (proxy.port(name) for name in ("web", "other", "gone"))
    bystanders = [proxy.client("other") for _ in range(8)]
    assert {client.get() for client in bystanders} == {(200, "hello")}
    assert proxy.get() == (200, "old")

    proxy.path.write_text(
        bootstrap(
            listener("web", says="new", upstream="c"),
            listener("other"),
            listener("fresh", says="fresh"),
            clusters=[cluster("c", upstream.port)],
        )
    )
    proxy.signal(signal.SIGHUP)
    proxy.logged("reload: ")

    eventually(lambda: [proxy.get() for _ in range(8)] == [(200, "new")] * 8, "the new route")
    assert (proxy.port("web"), proxy.port("other")) == (web, other)
    assert {client.get() for client in bystanders} == {(200, "hello")}
    assert {proxy.get("/up") for _ in range(8)} == {(200, "upstream")}
    assert {proxy.get(listener="fresh") for _ in range(8)} == {(200, "fresh")}
    eventually(lambda: refused(left), "the removed listener gone")
    stats = proxy.stats("listener_manager.")
    assert stats["listener_manager.listener_in_place_updated"] == 1
    assert stats["listener_manager.listener_removed"] == 1
    assert stats["listener_manager.total_listeners_active"] == 3
    for client in bystanders:
        client.close()
    assert "Traceback" not in proxy.log


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace('"stat_prefix"', '"stat_prefixx"'), "stat_prefixx"),
        (lambda text: text[: len(text) // 2], "proxy.yaml:"),
        (lambda text: text.replace('"cluster": "c"', '"cluster": "nowhere"'), "unknown cluster 'nowhere'"),
    ],
    ids=["unknown-field", "half-a-file", "unknown-cluster"],
)
def test_a_bad_reload_changes_nothing(start, upstream, change, told):
    config = bootstrap(listener(upstream="c"), clusters=[cluster("c", upstream.port)])
    proxy = start(config, "--concurrency", "1").ready()
    with proxy.client() as client:
        assert client.get("/up") == (200, "upstream")
        proxy.path.write_text(change(config))
        proxy.signal(signal.SIGHUP)
        proxy.logged("nothing was changed")

        assert client.get("/up") == (200, "upstream")
    line = next(line for line in proxy.log.splitlines() if told in line and "][error][config]" in line)
    assert f"{proxy.path}:" in line
    assert proxy.get() == (200, "hello")


def test_a_reload_to_a_taken_address_changes_nothing(start):
    proxy = start(bootstrap(listener(says="old")), "--concurrency", "2").ready()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = json.loads(bootstrap(listener(says="new"), listener("more")))
        address = config["static_resources"]["listeners"][1]["address"]["socket_address"]
        address["port_value"] = taken.getsockname()[1]
        proxy.path.write_text(json.dumps(config))
        proxy.signal(signal.SIGHUP)
        proxy.logged("Address already in use; nothing was changed")

    assert proxy.stats("listener_manager.")["listener_manager.listener_create_failure"] == 1
    assert {proxy.get() for _ in range(8)} == {(200, "old")}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_lets_a_request_end(start, upstream, workers):
    config = bootstrap(listener(upstream="c"), clusters=[cluster("c", upstream.port)])
    proxy = start(config, "--concurrency", workers).ready()
    port = proxy.port("web")
    idle = proxy.client()
    assert idle.get() == (200, "hello")
    with socket.create_connection(("127.0.0.1", port)) as busy:
        busy.settimeout(15)
        busy.sendall(b"GET /up/slow HTTP/1.1\r\nhost: a\r\n\r\n")
        assert upstream.asked.wait(15)
        proxy.signal(signal.SIGTERM)
        eventually(lambda: "DRAINING" in proxy.admin("/ready"), "draining")

        eventually(lambda: refused(port), "new connections refused")
        eventually(idle.gone, "an idle connection closed")
        upstream.release.set()
        answer = b""
        while piece := busy.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"upstream")
    assert b"connection: close" in answer
    assert proxy.wait() == 0
    idle.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_sigterm_ends_at_once(start, upstream, workers):
    config = bootstrap(listener(upstream="c"), clusters=[cluster("c", upstream.port)])
    proxy = start(config, "--concurrency", workers).ready()
    with socket.create_connection(("127.0.0.1", proxy.port("web"))) as busy:
        busy.settimeout(15)
        busy.sendall(b"GET /up/slow HTTP/1.1\r\nhost: a\r\n\r\n")
        assert upstream.asked.wait(15)
        proxy.signal(signal.SIGTERM)
        proxy.logged("caught SIGTERM")
        proxy.signal(signal.SIGTERM)

        assert proxy.wait(3) == 0  # the drain alone would take 5 s
        with contextlib.suppress(ConnectionResetError):
            assert busy.recv(100) == b""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigusr1_reopens_logs_everywhere(start, tmp_path, workers):
    log = tmp_path / "access.log"
    own = tmp_path / "own.log"
    proxy = start(
        bootstrap(listener(access_log=str(log))),
        *("--concurrency", workers, "--file-flush-interval-msec", "20", "--log-path", str(own)),
    ).ready()
    assert {proxy.get("/before") for _ in range(8)} == {(200, "hello")}
    eventually(lambda: log.read_text().count("/before\n") == 8, "eight lines")
    log.rename(tmp_path / "access.1")
    own.rename(tmp_path / "own.1")
    proxy.signal(signal.SIGUSR1)
    eventually(lambda: own.exists() and log.exists(), "new files")

    def all_anew():
        for _ in range(8):
            proxy.get("/after")
        return len((tmp_path / "access.1").read_text().splitlines()) == 8 and log.read_text().count("/after") >= 8

    eventually(all_anew, "lines in the new file only")


def test_workers_outlive_main_until_a_new_one_comes(start):
    config = bootstrap(listener())
    proxy = start(config, "--concurrency", "2").ready()
    port, orphans = proxy.port("web"), proxy.workers()
    with proxy.client() as client:
        assert client.get() == (200, "hello")
        proxy.signal(signal.SIGKILL)
        proxy.wait()

        assert client.get() == (200, "hello")
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")
    assert "main is gone; worker" in proxy.log
    try:
        successor = start(config, "--concurrency", "2").ready()
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in orphans), "the end of the orphans")
        assert successor.get() == (200, "hello")
    finally:
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_worker_told_to_end_is_replaced_and_loses_nothing(start):
    proxy = start(bootstrap(listener()), "--concurrency", "2").ready()
    old = proxy.workers()[0]
    os.kill(old, signal.SIGTERM)

    eventually(lambda: old not in proxy.workers() and len(proxy.workers()) == 2, "a replacement")
    assert {proxy.get() for _ in range(10)} == {(200, "hello")}
    assert proxy.stats()["server.worker_died"] == 0


def test_orders_of_the_admin_page_reach_the_workers(start):
    config = bootstrap(listener(), layered_runtime={"layers": [{"name": "admin", "admin_layer": {}}]})
    proxy = start(config, "--concurrency", "2").ready()
    assert {proxy.get() for _ in range(8)} == {(200, "hello")}

    assert proxy.admin("/runtime_modify?a.b=5", "POST") == "OK\n"
    assert json.loads(proxy.admin("/runtime"))["entries"]["a.b"]["final_value"] == "5"
    proxy.admin("/reset_counters", "POST")
    eventually(lambda: proxy.stats()["http.web.downstream_rq_total"] == 0, "counters at 0")
    proxy.admin("/healthcheck/fail", "POST")
    assert proxy.admin("/ready") == "DRAINING\n"
    proxy.admin("/healthcheck/ok", "POST")
    assert proxy.admin("/ready") == "LIVE\n"
    assert json.loads(proxy.admin("/server_info"))["command_line_options"]["concurrency"] == 2
    assert "hello" in proxy.admin("/config_dump")
    port = proxy.port("web")
    proxy.admin("/drain_listeners", "POST")
    eventually(lambda: refused(port), "no listener")
    proxy.admin("/quitquitquit", "POST")
    assert proxy.wait() == 0
