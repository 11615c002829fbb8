"""Rate limit descriptors: what each action says of a request, and which limits a route is under."""

import pytest

from weft.http.headers import Headers
from weft.http.message import Request
from weft.proxy.address import Address
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo


def request_of(*headers, path=b"/"):
    fields = Headers()
    for name, value in headers:
        fields.add(name, value)
    return Request(b"GET", path, b"a.example", b"http", fields)


def info_of(remote="10.1.2.3", **known):
    info = StreamInfo(ConnectionInfo(1, 0.0, Address(remote, 50), Address("10.0.0.1", 80)), 0.0)
    for name, value in known.items():
        setattr(info, name, value)
    return info


@pytest.fixture
def limits(table_of):
    def build(*actions, **more):
        route = {
            "match": {"prefix": "/"},
            "metadata": {"filter_metadata": {"ns": {"tier": "gold"}}},
            "route": {"cluster": "a", "rate_limits": [{"actions": list(actions), **more}]},
        }
        return table_of([route]).virtual_hosts[0].routes[0]

    return build


def header(**more):
    return {"request_headers": {"header_name": "X-User", "descriptor_key": "user", **more}}


def parameter(**more):
    return {"query_parameters": {"query_parameter_name": "q", "descriptor_key": "q", **more}}


def metadata(**more):
    key = {"key": "ns", "path": [{"key": "tier"}]}
    return {"metadata": {"descriptor_key": "tier", "metadata_key": key, **more}}


BLUE = {"name": "x-kind", "string_match": {"exact": "blue"}}
CASES = [
    ({"generic_key": {"descriptor_value": "v"}}, request_of(), ("generic_key", "v")),
    ({"generic_key": {"descriptor_value": "v", "descriptor_key": "k"}}, request_of(), ("k", "v")),
    ({"source_cluster": {}}, request_of(), ("source_cluster", "here")),
    ({"destination_cluster": {}}, request_of(), ("destination_cluster", "there")),
    (header(), request_of((b"x-user", b"ann")), ("user", "ann")),
    (header(), request_of(), None),
    (header(skip_if_absent=True), request_of(), "skip"),
    (parameter(), request_of(path=b"/?q=1"), ("q", "1")),
    (parameter(), request_of(path=b"/?a=1"), None),
    (parameter(skip_if_absent=True), request_of(), "skip"),
    ({"remote_address": {}}, request_of(), ("remote_address", "10.1.2.3")),
    ({"masked_remote_address": {"v4_prefix_mask_len": 16}}, request_of(), ("masked_remote_address", "10.1.0.0/16")),
    ({"masked_remote_address": {}}, request_of(), ("masked_remote_address", "10.1.2.3/32")),
    ({"header_value_match": {"descriptor_value": "v", "headers": [BLUE]}}, request_of((b"x-kind", b"blue")), ("header_match", "v")),
    ({"header_value_match": {"descriptor_value": "v", "headers": [BLUE]}}, request_of(), None),
    ({"header_value_match": {"descriptor_value": "v", "headers": [BLUE], "expect_match": False}}, request_of(), ("header_match", "v")),
    ({"query_parameter_value_match": {"descriptor_value": "v", "query_parameters": [{"name": "a"}]}}, request_of(path=b"/?a"), ("query_match", "v")),
    (metadata(), request_of(), ("tier", "silver")),
    (metadata(source="ROUTE_ENTRY"), request_of(), ("tier", "gold")),
]  # fmt: skip


@pytest.mark.parametrize(("action", "request_", "expected"), CASES)
def test_an_action(limits, action, request_, expected):
    route = limits(action, {"generic_key": {"descriptor_value": "also"}})
    info = info_of(cluster_name="there", dynamic_metadata={"ns": {"tier": "silver"}}, route=route)
    found = route.action.rate_limits[0].descriptor(request_, info, "here")
    also = ("generic_key", "also")
    assert found == (None if expected is None else [also] if expected == "skip" else [expected, also])


@pytest.mark.parametrize(
    ("more", "expected"),
    [({}, None), ({"default_value": "d"}, [("tier", "d")]), ({"skip_if_absent": True}, None)],
)
def test_metadata_that_is_not_there(limits, more, expected):
    route = limits(metadata(**more))
    assert route.action.rate_limits[0].descriptor(request_of(), info_of(), "here") == expected


def test_a_client_of_ipv6_and_one_of_a_unix_socket(limits):
    limit = limits({"masked_remote_address": {"v6_prefix_mask_len": 64}}).action.rate_limits[0]
    assert limit.descriptor(request_of(), info_of("2001:db8::1"), "") == [
        ("masked_remote_address", "2001:db8::/64")
    ]
    info = StreamInfo(ConnectionInfo(1, 0.0, Address(path="/run/x"), Address(path="/run/y")), 0.0)
    assert limit.descriptor(request_of(), info, "") is None


def test_what_stands_beside_the_actions(limits):
    limit = limits({"remote_address": {}}, stage=3, disable_key="off", apply_on_stream_done=True).action.rate_limits[0]
    assert (limit.stage, limit.disable_key, limit.on_stream_done) == (3, "off", True)


@pytest.mark.parametrize(
    ("own", "include", "expected"),
    [(False, False, ["host"]), (True, False, ["own"]), (True, True, ["own", "host"]), (False, True, ["host"])],
)
def test_limits_of_the_virtual_host(table_of, own, include, expected):
    def limit(value):
        return {"actions": [{"generic_key": {"descriptor_value": value}}]}

    action = {"cluster": "a", "include_vh_rate_limits": include}
    if own:
        action["rate_limits"] = [limit("own")]
    host = {
        "name": "v",
        "domains": ["*"],
        "rate_limits": [limit("host")],
        "routes": [{"match": {"prefix": "/"}, "route": action}],
    }
    route = table_of({"virtual_hosts": [host]}).virtual_hosts[0].routes[0]
    found = [limit.descriptor(request_of(), info_of(), "") for limit in route.action.rate_limits]
    assert found == [[("generic_key", value)] for value in expected]


def test_problems_say_where(load):
    action = {
        "header_value_match": {"descriptor_value": "v", "headers": [{"name": "a", "safe_regex_match": {"regex": "("}}]}
    }
    _, problems = load(
        [{"match": {"prefix": "/"}, "route": {"cluster": "a", "rate_limits": [{"actions": [action]}]}}]
    )
    assert len(problems) == 1
    assert "rate_limits[0].actions[0].header_value_match.headers[0]" in problems[0]
