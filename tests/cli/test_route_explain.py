"""``weft route explain``."""

import io
import json
import os
import pty
import subprocess
import sys

import pytest

from weft.cli.main import main as weft
from weft.testing.process import ProxyProcess

ROUTES = """
name: shop_routes
virtual_hosts:
- name: shop
  domains: ["shop.example.com"]
  routes:
  - name: items
    match: {prefix: /api/items, headers: [{name: x-version, string_match: {exact: "2"}}]}
    route: {cluster: items}
  - name: drawn
    match: {prefix: /drawn}
    route: {weighted_clusters: {clusters: [{name: a, weight: 9}, {name: b, weight: 1}]}}
  - name: shared
    match: {prefix: /shared, runtime_fraction: {default_value: {numerator: 0}, runtime_key: k}}
    route: {cluster: a}
"""
HCM = """
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          route_config: {{name: {name}, virtual_hosts: [{{name: v, domains: ["*"], routes: [{{match: {{prefix: /{name}}}, {action}}}]}}]}}
          http_filters:
          - {{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}
"""


def bootstrap(*names, action="direct_response: {status: 200}"):
    text = "static_resources:\n  listeners:\n"
    for name in names:
        text += f"  - name: on-{name}\n    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}\n    filter_chains:"
        text += HCM.format(name=name, action=action)
    return text


@pytest.fixture
def routes(tmp_path):
    path = tmp_path / "routes.yaml"
    path.write_text(ROUTES)
    return str(path)


