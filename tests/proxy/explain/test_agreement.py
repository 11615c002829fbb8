"""What is explained is what happens: random tables and requests, and a proxy beside the plan."""

import asyncio
import json

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.api.problems import Where
from weft.api.schema import message_class
from weft.proxy.explain.explain import explain
from weft.proxy.explain.explanation import TAKEN, as_json, restored
from weft.proxy.explain.question import question
from weft.proxy.explain.rehearsal import Rehearsal
from weft.proxy.explain.tables import Sources, bare
from weft.proxy.explain.text import render
from weft.proxy.http.mirror import copy_head
from weft.proxy.route.domains import Domains
from weft.proxy.route.table import route_table
from weft.steps import at_once
from weft.testing.peer import Upstream
from weft.testing.proxy import proxy
from weft.testing.transcript import read_message

TEXT = st.text(alphabet="/aAb", max_size=4).map(lambda text: "/" + text.lstrip("/"))
VALUE = st.sampled_from(["", "a", "b", "ab", "A"])
DOMAINS = ["a.test", "b.a.test", "*.a.test", "*.test", "a.*", "a.te*", "a.test:80", "c.test", "*"]
HOSTS = ["a.test", "A.test", "a.test:80", "b.a.test", "x.a.test", "a.example", "c.test", ".a.test", "other"]


@st.composite
def strings(draw):
    kind = draw(st.sampled_from(["exact", "prefix", "suffix", "contains", "safe_regex"]))
    if kind == "safe_regex":
        return {"safe_regex": {"regex": draw(st.sampled_from(["a+", "[ab]*", "B"]))}}
    return {kind: draw(st.sampled_from(["a", "b", "ab"])), "ignore_case": draw(st.booleans())}


@st.composite
def matches(draw):
    kind = draw(st.sampled_from(["prefix", "prefix", "path", "path_separated_prefix", "safe_regex", "connect_matcher"]))
    text = draw(TEXT)
    match = {kind: {"regex": text + "*"} if kind == "safe_regex" else {} if kind == "connect_matcher" else text}
    if draw(st.booleans()):
        match["case_sensitive"] = draw(st.booleans())
    for field in ("headers", "query_parameters", "cookies"):
        if draw(st.integers(0, 3)) == 0:
            one = {"name": draw(st.sampled_from(["x-a", "x-b", "a"])), "string_match": draw(strings())}
            if field != "query_parameters":
                one["invert_match"] = draw(st.booleans())
            match[field] = [one]
    if draw(st.integers(0, 5)) == 0:
        share = {"numerator": draw(st.integers(0, 100))}
        match["runtime_fraction"] = {"default_value": share, "runtime_key": "k"}
    if draw(st.integers(0, 9)) == 0:
        match["grpc"] = {}
    return match


@st.composite
def configurations(draw):
    domains = draw(st.lists(st.sampled_from(DOMAINS), unique=True, min_size=1, max_size=6))
    hosts = []
    while domains:
        size = draw(st.integers(1, len(domains)))
        taken, domains = domains[:size], domains[size:]
        routes = [
            {"name": str(i), "match": match, "direct_response": {"status": 200}}
            for i, match in enumerate(draw(st.lists(matches(), max_size=25)))
        ]
        tls = draw(st.sampled_from(["NONE", "NONE", "NONE", "ALL", "EXTERNAL_ONLY"]))
        hosts.append({"name": taken[0], "domains": taken, "routes": routes, "require_tls": tls})
    config = {"virtual_hosts": hosts, "ignore_port_in_host_matching": draw(st.booleans())}
    config["ignore_path_parameters_in_path_matching"] = draw(st.booleans())
    if draw(st.integers(0, 4)) == 0:
        config["vhost_header"] = "x-a"
    return config


QUESTIONS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "GET", "POST"]),
        "authority": st.sampled_from(HOSTS),
        "path": st.builds("".join, st.tuples(TEXT, st.sampled_from(["", ";a=b", "?a=ab", "?b=1&a=A", "/;x/b?a"]))),
        "headers": st.lists(st.tuples(st.sampled_from(["x-a", "x-b", "cookie"]), VALUE | st.just("a=b; x-a=a")), max_size=3),
        "random": st.integers(0, 200),
        "tls": st.booleans(),
        "internal": st.booleans(),
        "runtime": st.sampled_from([{}, {"k": "50"}]),
        "all": st.booleans(),
    }
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configurations(), st.lists(QUESTIONS, min_size=1, max_size=4))
def test_what_is_explained_is_what_is_found(config, questions):
    where = Where.nowhere()
    routes = route_table(ParseDict(config, message_class("envoy.config.route.v3.RouteConfiguration")()), where)
    assert where.problems.items == []
    table, sources = bare(routes), Sources(tables=())
    loop = asyncio.new_event_loop()
    try:
        for value in questions:
            asked = question(value)
            told = at_once(explain(table, asked, sources, loop))
            rehearsal = Rehearsal(table, asked, sources, loop)
            stream = rehearsal.stream
            found = routes.find(copy_head(stream.head), stream, asked.random, rehearsal.manager.runtime)

            assert told.matched == (found is not None)
            if told.routes is not None:
                taken = [route for route in told.routes.tried if route.outcome == TAKEN]
                assert [route.name for route in taken] == ([found.name] if found is not None else [])
                assert told.routes.left_out + len(told.routes.tried) == told.routes.count
            assert restored(json.loads(as_json([told]))["explanations"][0]) == told
            assert render([told]).endswith("\n")
    finally:
        loop.close()


