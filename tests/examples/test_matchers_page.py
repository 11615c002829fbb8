"""The cluster specifier of docs/matchers.md, installed as its page says, carries requests."""

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from weft.testing.peer import Upstream
from weft.testing.proxy import proxy

PAGE = (Path(__file__).parent.parent.parent / "docs" / "matchers.md").read_text()
T = "type.googleapis.com/"


def block(language):
    return re.search(rf"^```{language}[^\n]*\n(.*?)^```$", PAGE, re.M | re.S)[1]


@pytest.fixture
def _installed(tmp_path, monkeypatch):
    (tmp_path / "weft_shards.py").write_text(block("python"))
    project = tomllib.loads(block("toml"))["project"]
    info = tmp_path / "weft_shards-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    (group, entries), *_ = project["entry-points"].items()
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in entries.items()))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("weft_shards", None)


def bootstrap():
    plugin = {"name": "shards", "typed_config": {"@type": T + "google.protobuf.StringValue", "value": "shard-"}}
    route = {"inline_cluster_specifier_plugin": {"extension": plugin}}
    manager = {
        "@type": T + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "main",
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": T + "envoy.extensions.filters.http.router.v3.Router"}}],
    }
    address = lambda ip, port: {"socket_address": {"address": ip, "port_value": port}}  # noqa: E731
    hosts = [{"lb_endpoints": [{"endpoint": {"address": address("10.0.0.2", 81)}}]}]
    return json.dumps({"static_resources": {
        "listeners": [{"name": "main", "address": address("10.0.0.1", 80), "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}],
        "clusters": [{"name": "shard-a", "load_assignment": {"cluster_name": "shard-a", "endpoints": hosts}}],
    }})  # fmt: skip


@pytest.mark.usefixtures("_installed")
async def test_the_specifier_of_the_page():
    async with await Upstream.listen("10.0.0.2", 81) as upstream, proxy(bootstrap()) as running:
        client = await running.connect("main")
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-user: Ann\r\n\r\n")
        peer = await upstream.accept()
        await peer.read_until(b"\r\n\r\n")
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
        client.close()
        peer.close()