@pytest.fixture
def explain(capsys):
    def run(*words):
        status = weft(["route", "explain", *words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def one(out):
    (told,) = json.loads(out)["explanations"]
    return told


@pytest.mark.parametrize(
    "words",
    [
        ["GET", "http://shop.example.com/api/items?x=1", "-H", "x-version: 2"],
        ["shop.example.com/api/items?x=1", "-H", "X-Version:2"],
        ["--authority", "shop.example.com", "--path", "/api/items?x=1", "--method", "GET", "--header", "x-version: 2"],
        ["GET", "/api/items?x=1", "--authority", "shop.example.com", "-H", "x-version: 2"],
        ["GET", "-H", ":authority: shop.example.com", "-H", ":path: /api/items?x=1", "-H", "x-version: 2", "--authority", "shop.example.com"],
        ["--log", '{"method": "GET", "path": "/api/items?x=1", "authority": "shop.example.com", "x-version": "2"}'],
        ["--log", '{"method": "GET", "path": "/api/items?x=1", "authority": "shop.example.com"}', "-H", "x-version: 2"],
    ],
)
def test_ways_to_ask(explain, routes, words):
    status, out, err = explain("-c", routes, "--json", *words)

    told = one(out)
    assert (status, err) == (0, "")
    assert (told["matched"], told["asked"]) == (True, "GET http://shop.example.com/api/items?x=1")
    assert told["plan"]["upstream"]["cluster"] == "items"


def test_chance_runtime_and_trust(explain, routes):
    _, drawn, _ = explain("-c", routes, "--json", "shop.example.com/drawn", "--random", "19", "--internal", "--remote", "1.2.3.4")
    status, _, _ = explain("-c", routes, "shop.example.com/shared", "--random", "30", "--runtime", "k=31")
    missed, _, _ = explain("-c", routes, "shop.example.com/shared", "--random", "30", "--runtime", "k=30")

    assert one(drawn)["plan"]["upstream"]["draw"]["number"] == 9
    assert one(drawn)["plan"]["upstream"]["cluster"] == "b"
    assert ["x-envoy-internal", "true"] in one(drawn)["request"]["headers"]
    assert (status, missed) == (0, 1)


def test_no_route(explain, routes):
    status, out, _ = explain("-c", routes, "GET", "https://shop.example.com/api/items")

    assert status == 1
    assert "  to match: send x-version: 2\n" in out
    assert "\033" not in out


def test_all_tables_or_one(explain, tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(bootstrap("a", "b"))

    both = json.loads(explain("-c", str(path), "--json", "http://h/a")[1])["explanations"]
    by_listener = explain("-c", str(path), "--json", "--listener", "on-b", "http://h/a")
    by_table = explain("-c", str(path), "--json", "--table", "a", "http://h/a")

    assert [(told["table"], told["matched"]) for told in both] == [("a", True), ("b", False)]
    assert (by_listener[0], one(by_listener[1])["table"]) == (1, "b")
    assert (by_table[0], one(by_table[1])["listener"]) == (0, "on-a")


def test_what_is_wrong_elsewhere_is_told_beside(explain, tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(bootstrap("a") + "tracing: {http: {name: x}}\n")

    status, out, err = explain("-c", str(path), "http://h/a")

    assert status == 0
    assert "the client gets  200" in out
    assert "tracing: not supported yet: tracing (warning: explained all the same)" in err


def test_lines_of_a_file_and_of_standard_input(explain, routes, tmp_path, monkeypatch):
    line = json.dumps({"path": "/drawn", "authority": "shop.example.com"})
    path = tmp_path / "access.log"
    path.write_text(f"{line}\n\n{line}\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO(line))

    of_file = explain("-c", routes, "--json", "--log", str(path))
    of_input = explain("-c", routes, "--json", "--log", "-")

    assert len(json.loads(of_file[1])["explanations"]) == 2
    assert one(of_input[1])["matched"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "give one of -c FILE and --admin URL"),
        (["-c", "ROUTES"], "give a request, such as GET https://shop.example.com/api"),
        (["-c", "ROUTES", "--admin", "http://x", "h/"], "give one of -c FILE and --admin URL"),
        (["-c", "ROUTES", "GET", "h/", "more"], "expected METHOD and URL, not 'GET h/ more'"),
        (["-c", "ROUTES", "h/", "-H", "nonsense"], "-H: expected 'name: value', not 'nonsense'"),
        (["-c", "ROUTES", "h/", "--runtime", "k"], "--runtime: expected KEY=VALUE, not 'k'"),
        (["-c", "ROUTES", "h/", "--random", "x"], "argument --random: expected a whole number, not 'x'"),
        (["-c", "ROUTES", "h/", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["-c", "ROUTES", "h/", "--table", "x"], "table: no route table is named 'x'; there is shop_routes"),
        (["-c", "ROUTES", "--log", "{"], "log: not a line of JSON"),
        (["-c", "ROUTES", "--log", "/nowhere/at.all"], "--log: /nowhere/at.all cannot be read"),
        (["-c", "/nowhere/at.all", "h/"], "/nowhere/at.all: cannot be read: No such file or directory"),
        (["--admin", "https://h/", "h/"], "--admin: expected http://HOST:PORT, not 'https://h/'"),
        (["--admin", "h:x", "h/"], "--admin: expected http://HOST:PORT, not 'h:x'"),
        (["--address", "127.0.0.1:1", "h/"], "--admin: 127.0.0.1:1 cannot be asked: "),
    ],
)
def test_what_is_wrong_with_the_question(explain, routes, words, problem):
    status, out, err = explain(*[routes if word == "ROUTES" else word for word in words])

    assert (status, out) == (2, "")
    assert problem in err


def test_too_many_lines(explain, routes, tmp_path):
    path = tmp_path / "access.log"
    path.write_text('{"path": "/", "host": "h"}\n' * 101)

    assert "101 lines; at most 100 are explained at once" in explain("-c", routes, "--log", str(path))[2]


def test_a_table_with_a_problem_has_its_place(explain, tmp_path):
    path = tmp_path / "routes.yaml"
    path.write_text('virtual_hosts:\n- name: v\n  domains: ["*"]\n  routes:\n  - match: {safe_regex: {regex: "("}}\n    route: {cluster: c}\n')

    status, _, err = explain("-c", str(path), "http://h/")

    assert status == 2
    assert err.startswith(f"{path}:5:33: virtual_hosts[0].routes[0].match.safe_regex.regex: missing )")


def test_help(capsys):
    assert weft(["route", "explain", "--help"]) == 0
    assert "weft route explain --admin http://127.0.0.1:9901 GET" in capsys.readouterr().out
    assert weft(["route", "--help"]) == 0
    assert "explain" in capsys.readouterr().out
    assert weft(["route"]) == 1
    assert weft(["route", "nonsense"]) == 1
    assert "there is no 'nonsense'" in capsys.readouterr().err
    assert weft(["--help"]) == 0
    assert "weft route explain -c envoy.yaml" in capsys.readouterr().out


# -- processes -------------------------------------------------------------------------------------


def _on_a_terminal(words, **env):
    """What the command writes to a terminal."""
    master, slave = pty.openpty()
    try:
        environment = {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm", **env}
        subprocess.run([sys.executable, "-m", "weft", *words], stdout=slave, env=environment, timeout=50)
        os.close(slave)
        slave = -1
        out = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                return out
            if not piece:
                return out
            out += piece
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)


def test_colour_is_for_terminals(routes):
    words = ["route", "explain", "-c", routes, "http://shop.example.com/drawn"]

    assert b"\033[32m" in _on_a_terminal(words)
    assert b"\033" not in _on_a_terminal(words, NO_COLOR="1")


@pytest.mark.parametrize("concurrency", ["1", "2"])
def test_a_running_proxy_is_asked(tmp_path, explain, concurrency):
    config = bootstrap("a", "b") + "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n"
    proxy = ProxyProcess(tmp_path, config, "--concurrency", concurrency)
    try:
        address = proxy.ready().admin_address
        asked = explain("--admin", f"http://{address}", "--listener", "on-a", "GET", "http://h/a?x", "--random", "7")
        as_json = explain("--address", address, "--json", "http://h/nowhere")
        wrong = explain("--address", address, "--listener", "on-c", "http://h/a")
    finally:
        proxy.close()

    assert asked[0] == 0
    assert asked[1].startswith("GET http://h/a?x  (table a, listener on-a)\n")
    assert (as_json[0], len(json.loads(as_json[1])["explanations"])) == (1, 2)
    assert wrong[0] == 2
    assert "answers 400: listener: no listener with a route table is named 'on-c'; did you mean 'on-b'?" in wrong[2]