NAMES = st.text("ab.*:", min_size=1, max_size=5)


@settings(max_examples=300)
@given(st.lists(NAMES, max_size=12), st.text("abA.:", max_size=6))
def test_the_first_domain_that_fits_is_the_one_that_is_found(domains, host):
    known = Domains()
    for domain in domains:
        known.add(domain.encode(), domain.lower())
    fitting = known.fitting(host.encode())

    assert known.find(host.encode()) == (fitting[0][1] if fitting else None)
    assert [value for _, value in known.patterns() if (_, value) in fitting] == [value for _, value in fitting]


# -- the plan, and what arrives upstream -----------------------------------------------------------

PROXY = """
static_resources:
  listeners:
  - name: main
    address: {socket_address: {address: 10.0.0.9, port_value: 80}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          normalize_path: true
          merge_slashes: true
          strip_any_host_port: true
          generate_request_id: false
          route_config:
            name: t
            request_headers_to_add: [{header: {key: x-table, value: "%REQ(:PATH)%"}}]
            virtual_hosts:
            - name: v
              domains: ["a.test"]
              include_request_attempt_count: true
              request_headers_to_remove: [x-gone]
              routes:
              - match: {prefix: /hidden, headers: [{name: x-a, present_match: true}]}
                direct_response: {status: 201, body: {inline_string: hello}}
              - match: {prefix: /old/}
                redirect: {prefix_rewrite: /new/, host_redirect: b.test}
              - match: {prefix: /missing}
                route: {cluster_header: x-cluster, cluster_not_found_response_code: NOT_FOUND}
              - match: {path_separated_prefix: /split}
                request_headers_to_add: [{header: {key: x-route, value: "%UPSTREAM_CLUSTER%"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
                route:
                  prefix_rewrite: /joined
                  timeout: 3s
                  host_rewrite_literal: c.test
                  append_x_forwarded_host: true
                  retry_policy: {retry_on: 5xx, per_try_timeout: 1s}
                  weighted_clusters:
                    clusters:
                    - {name: one, weight: 0}
                    - name: one
                      weight: 7
                      request_headers_to_add: [{header: {key: x-cluster-header, value: w}}]
              - match: {safe_regex: {regex: "/item/([0-9]+)"}}
                route: {cluster: one, regex_rewrite: {pattern: {regex: "/item/"}, substitution: "/i/"}, host_rewrite_header: x-host}
            - name: strict
              domains: ["tls.test"]
              require_tls: ALL
              routes: [{match: {prefix: /}, route: {cluster: one}}]
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: one
    load_assignment:
      cluster_name: one
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 81}}}}]}]
"""

REQUESTS = [
    pytest.param("/split/x?y=1", {}, id="weighted"),
    pytest.param("//split/../split", {"x-gone": "1", "x-route": "old", "x-forwarded-host": "z"}, id="admitted"),
    pytest.param("/item/12?q", {"x-host": "h.test", "x-envoy-upstream-rq-timeout-ms": "5"}, id="not-trusted"),
    pytest.param("/item/12", {}, id="no-host-header"),
    pytest.param("/item/x", {}, id="no-route"),
    pytest.param("/hidden", {"x-a": ""}, id="direct"),
    pytest.param("/old/a?b", {}, id="redirect"),
    pytest.param("/missing", {"x-cluster": "two"}, id="no-cluster"),
    pytest.param("/missing", {"x-cluster": "one"}, id="cluster-header"),
    pytest.param("/a#b", {}, id="refused"),
    pytest.param("/item/1", {"host": "tls.test"}, id="require-tls"),
    pytest.param("/item/1", {"host": "b.test"}, id="no-host"),
    pytest.param("/item/1", {"host": "a.test:99"}, id="port"),
    pytest.param("/item/1", {"upgrade": "websocket", "connection": "upgrade"}, id="upgrade"),
]


@pytest.mark.parametrize(("path", "headers"), REQUESTS)
async def test_the_plan_is_what_a_proxy_does(path, headers, loop):
    from weft.api.load import load_bootstrap
    from weft.proxy.assemble import server_settings
    from weft.proxy.explain.sources import sources_of

    headers = dict(headers)
    host = headers.pop("host", "a.test")
    loaded = load_bootstrap(None, PROXY)
    sources = sources_of(server_settings(loaded.bootstrap, loaded.problems.where), {})
    asked = question({"authority": host, "path": path, "headers": headers, "remote": "10.0.0.200"})
    told = at_once(explain(sources.tables[0], asked, sources, loop))

    async with await Upstream.listen("10.0.0.1", 81) as upstream, proxy(PROXY) as running:
        client = await running.connect("main")
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        client.send(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n".encode())
        if told.plan.answer is None:
            peer = await upstream.accept()
            arrived = await read_message(peer, request=True)
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        answer = await read_message(client, request=False)
        client.close()

    plan = told.plan
    if plan.answer is not None:
        location = dict(answer.headers).get(b"location", b"").decode()
        assert (answer.status, answer.body.decode(), location) == (plan.answer.status, plan.answer.body, plan.answer.location)
        return
    assert answer.status == 200
    assert arrived.start.split(b" ")[1].decode() == plan.upstream.path
    sent = dict(told.request.headers)
    for change in plan.upstream.request_headers:
        if change.value is None:
            sent.pop(change.name)
        else:
            sent[change.name] = change.value
    got = {name.decode(): value.decode() for name, value in arrived.headers}
    assert got == {"host": plan.upstream.host, **sent}
