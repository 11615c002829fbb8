"""What a check says of a request is what a proxy does with it: both, side by side."""

import asyncio
import json

import pytest
from google.protobuf import json_format

from weft.api.schema import message_class
from weft.proxy.clock import Clock
from weft.proxy.route_check.files import load_table
from weft.proxy.route_check.outcome import play
from weft.testing.peer import Upstream
from weft.testing.proxy import proxy
from weft.testing.transcript import read_message

_TYPE = "type.googleapis.com/envoy.extensions.filters."


def add(key, value):
    return [{"header": {"key": key, "value": value}}]


def rules(place):
    """Header rules of a place that see what others did, and overwrite."""
    return {
        "request_headers_to_add": [
            *add("q", place),
            *add(f"path-{place}", "%REQ(:path)%"),
            {"header": {"key": "last", "value": place}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
        ],
        "request_headers_to_remove": [f"no-{place}"],
        "response_headers_to_add": [*add("r", place), *add("got", "<%RESP(up)%> %REQ(:authority)%")],
        "response_headers_to_remove": [f"no-{place}"],
    }


WEIGHTED = {
    "weighted_clusters": {
        "clusters": [{"name": "up", "weight": 1, "host_rewrite_literal": "weighted.test", **rules("cluster")}]
    }
}
TABLE = {
    "virtual_hosts": [
        {
            "name": "v",
            "domains": ["*"],
            **rules("host"),
            "routes": [
                {"match": {"prefix": "/weighted"}, "route": {**WEIGHTED, "prefix_rewrite": "/w"}, **rules("route")},
                {"match": {"prefix": "/lit"}, "route": {"cluster": "up", "host_rewrite_literal": "lit.test", "append_x_forwarded_host": True}, **rules("route")},
                {"match": {"prefix": "/regex"}, "route": {"cluster": "up", "regex_rewrite": {"pattern": {"regex": "^/regex/(.*)"}, "substitution": "/\\1"}, "host_rewrite_header": "to"}, **rules("route")},
                {"match": {"prefix": "/direct"}, "direct_response": {"status": 201, "body": {"inline_string": "here"}}, **rules("route")},
                {"match": {"prefix": "/redirect"}, "redirect": {"prefix_rewrite": "/r", "https_redirect": True, "response_code": "SEE_OTHER"}, **rules("route")},
                {"match": {"prefix": "/"}, "route": {"cluster": "up"}},
            ],
        }
    ],
    **rules("table"),
}  # fmt: skip

HCM = {
    "@type": _TYPE + "network.http_connection_manager.v3.HttpConnectionManager",
    "stat_prefix": "main",
    "http_filters": [{"name": "router", "typed_config": {"@type": _TYPE + "http.router.v3.Router"}}],
    "route_config": TABLE,
}


def _address(ip, port):
    return {"socket_address": {"address": ip, "port_value": port}}


BOOTSTRAP = {
    "static_resources": {
        "listeners": [
            {
                "name": "main",
                "address": _address("127.0.0.1", 10000),
                "filter_chains": [{"filters": [{"name": "http", "typed_config": HCM}]}],
            }
        ],
        "clusters": [
            {
                "name": "up",
                "load_assignment": {
                    "cluster_name": "up",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address("10.0.0.1", 81)}}]}],
                },
            }
        ],
    }
}
OURS = (
    b"q",
    b"last",
    b"x-envoy-original-path",
    b"x-envoy-original-host",
    b"x-forwarded-host",
    b"no-route",
    b"no-host",
)
BACK = (b"r", b"got", b"up", b"no-route", b"no-host")
GIVEN = [("to", "to.test"), ("no-route", "1"), ("no-host", "1"), ("no-cluster", "1"), ("keep", "1")]
RETURNED = [("up", "u"), ("no-route", "1"), ("no-host", "1")]


def _picked(pairs, names):
    return [(name, value) for name, value in pairs if name in names or name.startswith((b"path-", b"keep"))]


@pytest.mark.parametrize(
    "path", ["/weighted/a?b=c", "/lit", "/regex/x/y?z", "/other", "/direct", "/redirect/1?2"]
)
async def test_a_request_is_carried_as_it_is_checked(tmp_path, path):
    (tmp_path / "r.json").write_text(json.dumps(TABLE))
    given = message_class("envoy.RouterCheckToolSchema.ValidationInput")()
    forwards = not path.startswith(("/direct", "/redirect"))
    fields = {
        "authority": "a.test",
        "path": path,
        "method": "GET",
        "additional_request_headers": [{"key": key, "value": value} for key, value in GIVEN],
        # A proxy's own answer has nothing of an upstream's.
        "additional_response_headers": [{"key": key, "value": value} for key, value in RETURNED]
        if forwards
        else [],
    }
    json_format.ParseDict(fields, given)
    checked = play(load_table(str(tmp_path / "r.json")), given, Clock(asyncio.get_running_loop()))

    lines = "".join(f"{key}: {value}\r\n" for key, value in GIVEN)
    async with await Upstream.listen("10.0.0.1", 81) as upstream, proxy(json.dumps(BOOTSTRAP)) as running:
        client = await running.connect("main")
        client.send(f"GET {path} HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n".encode())
        if forwards:
            peer = await upstream.accept()
            request = await read_message(peer, request=True)
            back = "".join(f"{key}: {value}\r\n" for key, value in RETURNED)
            peer.send(f"HTTP/1.1 200 OK\r\n{back}content-length: 0\r\n\r\n".encode())
        response = await read_message(client, request=False)
        client.close()

    if forwards:
        assert checked.forwards
        assert request.start.split()[1] == checked.request.path
        assert dict(request.headers)[b"host"] == checked.request.authority
        assert _picked(request.headers, OURS) == _picked(checked.request.headers.items(), OURS)
    else:
        assert response.start.split()[1] == checked.response_status
        assert checked.location == (
            dict(response.headers).get(b"location") or b"http://a.test" + path.encode()
        )
        assert dict(response.headers).get(b"content-type") == checked.response.find(b"content-type")
    assert _picked(response.headers, BACK) == _picked(checked.response.items(), BACK)
