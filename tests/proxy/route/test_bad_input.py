"""Configurations that no route table can come of: each an error with its place, soon, and never a crash."""

import contextlib
import io
import json
import time

import pytest

from weft.cli.main import main

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
FORWARD = {"match": {"prefix": "/"}, "route": {"cluster": "c"}}


def bootstrap(table):
    manager = {"@type": HCM, "stat_prefix": "s", "http_filters": [ROUTER], "route_config": table}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"static_resources": {
        "listeners": [{"name": "l", "address": address, "filter_chains": [chain]}],
        "clusters": [{"name": "c", "connect_timeout": "1s"}],
    }}  # fmt: skip


def host(*routes, domains=("*",), name="v"):
    return {"name": name, "domains": list(domains), "routes": list(routes)}


def validated(path):
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        status = main(["proxy", "--mode", "validate", "-c", str(path)])
    return status, told.getvalue()


@pytest.fixture
def validate(tmp_path):
    def check(table):
        path = tmp_path / "config.json"
        path.write_text(table if isinstance(table, str) else json.dumps(bootstrap(table)))
        return validated(path)

    return check


@pytest.mark.parametrize(("table", "told"), [
    ({"virtual_hosts": [host({**FORWARD, "match": {"safe_regex": {"regex": "/(?=a)"}}})]}, "routes[0].match.safe_regex.regex: invalid perl operator"),
    ({"virtual_hosts": [host(FORWARD, domains=["a.b"]), host(FORWARD, domains=["A.B"])]}, "virtual_hosts[1].domains[0]: Only unique values for domains"),
    ({"virtual_hosts": [host({**FORWARD, "route": {"cluster": "nobody"}})], "validate_clusters": True}, "nobody"),
    ({"virtual_hosts": [host({**FORWARD, "request_headers_to_add": [{"header": {"key": "a\nb", "value": "c"}}]})]}, "request_headers_to_add[0].header.key"),
    ({"virtual_hosts": [host({**FORWARD, "request_headers_to_add": [{"header": {"key": "a", "value": "b\r\nc: d"}}]})]}, "request_headers_to_add[0].header.value"),
    ({"virtual_hosts": [host({**FORWARD, "match": {"safe_regex": {"regex": "a" * 1_000_000}}})]}, "routes[0].match.safe_regex.regex"),
    ({"virtual_hosts": [host({**FORWARD, "request_headers_to_add": [{"header": {"key": "a", "value": "b" * 1_000_000}}]})]}, "request_headers_to_add[0].header.value"),
])  # fmt: skip
def test_the_place_is_told(validate, table, told):
    status, output = validate(table)

    assert status == 1
    assert told in output
    assert "Traceback" not in output


def test_a_prefix_of_a_megabyte_is_one(validate):
    assert validate({"virtual_hosts": [host({**FORWARD, "match": {"prefix": "/" + "a" * 1_000_000}})]})[0] == 0


@pytest.mark.parametrize("text", [
    '{"static_resources": ' + "[" * 10_000 + "]" * 10_000 + "}",
    '{"static_resources": ' + '{"a": ' * 10_000 + "1" + "}" * 10_000 + "}",
    '{"node": {"metadata": ' + '{"a": ' * 10_000 + "1" + "}" * 10_000 + "}}",
])  # fmt: skip
@pytest.mark.parametrize("name", ["config.json", "config.yaml"])
def test_nesting_without_end(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)

    status, output = validated(path)

    assert status == 1
    assert str(path) in output
    assert "Traceback" not in output




def test_messages_that_nest_without_end(validate):
    value = '{"list_match": {"one_of": ' * 10_000 + '{"null_match": {}}' + "}}" * 10_000
    condition = '{"filter": "f", "path": [{"key": "k"}], "value": VALUE}'.replace("VALUE", value)
    text = json.dumps(bootstrap({"virtual_hosts": [host({**FORWARD, "match": {"prefix": "/", "dynamic_metadata": ["HERE"]}})]}))

    status, output = validate(text.replace('"HERE"', condition))

    assert status == 1
    assert "Traceback" not in output


def test_ten_thousand_domains_and_as_many_routes(validate):
    domains = [f"d{i}.test" for i in range(10_000)]
    routes = [{"match": {"prefix": f"/{i}/"}, "route": {"cluster": "c"}} for i in range(10_000)]
    start = time.monotonic()

    status, output = validate({"virtual_hosts": [host(*routes, domains=domains)]})

    assert status == 0, output
    assert time.monotonic() - start < 20, "loading is not linear any more"
