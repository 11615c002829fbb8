"""Weft against real Envoy: the same file, one core each, the same upstream, in turns.

    python bench/run.py --weft .../bin/weft --envoy .../bin/envoy [--rounds 5] [--seconds 4] [--only NAME]

Machines are noisy, so nothing here is an absolute figure: each round measures both, one after the
other (in alternating order), and what is printed is the ratio Weft / Envoy of each round, as median
and range.  nginx answers, wrk and iperf3 ask; all on loopback, for a bounded time.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PROXY_CPU, LOAD_CPUS = "0", "1"
HEADERS = [f"x-extra-{i}: some-value-of-a-header-{i}" for i in range(10)]

NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/nginx.err crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{
    listen 127.0.0.1:{port} reuseport;
    location / {{ return 200 "ok\\n"; }}
    location /headers {{ {headers} return 200 "ok\\n"; }}
    location /1m {{ root {dir}; }}
  }}
}}
"""


WEB = {"match": {"prefix": "/"}, "route": {"cluster": "web"}}
PLAIN = [{"name": "all", "domains": ["*"], "routes": [WEB]}]


def many_hosts(count: int) -> list[dict[str, object]]:
    """Virtual hosts of one domain and one route each."""
    return [{"name": f"host-{i}", "domains": [f"host-{i}.example.com"], "routes": [WEB]} for i in range(count)]


def many_routes(count: int) -> list[dict[str, object]]:
    """One virtual host of so many prefixes."""
    routes = [{"match": {"prefix": f"/api/v1/part-{i}/"}, "route": {"cluster": "web"}} for i in range(count)]
    return [{"name": "all", "domains": ["*"], "routes": routes}]


def config(
    http: int, tcp: int, upstream: int, iperf: int, clusters: int = 0, hosts: list[dict[str, object]] = PLAIN
) -> str:
    def cluster(name: str, port: int) -> dict[str, object]:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        }

    def listener(name: str, port: int, kind: str, body: dict[str, object]) -> dict[str, object]:
        return {
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": f"envoy.filters.network.{kind}", "typed_config": body}]}],
        }

    package = "type.googleapis.com/envoy.extensions.filters"
    hcm = {
        "@type": f"{package}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"name": "local", "virtual_hosts": hosts},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{package}.http.router.v3.Router"},
            }
        ],
    }
    tcp_proxy = {
        "@type": f"{package}.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "bench_tcp",
        "cluster": "iperf",
    }
    return json.dumps(
        {
            "node": {"id": "bench", "cluster": "bench"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "static_resources": {
                "listeners": [
                    listener("http", http, "http_connection_manager", hcm),
                    listener("tcp", tcp, "tcp_proxy", tcp_proxy),
                ],
                "clusters": [cluster("web", upstream), cluster("iperf", iperf)]
                + [cluster(f"cluster_{i}", 1 + i) for i in range(clusters)],
            },
        }
    )


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(what: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.01)
    return False


@dataclass
class Proxy:
    """One of the two, running."""

    name: str
    command: list[str]
    dir: Path
    upstream: int
    iperf: int
    clusters: int = 0
    hosts: list[dict[str, object]] = field(default_factory=lambda: PLAIN)
    http: int = 0
    tcp: int = 0
    admin: str = ""
    process: subprocess.Popen[bytes] | None = None
    to_ready: float = 0.0

    def __enter__(self) -> "Proxy":
        self.http, self.tcp = free_port(), free_port()
        path = self.dir / f"{self.name}-{self.http}.json"
        path.write_text(config(self.http, self.tcp, self.upstream, self.iperf, self.clusters, self.hosts))
        where = self.dir / f"{self.name}-{self.http}.admin"
        extra = ["--use-dynamic-base-id", "--disable-hot-restart"] if self.name == "envoy" else []
        began = time.monotonic()
        self.process = subprocess.Popen(
            ["taskset", "-c", PROXY_CPU, *self.command, "-c", str(path), "--concurrency", "1",
             "-l", "error", "--admin-address-path", str(where), *extra],
            stderr=(self.dir / f"{self.name}.err").open("ab"),
        )  # fmt: skip
        ok = wait_for(lambda: where.exists() and bool(where.read_text()) and self._ready(where.read_text()))
        self.to_ready = time.monotonic() - began
        if not ok:
            self.__exit__()
            sys.exit(f"{self.name} did not become ready; see {self.dir}/{self.name}.err")
        self.admin = where.read_text()
        return self

    def _ready(self, admin: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{admin}/ready", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def cpu(self) -> float:
        """Seconds of processor time that this proxy's processes have used."""
        assert self.process is not None
        ticks = 0
        for pid in [self.process.pid, *children(self.process.pid)]:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        """Bytes that this proxy's processes hold: proportional set size, shared pages counted once."""
        assert self.process is not None
        total = 0
        for pid in [self.process.pid, *children(self.process.pid)]:
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) * 1024  # type: ignore[union-attr]
        return total


def children(pid: int) -> list[int]:
    try:
        direct = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return direct + [grandchild for child in direct for grandchild in children(child)]


@dataclass
class Figure:
    """One row of the table: what was measured, and which way is better."""

    name: str
    higher_is_better: bool
    aim: str
    unit: str
    weft: list[float] = field(default_factory=list)
    envoy: list[float] = field(default_factory=list)

    def row(self) -> str:
        ratios = [w / e for w, e in zip(self.weft, self.envoy, strict=True) if e]
        middle = statistics.median(ratios)
        return (
            f"| {self.name} | {shown(self.weft)} | {shown(self.envoy)} | {self.unit} "
            f"| **{middle:.2f}** | {min(ratios):.2f} .. {max(ratios):.2f} | {self.aim} |"
        )


def shown(values: list[float]) -> str:
    middle = statistics.median(values)
    return f"{middle:,.2f}" if middle < 10 else f"{middle:,.0f}"


def wrk(
    url: str, seconds: int, *, connections: int = 32, headers: list[str] | None = None
) -> dict[str, float]:
    command = [
        "taskset",
        "-c",
        LOAD_CPUS,
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        url,
    ]
    for header in headers or []:
        command += ["-H", header]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    errors = re.search(r"(Non-2xx.*|Socket errors.*)", out)
    if errors and "timeout 0" not in errors.group(0) and "Non-2xx" in errors.group(0):
        print("   !", url, errors.group(0), file=sys.stderr)
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}

    def latency(which: str) -> float:
        match = re.search(rf"^\s+{which}%\s+([\d.]+)(us|ms|s)", out, re.M)
        return float(match.group(1)) * scale[match.group(2)] if match else 0.0

    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    return {
        "rate": float(rate.group(1)) if rate else 0.0,
        "p50": latency("50"),
        "p99": latency("99"),
    }


