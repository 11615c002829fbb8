"""Start the proxy on an example, with sample upstreams; stop on Ctrl-C.  What ``make run`` runs.

python examples/run.py [front-proxy.yaml] [more arguments of `weft proxy`]
"""

import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
PORTS = (10001, 10002, 10003)
TRY = {
    "front-proxy.yaml": (
        "curl -i http://127.0.0.1:10000/service/1",
        "curl -i http://127.0.0.1:10000/service/2/hello   # three of four answers from port 10002",
        "curl -iL http://127.0.0.1:10000/old",
        "curl http://127.0.0.1:9901/stats?usedonly        # or open http://127.0.0.1:9901/ in a browser",
    ),
    "tcp-proxy.yaml": ("curl -i http://127.0.0.1:10010/", "curl http://127.0.0.1:9902/clusters"),
    "access-log.yaml": (
        "curl -i http://127.0.0.1:10020/hello        # a line of JSON below, within ten seconds",
        "curl -i http://127.0.0.1:10020/nobody       # 503, and a second line with the flag UH",
        "curl -X POST http://127.0.0.1:9903/reopen_logs",
    ),
    "routing.yaml": (
        "curl -i http://127.0.0.1:10030/shop                  # x-share: 90, or one time in ten 10",
        "curl -i http://127.0.0.1:10030/shop -H 'x-canary: yes'",
        "curl -i http://127.0.0.1:10030/shop/search?q=tea     # arrives as /find?q=tea",
        "curl -i http://127.0.0.1:10030/users/7/orders        # arrives as /u/7/orders",
        "curl -iL http://127.0.0.1:10030/old/shoes",
        "curl -i http://127.0.0.1:10030/marked; curl -i http://127.0.0.1:10030/unmarked",
        "curl -i http://127.0.0.1:10030/ -H 'host: acme.example.com'",
    ),
    "proxy-protocol.yaml": (
        "curl -i http://127.0.0.1:10040/                      # x-chain: everybody",
        "curl -i --haproxy-protocol http://127.0.0.1:10040/",
        "(printf 'PROXY TCP4 192.0.2.7 10.0.0.1 4000 80\\r\\n'; printf 'GET / HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n') | nc -w 2 127.0.0.1 10040",
        "curl http://127.0.0.1:9905/stats?filter=proxy_proto",
    ),
    "limits.yaml": (
        "curl -i http://127.0.0.1:10050/slow                  # 504 after half a second",
        "curl -i http://127.0.0.1:10050/ -H 'under_score: 1'  # 400",
        "curl -i http://127.0.0.1:10050/none                  # 503, x-envoy-overloaded",
        "for i in $(seq 60); do curl -so /dev/null -w '%{http_code} ' http://127.0.0.1:10050/; done  # 000 once 50 connections are used up",
        "curl http://127.0.0.1:9906/stats?filter='limit|overflow|remaining'",
    ),
    "unix-socket.yaml": (
        "curl -i http://127.0.0.1:10060/",
        "curl -i --unix-socket /tmp/weft-example.sock http://anything/",
    ),
}


class Sample(BaseHTTPRequestHandler):
    """Says who answered, and what arrived; takes two seconds for paths that begin with /slow."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(2)
        body = f"hello from port {self.server.server_address[1]}: {self.command} {self.path}\n".encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """The proxy's access log tells enough."""


class SampleServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main(arguments: list[str]) -> int:
    example = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "front-proxy.yaml"
    path = HERE / Path(example).name
    if not path.exists():
        known = ", ".join(sorted(p.name for p in HERE.glob("*.yaml")))
        print(f"there is no example {example!r}; there are: {known}", file=sys.stderr)
        return 2
    for port in PORTS:
        try:
            server = SampleServer(("127.0.0.1", port), Sample)
        except OSError as error:
            print(f"cannot start the sample upstream on 127.0.0.1:{port}: {error.strerror}", file=sys.stderr)
            return 1
        threading.Thread(target=server.serve_forever, daemon=True).start()
    # Ctrl-C reaches the whole group; the proxy stops by itself and we wait for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    proxy = subprocess.Popen(
        [sys.executable, "-m", "weft", "proxy", "-c", str(path), *arguments],
        preexec_fn=_default_signals,
    )
    print(
        f"\nWeft runs {os.path.relpath(path)}; sample upstreams on ports {', '.join(map(str, PORTS))}. Try:\n"
    )
    for line in TRY.get(path.name, ()):
        print("   ", line)
    print("\nCtrl-C stops everything.\n", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: proxy.terminate())
    return proxy.wait()


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
