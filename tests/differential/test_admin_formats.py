"""The admin pages of Envoy and Weft, to the byte.

First: what a real Envoy counted, rendered by Weft's pages, must be the bytes that Envoy rendered.
Then: both proxies on one configuration, and the pages that do not depend on time compared.
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format

import weft
from weft.api import schema
from weft.api.problems import Where
from weft.proxy.admin.prometheus import prometheus_page
from weft.proxy.admin.query import parse_query
from weft.proxy.admin.stats_page import AdminRequest, stats_page, stats_query
from weft.proxy.observe.histogram import Histogram, bucket_of
from weft.proxy.observe.stats import Snapshot
from weft.proxy.observe.tags import TagExtractor, stats_settings
from weft.testing.pair import NotStarted, Side
from weft.testing.peer import Client
from weft.testing.transcript import read_message

SOURCE = str(Path(weft.__file__).parent.parent)
MAIN = f"import sys; sys.path.insert(0, {SOURCE!r}); from weft.cli.main import main; sys.exit(main())"
WEFT = [sys.executable, "-c", MAIN, "proxy"]
ENVOY = os.environ.get("WEFT_ENVOY") or str(Path(__file__).parent.parent / ".oracle" / "bin" / "envoy")

pytestmark = [
    pytest.mark.skipif(not Path(ENVOY).exists(), reason=f"no Envoy to compare with at {ENVOY}"),
    pytest.mark.xdist_group("admin-formats"),
]

HTTP = "type.googleapis.com/envoy.extensions.filters.http."
NETWORK = "type.googleapis.com/envoy.extensions.filters.network."
STATS_CONFIG = {
    "stats_tags": [{"tag_name": "my.tag", "regex": "^tcp\\.((pre)fix\\.)"}],
    "histogram_bucket_settings": [
        {"match": {"suffix": "upstream_cx_length_ms"}, "buckets": [1, 7, 1234, 99999.5]}
    ],
}


def listener(name, chain, **more):
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return {"name": name, "address": address, "filter_chains": [{"filters": chain}], **more}


def network(kind, **fields):
    return {"name": kind, "typed_config": {"@type": NETWORK + kind, **fields}}


def endpoints(name, *groups):
    return {"cluster_name": name, "endpoints": list(groups)}


def endpoint(port, **more):
    return {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, **more}}


ROUTES = {
    "name": "r",
    "virtual_hosts": [
        {
            "name": "vh",
            "domains": ["*"],
            "routes": [
                {
                    "match": {"prefix": "/d"},
                    "direct_response": {"status": 200, "body": {"inline_string": "hi"}},
                },
                {"match": {"prefix": "/"}, "route": {"cluster": "a-b"}},
            ],
        }
    ],
}

CONFIG = {
    "node": {"id": "n0", "cluster": "c0", "locality": {"region": "r1", "zone": "z1"}},
    "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
    "stats_config": STATS_CONFIG,
    # The first interval has everything, and lasts as long as this test.
    "stats_flush_interval": "1s",
    "layered_runtime": {
        "layers": [
            {"name": "base", "static_layer": {"health_check": {"min_interval": 5}, "a.b": True, "s": "x", "n": 1.5}},
            {"name": "adm", "admin_layer": {}},
        ]
    },
    "static_resources": {
        "listeners": [
            listener(
                "main",
                [
                    network(
                        "http_connection_manager.v3.HttpConnectionManager",
                        stat_prefix="in.gress",
                        route_config=ROUTES,
                        http_filters=[
                            {"name": "router", "typed_config": {"@type": HTTP + "router.v3.Router"}},
                        ],
                    )
                ],
                stat_prefix="lp",
            ),
            listener("tcp", [network("tcp_proxy.v3.TcpProxy", stat_prefix="prefix", cluster="a")]),
        ],
        "clusters": [
            {"name": "a", "load_assignment": endpoints("a")},
            {
                "name": "a-b",
                "circuit_breakers": {
                    "thresholds": [{"max_connections": 7}, {"priority": "HIGH", "max_retries": 9}]
                },
                "load_assignment": endpoints(
                    "a-b",
                    {
                        "locality": {"region": "a", "zone": "b", "sub_zone": "c"},
                        "lb_endpoints": [{**endpoint("${refused}"), "load_balancing_weight": 3}],
                    },
                ),
            },
            {"name": "a_b", "alt_stat_name": "al.t"},
            {"name": "dns", "type": "STRICT_DNS", "load_assignment": endpoints("dns")},
        ],
    },
}  # fmt: skip


class Both:
    """Envoy and, once a test asks for it, Weft; each has served the same few requests."""

    def __init__(self, weft):
        self.runner = asyncio.Runner()
        self.commands = {"envoy": [ENVOY, "--disable-hot-restart"], "weft": [*weft, "--disable-hot-restart"]}
        self.sides = {}

    def side(self, name):
        if name not in self.sides:
            side = self.sides[name] = Side(name, self.commands[name])
            self.runner.run(self._start(side))
        return self.sides[name]

    async def _start(self, side):
        await side.start(CONFIG)
        for path in ("/d", "/d", "/x", "/d", "/y"):
            client = await Client.connect(*side.stage.listeners["main"], within=5)
            client.send(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
            await client.read_all()
            client.close()
        await side.counters()
        await asyncio.sleep(2.1)  # two flushes: the histograms are merged, the last interval is empty

    def page(self, name, path, method="GET"):
        """(status, content type, body)."""
        return self.runner.run(self._page(self.side(name), path, method))

    async def _page(self, side, path, method):
        client = await Client.connect(*side.admin, within=5)
        client.send(f"{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n".encode())
        try:
            message = await read_message(client, request=False)
        finally:
            client.close()
        kind = message.values(b"content-type")[-1].decode()
        return message.status, kind, message.body.decode()

    def close(self):
        for side in self.sides.values():
            side.stop()
        self.runner.run(asyncio.sleep(0.01))
        self.runner.close()


@pytest.fixture(scope="module")
def both():
    made = Both(WEFT)
    yield made
    made.close()


# -- what Envoy counted, rendered by Weft ----------------------------------------------------------

_UNSTEADY = re.compile(
    r"\.?admin\.|_admin_|prefix=\"admin\"|server\.|server_|filesystem|dns\.cares|dns_cares"
)
"""Stats that move while they are read; those of files are made before Envoy reads its tags."""


def steady(page):
    lines = page.replace("},{", "},\n{").replace("}]},", "}]},\n").splitlines()
    return [line for line in lines if not _UNSTEADY.search(line)]


def histogram(text):
    out = Histogram()
    for part in filter(None, text.split(", ")):
        bounds, _, count = part.partition(":")
        bucket = bucket_of(int(float(bounds.split(",")[0])))
        out.buckets[bucket] = int(count)
        out.count += int(count)
    return out


@pytest.fixture(scope="module")
def counted(both):
    """Envoy's stats as a snapshot, and those of its last interval."""
    now, interval = Snapshot(), Snapshot()
    for kind, stats in (("Counters", now.counters), ("Gauges", now.gauges)):
        for line in both.page("envoy", f"/stats?type={kind}")[2].splitlines():
            name, _, value = line.rpartition(": ")
            stats[name] = int(value)
    for line in both.page("envoy", "/stats?type=TextReadouts")[2].splitlines():
        name, _, value = line.partition(": ")
        now.texts[name] = value[1:-1]
    name = ""
    for line in both.page("envoy", "/stats?type=Histograms&histogram_buckets=detailed")[2].splitlines():
        if line.endswith(": No recorded values"):
            now.histograms[line.rpartition(": ")[0]] = ("ms", Histogram())
        elif line.startswith("  totals="):
            now.histograms[name] = ("ms", histogram(line[9:]))
        elif line.startswith("  intervals="):
            interval.histograms[name] = ("ms", histogram(line[12:]))
        elif not line.startswith(" "):
            name = line[:-1]
    assert now.histograms["http.in.gress.downstream_cx_length_ms"][1].count == 5
    return now, interval


