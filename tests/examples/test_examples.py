"""Every example loads, runs, and answers the same in Weft and in real Envoy.

Both run as real processes, with the sample upstreams of ``examples/run.py``; ports are made free ones.
"""

import contextlib
import http.client
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from weft.testing.process import PATIENCE, eventually

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
ENVOY = os.environ.get("WEFT_ENVOY") or str(ROOT / "tests" / ".oracle" / "bin" / "envoy")
WEFT = [sys.executable, "-m", "weft", "proxy"]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

_spec = importlib.util.spec_from_file_location("examples_run", EXAMPLES / "run.py")
run_py = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run_py)


def need_envoy():
    if not Path(ENVOY).exists():
        pytest.skip(f"no Envoy to compare with: nothing at {ENVOY}, and WEFT_ENVOY does not name one")


def validate(command, path):
    """(exit status, what was printed)"""
    done = subprocess.run(
        [*command, "--mode", "validate", "-c", str(path)], capture_output=True, text=True, env=_ENVIRONMENT
    )
    return done.returncode, done.stdout + done.stderr


class Running:
    """One proxy with one example."""

    def __init__(self, command, path, directory, upstreams):
        text = path.read_text()
        for port, upstream in zip(run_py.PORTS, upstreams, strict=True):
            text = text.replace(str(port), str(upstream.server_address[1]))
        text = re.sub(r"port_value: (10000|100[1-9]\d|99\d\d)\b", "port_value: 0", text)
        text = text.replace("/tmp/", f"{directory}/")
        config = yaml.safe_load(text)
        for listener in config["static_resources"]["listeners"]:
            # Asked for any port, the kernel may give one that another proxy shares (SO_REUSEPORT).
            listener["enable_reuse_port"] = False
        (directory / path.name).write_text(yaml.safe_dump(config))
        admin = directory / "admin"
        with open(directory / "log", "wb") as log, open(directory / "out", "wb") as out:
            flags = [
                "--concurrency",
                "1",
                "--admin-address-path",
                str(admin),
                "--file-flush-interval-msec",
                "5",
            ]
            self.process = subprocess.Popen(
                [*command, "-c", str(directory / path.name), "--disable-hot-restart", *flags],
                stdout=out,
                stderr=log,
                env=_ENVIRONMENT,
            )
        self.directory = directory
        self._ports = {}
        try:
            eventually(lambda: self._alive() and admin.exists() and admin.read_text(), "the admin server")
            self._ports["admin"] = int(admin.read_text().rpartition(":")[2])
            eventually(lambda: self._alive() and self.ask("/ready", "admin")[2] == "LIVE\n", "readiness")
        except BaseException:
            self.close()
            raise
        for line in self.ask("/listeners", "admin")[2].splitlines():
            name, _, address = line.partition("::")
            self._ports[name] = int(address.rpartition(":")[2]) if address.startswith("127") else 0

    def _alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"ended with {self.process.returncode}:\n{self.logged('log')}")
        return True

    def logged(self, name):
        return (self.directory / name).read_text()

    def port(self, listener):
        return self._ports[listener]

    def ask(self, path, listener, method="GET", headers=None):
        """(status, headers, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[listener], timeout=PATIENCE)
        try:
            connection.request(method, path, headers={"host": "test", **(headers or {})})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()
        finally:
            connection.close()

    def close(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def upstreams():
    """The sample upstreams of ``examples/run.py``, on ports of their own."""
    servers = [run_py.SampleServer(("127.0.0.1", 0), run_py.Sample) for _ in run_py.PORTS]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield servers
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def running(upstreams, tmp_path_factory):
    """``running(example, "weft" or "envoy")``: the proxy with the example, started once."""
    started = {}

    def start(example, side):
        if (example, side) not in started:
            if side == "envoy":
                need_envoy()
            command = WEFT if side == "weft" else [ENVOY, "-l", "warn"]
            directory = tmp_path_factory.mktemp(f"{side}-")
            started[example, side] = Running(command, EXAMPLES / example, directory, upstreams)
        return started[example, side]

    yield start
    for one in started.values():
        one.close()


# -- what is in them -------------------------------------------------------------------------------

NAMES = sorted(path.name for path in EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_weft_finds_nothing_wrong(name):
    assert validate(WEFT, EXAMPLES / name) == (0, f"configuration '{EXAMPLES / name}' OK\n")


@pytest.mark.parametrize("name", NAMES)
def test_envoy_takes_it_unchanged(name):
    need_envoy()
    status, printed = validate([ENVOY, "--disable-hot-restart", "-l", "warn"], EXAMPLES / name)

    assert status == 0, printed


def _ports(name):
    return set(re.findall(r"port_value: (\d+)", (EXAMPLES / name).read_text())) - {
        str(p) for p in run_py.PORTS
    }


def test_no_two_examples_want_the_same_port():
    every = [port for name in NAMES for port in _ports(name)]

    assert sorted(every) == sorted(set(every))


@pytest.mark.parametrize("name", NAMES)
def test_what_make_run_tells_to_try_is_there(name):
    lines = run_py.TRY[name]
    told = {port for line in lines for port in re.findall(r"127\.0\.0\.1[: ](\d+)", line)}

    assert told
    assert told <= _ports(name)


@pytest.mark.parametrize("name", NAMES)
def test_each_example_says_what_it_shows(name):
    text = (EXAMPLES / name).read_text()

    assert text.startswith("# ")
    assert "static_resources" in yaml.safe_load(text)


# -- what they answer ------------------------------------------------------------------------------

SAME = ("location", "x-tenant", "x-mark", "x-route", "x-client", "x-chain", "x-endpoint", "x-envoy-overloaded", "content-type", "server")  # fmt: skip
"""Headers that both proxies must give alike."""

ANSWERS = [
    ("front-proxy.yaml", "front", "/service/1", {}, 200, "hello from port {0}: GET /service/1\n"),
    ("front-proxy.yaml", "front", "/service/2/hello", {}, 200, "GET /two/hello\n"),
    ("front-proxy.yaml", "front", "/old", {}, 301, ""),
    ("front-proxy.yaml", "front", "/", {}, 200, "try /service/1, /service/2 or /old\n"),
    ("front-proxy.yaml", "front", "/nowhere", {}, 404, ""),
    ("tcp-proxy.yaml", "tcp", "/", {}, 200, "hello from port "),
    ("access-log.yaml", "front", "/hello", {}, 200, "hello from port {0}: GET /hello\n"),
    ("access-log.yaml", "front", "/nobody", {}, 503, "no healthy upstream"),
    ("routing.yaml", "front", "/shop", {"x-canary": "yes"}, 200, "hello from port {1}: GET /shop\n"),
    ("routing.yaml", "front", "/shop/search?q=tea", {}, 200, "hello from port {1}: GET /find?q=tea\n"),
    ("routing.yaml", "front", "/shop/search", {}, 200, "GET /shop/search\n"),
    ("routing.yaml", "front", "/users/7/orders?all", {}, 200, "hello from port {0}: GET /u/7/orders?all\n"),
    ("routing.yaml", "front", "/users/seven", {}, 404, ""),
    ("routing.yaml", "front", "/a/..//shop/./x", {"x-canary": "yes"}, 200, "hello from port {1}: GET /shop/x\n"),
    ("routing.yaml", "front", "/old/shoes?red", {}, 308, ""),
    ("routing.yaml", "front", "/older", {}, 404, ""),
    ("routing.yaml", "front", "/marked", {}, 200, "look at my headers\n"),
    ("routing.yaml", "front", "/unmarked", {}, 200, "the filter is off here\n"),
    ("routing.yaml", "front", "/", {"host": "admin.example.com:8080"}, 403, "not from here\n"),
    ("routing.yaml", "front", "/", {"host": "acme.example.com"}, 200, "hello from port {0}: GET /\n"),
    ("proxy-protocol.yaml", "front", "/", {}, 200, "see who you are in the headers\n"),
    ("limits.yaml", "web", "/", {}, 200, "hello from port {0}: GET /\n"),
    ("limits.yaml", "web", "/slow", {}, 504, '"response_timeout"'),
    ("limits.yaml", "web", "/none", {}, 503, "overflow"),
    ("limits.yaml", "web", "/", {"under_score": "1"}, 400, ""),
    ("limits.yaml", "web", "/", {"long": "x" * 9000}, 431, ""),
    ("limits.yaml", "tcp", "/", {}, 200, "hello from port {0}: GET /\n"),
    ("unix-socket.yaml", "outer", "/", {}, 200, "hello from port {0}: GET /\n"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("example", "listener", "path", "headers", "status", "body"),
    [pytest.param(*row, id=f"{row[0]}-{row[2]}-{row[4]}") for row in ANSWERS],
)
def test_both_proxies_answer_the_same(running, upstreams, example, listener, path, headers, status, body):
    ports = [upstream.server_address[1] for upstream in upstreams]
    weft = running(example, "weft").ask(path, listener, headers=headers)

    assert weft[0] == status
    assert body.format(*ports) in weft[2] if body else True
    need_envoy()
    envoy = running(example, "envoy").ask(path, listener, headers=headers)
    assert _comparable(weft) == _comparable(envoy)


def _comparable(answer):
    status, headers, body = answer
    body = re.sub(r"from port \d+", "from port", body)
    return status, {name: headers.get(name) for name in SAME}, body


def test_three_of_four_go_where_the_weight_is(running, upstreams):
    front = running("front-proxy.yaml", "weft")
    seen = [front.ask("/service/2", "front")[2] for _ in range(40)]

    assert 29 <= sum(str(upstreams[1].server_address[1]) in body for body in seen) <= 31


@pytest.mark.parametrize("side", ["weft", "envoy"])
def test_who_the_client_is_comes_from_the_proxy_in_front(running, side):
    port = running("proxy-protocol.yaml", side).port("front")
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 80\r\nGET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()

    assert "x-client: 192.0.2.7\r\n" in answer
    assert "x-chain: office\r\n" in answer


@pytest.mark.parametrize("side", ["weft", "envoy"])
def test_the_request_log_is_json_and_errors_are_text(running, side):
    proxy = running("access-log.yaml", side)
    proxy.ask("/hello?log=1", "front")
    proxy.ask("/nobody?log=1", "front")

    def lines():
        found = [json.loads(line) for line in proxy.logged("out").splitlines() if "log=1" in line]
        return found if len(found) == 2 and "log=1" in proxy.logged("log") else None

    good, bad = eventually(lines, "the access log")
    assert (good["request"], good["status"], good["flags"]) == ("GET /hello?log=1 HTTP/1.1", 200, "-")
    assert (good["route"], good["cluster"], good["bytes"]["received"]) == ("hello", "hello", 0)
    assert (bad["status"], bad["flags"], bad["details"], bad["host"]) == (
        503,
        "UH",
        "no_healthy_upstream",
        None,
    )
    assert re.search(r"\] 503 UH GET /nobody\?log=1: no_healthy_upstream\n", proxy.logged("log"))


def test_the_socket_has_its_mode(running):
    path = running("unix-socket.yaml", "weft").directory / "weft-example.sock"

    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("side", ["weft", "envoy"])
def test_connections_above_the_rate_are_closed(running, side):
    proxy = running("limits.yaml", side)
    for _ in range(120):
        try:
            proxy.ask("/", "web")
        except OSError:
            break
    else:
        pytest.fail("none was closed")
    stats = proxy.ask("/stats?filter=rate_limited", "admin")[2]

    assert re.search(r"local_rate_limit\.web\.rate_limited: [1-9]", stats)