def iperf(port: int, seconds: int) -> float:
    out = subprocess.run(
        ["taskset", "-c", LOAD_CPUS, "iperf3", "-c", "127.0.0.1", "-p", str(port), "-t", str(seconds), "-J"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    try:
        return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e9
    except (KeyError, ValueError):
        return 0.0


FIGURES = {
    "rate": Figure("HTTP/1.1 keep-alive, small body", True, ">= 1.2", "req/s"),
    "rate p50": Figure("... p50", False, "<= 1", "ms"),
    "rate p99": Figure("... p99", False, "<= 1", "ms"),
    "headers": Figure("10 extra headers each way", True, ">= 1.2", "req/s"),
    "headers p99": Figure("... p99", False, "<= 1", "ms"),
    "connections": Figure("new connections", True, ">= 1", "conn/s"),
    "bodies": Figure("1 MB bodies", True, ">= 1", "req/s"),
    "hosts": Figure("10 000 virtual hosts, to the last", True, ">= 1", "req/s"),
    "hosts ready": Figure("... time to ready", False, "<= 1", "ms"),
    "hosts memory": Figure("... memory", False, "<= 1", "MB"),
    "routes": Figure("1 000 prefix routes, to the last", True, ">= 1", "req/s"),
    "routes ready": Figure("... time to ready", False, "<= 1", "ms"),
    "tcp": Figure("TCP throughput", True, ">= 1", "Gbit/s"),
    "tcp cpu": Figure("TCP, processor time of the proxy", False, "<= 1", "s/GB"),
    "memory": Figure("memory idle", False, "<= 1", "MB"),
    "memory clusters": Figure("memory, 1000 clusters", False, "<= 1", "MB"),
    "ready": Figure("time to ready", False, "<= 1", "ms"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weft", required=True, help="the weft command to measure")
    parser.add_argument("--envoy", required=True, help="the envoy command to measure against")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of load per figure and round")
    parser.add_argument("--only", default="", help="http | connections | bodies | routes | tcp | memory | ready")
    arguments = parser.parse_args()
    missing = [tool for tool in ("nginx", "wrk", "iperf3", "taskset") if not shutil.which(tool)]
    for path in (arguments.weft, arguments.envoy):
        if not os.access(path, os.X_OK):
            missing.append(path)
    if missing:
        print("cannot measure, missing: " + ", ".join(missing), file=sys.stderr)
        print(
            "on Debian: apt-get install nginx-light wrk iperf3; `make bench` installs the rest",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as name:
        measure(Path(name), arguments)
    return 0


def measure(dir: Path, arguments: argparse.Namespace) -> None:
    dir.chmod(0o755)
    (dir / "1m").write_bytes(b"x" * (1 << 20))
    upstream, iperf_port = free_port(), free_port()
    (dir / "nginx.conf").write_text(
        NGINX.format(
            dir=dir,
            port=upstream,
            headers=" ".join(f"add_header {h.replace(': ', ' ')};" for h in HEADERS),
        )
    )
    servers = [
        subprocess.Popen(
            ["taskset", "-c", LOAD_CPUS, "nginx", "-c", str(dir / "nginx.conf"), "-e", str(dir / "nginx.err")]
        ),
        subprocess.Popen(
            ["taskset", "-c", LOAD_CPUS, "iperf3", "-s", "-B", "127.0.0.1", "-p", str(iperf_port)],
            stdout=subprocess.DEVNULL,
        ),
    ]
    commands = {"weft": [arguments.weft, "proxy"], "envoy": [arguments.envoy]}
    try:
        for number in range(arguments.rounds):
            order = ["weft", "envoy"] if number % 2 == 0 else ["envoy", "weft"]
            for name in order:
                one_round(name, commands[name], dir, upstream, iperf_port, arguments)
            print(f"round {number + 1} of {arguments.rounds} done", file=sys.stderr, flush=True)
    finally:
        for server in servers:
            server.send_signal(signal.SIGTERM)
            server.wait()
    print(machine())
    print(
        "\n| figure | Weft | Envoy | unit | ratio Weft / Envoy (median) | range | aim |\n|---|---|---|---|---|---|---|"
    )
    for figure in FIGURES.values():
        if figure.weft and figure.envoy:
            print(figure.row())


def one_round(
    name: str, command: list[str], dir: Path, upstream: int, iperf_port: int, arguments: argparse.Namespace
) -> None:
    only, seconds = arguments.only, arguments.seconds

    def note(figure: str, value: float) -> None:
        (FIGURES[figure].weft if name == "weft" else FIGURES[figure].envoy).append(value)

    with Proxy(name, command, dir, upstream, iperf_port) as proxy:
        base = f"http://127.0.0.1:{proxy.http}"
        if only in ("", "ready"):
            note("ready", proxy.to_ready * 1000)
        if only in ("", "memory"):
            time.sleep(0.5)
            note("memory", proxy.resident() / 1e6)
        if only in ("", "http"):
            wrk(f"{base}/", 1)
            result = wrk(f"{base}/", seconds)
            note("rate", result["rate"])
            note("rate p50", result["p50"])
            note("rate p99", result["p99"])
            result = wrk(f"{base}/headers", seconds, headers=HEADERS)
            note("headers", result["rate"])
            note("headers p99", result["p99"])
        if only in ("", "connections"):
            note("connections", wrk(f"{base}/", seconds, headers=["Connection: close"])["rate"])
        if only in ("", "bodies"):
            note("bodies", wrk(f"{base}/1m", seconds, connections=8)["rate"])
        if only in ("", "tcp"):
            before = proxy.cpu()
            rate = iperf(proxy.tcp, seconds)
            note("tcp", rate)
            note("tcp cpu", (proxy.cpu() - before) / (rate * seconds / 8) if rate else 0.0)
    if only in ("", "memory"):
        with Proxy(name, command, dir, upstream, iperf_port, clusters=1000) as proxy:
            time.sleep(0.5)
            note("memory clusters", proxy.resident() / 1e6)
    if only in ("", "routes"):
        with Proxy(name, command, dir, upstream, iperf_port, hosts=many_hosts(10_000)) as proxy:
            note("hosts ready", proxy.to_ready * 1000)
            time.sleep(0.5)
            note("hosts memory", proxy.resident() / 1e6)
            last = ["Host: host-9999.example.com"]
            note("hosts", wrk(f"http://127.0.0.1:{proxy.http}/", seconds, headers=last)["rate"])
        with Proxy(name, command, dir, upstream, iperf_port, hosts=many_routes(1_000)) as proxy:
            note("routes ready", proxy.to_ready * 1000)
            note("routes", wrk(f"http://127.0.0.1:{proxy.http}/api/v1/part-999/x", seconds)["rate"])


def machine() -> str:
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return (
        f"{os.cpu_count()} cores, {model.group(1) if model else 'unknown processor'}, Linux {os.uname().release}, "
        f"Python {sys.version.split()[0]}; proxy on one core, load and upstream on another"
    )


if __name__ == "__main__":
    sys.exit(main())