@pytest.mark.parametrize(
    "query",
    [
        "",
        "format=json",
        "filter=cluster&type=Counters",
        "filter=cluster&invert_filter&type=Gauges",
        *[
            f"type=Histograms&histogram_buckets={buckets}{form}"
            for buckets in ("cumulative", "disjoint", "detailed", "summary")
            for form in ("", "&format=json")
        ],
        "usedonly&type=Histograms",
        "format=prometheus",
        "format=prometheus&text_readouts&filter=cluster",
        "format=prometheus&histogram_buckets=summary",
    ],
)
def test_weft_renders_stats_as_envoy_does(both, counted, query):
    snapshot, interval = counted
    message = json_format.ParseDict(
        STATS_CONFIG, schema.message_class("envoy.config.metrics.v3.StatsConfig")()
    )
    settings = stats_settings(message, Where.nowhere())
    request = stats_query(AdminRequest(method="GET", path="/stats", query=parse_query(query)))
    if request.format == "prometheus":
        page = prometheus_page(request, snapshot, interval, settings, TagExtractor(settings))
        ours = both.runner.run(page)
    else:
        ours = stats_page(request, snapshot, interval, settings)

    status, kind, theirs = both.page("envoy", "/stats?" + query)

    assert status == 200
    assert ours.content_type == kind
    assert steady(ours.body) == steady(theirs)


# -- both of them ----------------------------------------------------------------------------------


def weft_page(both, path, method="GET"):
    try:
        return both.page("weft", path, method)
    except NotStarted as error:
        pytest.fail(str(error), pytrace=False)


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/ready", "GET"),
        ("/ready", "POST"),
        ("/certs", "GET"),
        ("/init_dump", "GET"),
        ("/runtime_modify", "POST"),
        ("/logging", "GET"),
        ("/logging", "POST"),
        ("/logging?level=error", "POST"),
        ("/healthcheck/fail", "POST"),
        ("/ready?draining", "GET"),
        ("/healthcheck/ok", "POST"),
        ("/reopen_logs", "POST"),
        ("/quitquitquit", "GET"),
        ("/reset_counters", "DELETE"),
        ("/cpuprofiler", "POST"),
        ("/stats?type=bogus", "GET"),
        ("/stats?format=bogus", "GET"),
        ("/stats?histogram_buckets=bogus", "GET"),
        ("/stats?filter=(", "GET"),
        ("/stats/prometheus?histogram_buckets=disjoint", "GET"),
        ("/stats?format=json&filter=nothing-has-this", "GET"),
        ("/clusters?filter=(", "GET"),
        ("/clusters?filter=nothing-has-this", "GET"),
        ("/config_dump?resource=bogus", "GET"),
        ("/config_dump?resource=bootstrap", "GET"),
        ("/config_dump?mask=bogus", "GET"),
        ("/config_dump?name_regex=(", "GET"),
        ("/config_dump?resource=dynamic_listeners", "GET"),
        ("/config_dump?resource=static_clusters&mask=cluster.name", "GET"),
        (
            "/config_dump?resource=static_clusters&name_regex=a.b&mask=cluster.name,cluster.circuit_breakers",
            "GET",
        ),
        ("/config_dump?resource=static_route_configs&mask=route_config.virtual_hosts", "GET"),
        ("/config_dump?resource=static_listeners&mask=listener.name", "GET"),
        ("//x/../ready", "GET"),
    ],
)
def test_pages_that_are_the_same_to_the_byte(both, path, method):
    assert weft_page(both, path, method) == both.page("envoy", path, method)


@pytest.mark.parametrize("path", ["/nothing", "/help"])
def test_help_has_the_same_shape(both, path):
    """The words are our own."""
    ours, theirs = weft_page(both, path), both.page("envoy", path)

    assert ours[:2] == theirs[:2]
    assert ours[2].splitlines()[0] == theirs[2].splitlines()[0]
    commands = [set(re.findall(r"(?m)^  (/[\w/]*)(?: \(POST\))?: ", page[2])) for page in (ours, theirs)]
    assert commands[1] - commands[0] == {"/allocprofiler", "/memory/tcmalloc", "/peak_heap_dump"}


def test_runtime(both):
    ours, theirs = weft_page(both, "/runtime"), both.page("envoy", "/runtime")

    assert ours[:2] == theirs[:2]
    assert json.loads(ours[2]) == json.loads(theirs[2])


def ports_hidden(text):
    return re.sub(r"(127\.0\.0\.1:|\"port_value\": )\d+", r"\1PORT", text)


def by_cluster(page):
    """Envoy has its clusters in a hash table's order."""
    page = ports_hidden(page)
    if page.startswith("{"):
        statuses = json.loads(page.replace("PORT", "0"))
        for name, values in statuses.items():
            statuses[name] = sorted(values, key=lambda value: value["name"])
        return statuses
    return sorted(page.splitlines(), key=lambda line: line.partition("::")[0])


@pytest.mark.parametrize(
    "path",
    ["/clusters", "/clusters?filter=^a$", "/clusters?format=json", "/listeners", "/listeners?format=json"],
)
def test_clusters_and_listeners(both, path):
    ours, theirs = weft_page(both, path), both.page("envoy", path)

    assert ours[:2] == theirs[:2]
    assert by_cluster(ours[2]) == by_cluster(theirs[2])


@pytest.mark.parametrize(
    "query",
    ["resource=static_clusters", "resource=static_listeners", "include_eds&resource=static_endpoint_configs"],
)
def test_config_dump(both, query):
    def configs(page):
        text = re.sub(r'"last_updated": "[\d:.TZ-]+"', '"last_updated": "THEN"', ports_hidden(page[2]))
        return json.loads(text.replace("PORT", "0"))

    ours, theirs = weft_page(both, "/config_dump?" + query), both.page("envoy", "/config_dump?" + query)

    assert ours[:2] == theirs[:2]
    assert configs(ours) == configs(theirs)


def test_server_info_has_the_same_fields(both):
    ours, theirs = (
        json.loads(page[2]) for page in (weft_page(both, "/server_info"), both.page("envoy", "/server_info"))
    )

    assert list(ours) == list(theirs)
    assert ours["state"] == theirs["state"]
    assert ours["node"].keys() == theirs["node"].keys()
    assert {key: ours["node"][key] for key in ("id", "cluster", "locality")} == {
        key: theirs["node"][key] for key in ("id", "cluster", "locality")
    }
