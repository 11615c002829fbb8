import pytest

from weft.proxy.address import Address
from weft.proxy.route.table import DISABLED, ENABLED
from weft.proxy.runtime import Runtime


def to(cluster, **match):
    return {"match": match or {"prefix": "/"}, "route": {"cluster": cluster}}


def header(name, **specifier):
    return {"prefix": "/", "headers": [{"name": name, **specifier}]}


@pytest.mark.parametrize(("match", "yes", "no"), [
    ({"prefix": "/a"}, ["/a", "/ab", "/a?x", "/a/b"], ["/", "/A", "/?/a"]),
    ({"prefix": "/a", "case_sensitive": False}, ["/a", "/Ab"], ["/b"]),
    ({"prefix": "/A/", "case_sensitive": False}, ["/a/", "/A/b"], ["/a"]),
    ({"prefix": "/a?"}, [], ["/a?", "/a?b", "/a"]),
    ({"prefix": ""}, ["/", "*"], [""]),
    ({"path": "/a"}, ["/a", "/a?b=/c", "/a?"], ["/a/", "/ab", "/A"]),
    ({"path": "/a", "case_sensitive": False}, ["/A", "/a?B"], ["/aB"]),
    ({"path_separated_prefix": "/a"}, ["/a", "/a/b", "/a?x", "/a/"], ["/ab", "/a.b", "/A"]),
    ({"path_separated_prefix": "/a", "case_sensitive": False}, ["/A/b"], ["/Ab"]),
    ({"safe_regex": {"regex": "/a.*"}}, ["/a", "/ab"], ["/b/a", "x/a"]),
    ({"safe_regex": {"regex": "/[ab]+"}}, ["/ab?c", "/a?"], ["/abc"]),
])  # fmt: skip
def test_paths(table_of, ask, match, yes, no):
    table = table_of([to("hit", **match)])
    assert [path for path in yes if ask(table, path).cluster != "hit"] == []
    assert [path for path in no if ask(table, path).status != 404] == []


def test_connect_has_no_path(table_of, ask):
    table = table_of([to("any"), to("connect", connect_matcher={})])
    assert ask(table, "", method="CONNECT").cluster == "connect"
    assert ask(table, "/").cluster == "any"


def test_the_first_match_wins(table_of, ask):
    table = table_of([
        to("header", **header("x-a", string_match={"exact": "1"})),
        to("prefix", prefix="/a"),
        to("exact", path="/a"),
        to("rest"),
    ])
    assert ask(table, "/a", headers=[("x-a", "1")]).cluster == "header"
    assert ask(table, "/a", headers=[("x-a", "2")]).cluster == "prefix"
    assert ask(table, "/b").cluster == "rest"


def test_every_condition_has_to_hold(table_of, ask):
    table = table_of([{
        "match": {
            "prefix": "/a",
            "headers": [{"name": "x-a"}, {"name": ":method", "string_match": {"exact": "POST"}}],
            "query_parameters": [{"name": "q", "string_match": {"exact": "1"}}],
        },
        "route": {"cluster": "hit"},
    }])
    good = {"path": "/a?q=1", "headers": [("x-a", "")], "method": "POST"}
    assert ask(table, **good).cluster == "hit"
    for change in ({"path": "/b?q=1"}, {"headers": []}, {"method": "GET"}, {"path": "/a?q=2"}, {"path": "/a"}):
        assert ask(table, **{**good, **change}).status == 404, change


@pytest.mark.parametrize(("content_type", "grpc"), [
    ("application/grpc", True), ("application/grpc+proto", True), ("application/grpc-web", False),
    ("application/grpc;x", False), ("Application/grpc", False), ("text/plain", False),
])  # fmt: skip
def test_grpc(table_of, ask, content_type, grpc):
    table = table_of([to("grpc", prefix="/", grpc={}), to("other")])
    assert ask(table, headers=[("content-type", content_type)]).cluster == ("grpc" if grpc else "other")
    assert ask(table).cluster == "other"


@pytest.mark.parametrize(("random", "runtime", "hit"), [
    (0, {}, True), (24, {}, True), (25, {}, False), (100, {}, True), (125, {}, False),
    (0, {"key": 0}, False), (99, {"key": 100}, True), (50, {"key": 51}, True), (50, {"key": "50"}, False),
    (24, {"key": "nonsense"}, True), (24, {"other": 0}, True),
])  # fmt: skip
def test_a_share_of_requests(table_of, ask, random, runtime, hit):
    share = {"default_value": {"numerator": 25, "denominator": "HUNDRED"}, "runtime_key": "key"}
    table = table_of([to("some", prefix="/", runtime_fraction=share), to("rest")])
    assert ask(table, random=random, runtime=runtime).cluster == ("some" if hit else "rest")


@pytest.mark.parametrize(("cookies", "hit"), [
    (["s=1"], True), (["a=0; s=1"], True), (["s=2"], False), (["S=1"], False), ([], False),
])  # fmt: skip
@pytest.mark.parametrize("invert", [False, True])
def test_cookies(table_of, ask, cookies, hit, invert):
    cookie = {"name": "s", "string_match": {"exact": "1"}, "invert_match": invert}
    table = table_of([to("hit", prefix="/", cookies=[cookie]), to("rest")])
    headers = [("cookie", value) for value in cookies]
    assert ask(table, headers=headers).cluster == ("hit" if hit != invert else "rest")


def test_a_number_in_the_runtime_is_per_cent_whatever_the_denominator(table_of, ask):
    share = {"default_value": {"numerator": 1, "denominator": "MILLION"}, "runtime_key": "key"}
    table = table_of([to("some", prefix="/", runtime_fraction=share), to("rest")])
    assert ask(table, random=1000).cluster == "rest"
    assert ask(table, random=1_000_049, runtime={"key": 50}).cluster == "some"


def test_metadata_filter_state_and_tls(table_of, request_of, info_of):
    table = table_of([
        to("tls", prefix="/", tls_context={"presented": True}),
        to("state", prefix="/", filter_state=[{"key": "k", "string_match": {"exact": "v"}}]),
        to("metadata", prefix="/", dynamic_metadata=[
            {"filter": "f", "path": [{"key": "a"}], "value": {"string_match": {"exact": "v"}}},
        ]),
        to("plain", prefix="/", tls_context={"presented": False}),
    ])
    request = request_of()
    info = info_of(request)

    def cluster():
        return table.find(request, info, 0, Runtime()).action.choose(request, 0).cluster

    assert cluster() == "plain"
    info.dynamic_metadata = {"f": {"a": "v"}}
    assert cluster() == "metadata"
    info.connection.filter_state = {"k": "v"}
    assert cluster() == "state"
    info.filter_state = {"k": "other"}
    assert cluster() == "metadata"


@pytest.mark.parametrize(("value", "ranges", "invert", "matches"), [
    ("10.1.2.3", ["10.0.0.0/8"], False, True),
    ("11.1.2.3", ["10.0.0.0/8"], False, False),
    ("11.1.2.3", ["10.0.0.0/8"], True, True),
    ("2001:db8::1", ["10.0.0.0/8", "2001:db8::/32"], False, True),
    (Address("10.1.2.3", 80), ["10.0.0.0/8"], False, True),
    ("no address", ["0.0.0.0/0"], False, False),
    ("no address", ["10.0.0.0/8"], True, False),
    ("10.1.2.3", [], False, False),
    (None, ["10.0.0.0/8"], True, False),
])  # fmt: skip
def test_filter_state_that_is_an_address(table_of, request_of, info_of, value, ranges, invert, matches):
    nets = [{"address_prefix": net.split("/")[0], "prefix_len": int(net.split("/")[1])} for net in ranges]
    table = table_of([to("in", prefix="/", filter_state=[{"key": "k", "address_match": {"ranges": nets, "invert_match": invert}}])])
    request = request_of()
    info = info_of(request)
    info.filter_state = {"k": value}
    assert (table.find(request, info, 0, Runtime()) is not None) == matches


def test_a_filter_state_match_tells_what_it_wants(table_of):
    address = {"ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}], "invert_match": True}
    (route,) = table_of([to("in", prefix="/", filter_state=[{"key": "k", "address_match": address}])]).virtual_hosts[0].routes
    assert route.describe() == "route: prefix / and filter state k is outside of 10.0.0.0/8 -> forward to in"


HOSTS = {
    "virtual_hosts": [
        {"name": "a", "domains": ["a.test", "*.a.test"], "routes": [to("a")]},
        {"name": "port", "domains": ["a.test:81"], "routes": [to("port")]},
        {"name": "empty", "domains": ["none.test"]},
        {"name": "rest", "domains": ["*"], "routes": [to("rest")]},
    ],
}


@pytest.mark.parametrize(("host", "cluster"), [
    ("a.test", "a"), ("A.Test", "a"), ("x.a.test", "a"), ("a.test:81", "port"), ("a.test:80", "rest"), ("b", "rest"),
    ("none.test", ""),
])  # fmt: skip
def test_virtual_hosts(table_of, ask, host, cluster):
    assert ask(table_of(HOSTS), host=host).cluster == cluster


def test_ports_can_be_ignored(table_of, ask):
    table = table_of({**HOSTS, "ignore_port_in_host_matching": True})
    assert ask(table, host="A.test:80").cluster == "a"
    assert ask(table, host="a.test:81").cluster == "a"
    assert ask(table, host="[::1]:80").cluster == "rest"


def test_a_header_can_stand_for_the_host(table_of, ask):
    table = table_of({**HOSTS, "vhost_header": "x-host"})
    assert ask(table, host="b", headers=[("x-host", "A.test")]).cluster == "a"
    assert ask(table, host="a.test", headers=[("x-host", "")]).cluster == "rest"
    assert ask(table, host="a.test").status == 404


def test_path_parameters_can_be_ignored(table_of, ask):
    config = {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [to("hit", path="/a/b")]}]}
    assert ask(table_of(config), "/a;v=1/b;w").status == 404
    ignoring = table_of({**config, "ignore_path_parameters_in_path_matching": True})
    assert ask(ignoring, "/a;v=1/b;w?q;r").cluster == "hit"
    assert ask(ignoring, "/a;v=1/b;w?q;r").path == "/a;v=1/b;w?q;r"


@pytest.mark.parametrize(("require", "proto", "internal", "location"), [
    ("ALL", "http", False, "https://a.test:80/p?q"),
    ("ALL", "http", True, "https://a.test:80/p?q"),
    ("ALL", "https", False, ""),
    ("EXTERNAL_ONLY", "http", False, "https://a.test:80/p?q"),
    ("EXTERNAL_ONLY", "http", True, ""),
    ("NONE", "http", False, ""),
])  # fmt: skip
def test_tls_can_be_required(table_of, ask, require, proto, internal, location):
    table = table_of({"virtual_hosts": [{"name": "v", "domains": ["*"], "require_tls": require, "routes": [to("c")]}]})
    headers = [("x-envoy-internal", "true")] if internal else []

    answer = ask(table, "/p?q", host="a.test:80", headers=headers, proto=proto)

    assert (answer.status, answer.location) == ((301, location) if location else (200, ""))


def test_clusters_that_are_named(table_of):
    table = table_of({
        "virtual_hosts": [
            {"name": "v", "domains": ["*"], "routes": [
                to("one"),
                {"match": {"prefix": "/"}, "route": {"cluster_header": "x"}},
                {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
                    {"name": "two", "weight": 1}, {"name": "three", "weight": 0}, {"cluster_header": "y", "weight": 1},
                ]}}},
                {"match": {"prefix": "/"}, "direct_response": {"status": 200}},
            ]},
        ],
    })
    assert table.clusters() == {"one", "two", "three"}


def test_virtual_clusters(table_of, request_of):
    table = table_of({
        "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [to("c")], "virtual_clusters": [
            {"name": "posts", "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]},
        ]}],
    })
    host = table.virtual_hosts[0]
    assert host.virtual_cluster(request_of(method="POST")) == "posts"
    assert host.virtual_cluster(request_of()) == "other"
    assert table_of(HOSTS).virtual_hosts[0].virtual_cluster(request_of()) == ""


def test_what_virtual_hosts_and_routes_carry(table_of):
    table = table_of({
        "name": "t",
        "internal_only_headers": ["X-Secret"],
        "metadata": {"filter_metadata": {"n": {"a": 1}}},
        "validate_clusters": False,
        "virtual_hosts": [{
            "name": "v", "domains": ["*"], "include_request_attempt_count": True, "metadata": {"filter_metadata": {"n": {"b": [True, None]}}},
            "routes": [{**to("c"), "name": "r", "stat_prefix": "s", "metadata": {"filter_metadata": {"n": {"c": {"d": "e"}}}}}],
        }],
    })  # fmt: skip
    host = table.virtual_hosts[0]
    route = host.routes[0]
    assert (table.name, table.internal_only_headers, table.validate_clusters) == ("t", (b"x-secret",), False)
    assert (table.metadata, host.metadata, route.metadata) == ({"n": {"a": 1.0}}, {"n": {"b": [True, None]}}, {"n": {"c": {"d": "e"}}})
    assert (host.attempt_count_in_request, host.attempt_count_in_response) == (True, False)
    assert (route.name, route.stat_prefix, route.virtual_host) == ("r", "s", host)
    assert route.describe() == "r: prefix / -> forward to c"


@pytest.mark.parametrize(("config", "problem"), [
    (
        {"name": "t", "virtual_hosts": [{"name": "v", "domains": ["*"]}, {"name": "w", "domains": ["*"]}]},
        "virtual_hosts[1].domains[0]: Only a single wildcard domain is permitted in route t",
    ),
    (
        {"name": "t", "virtual_hosts": [{"name": "v", "domains": ["a", "A"]}]},
        "virtual_hosts[0].domains[1]: Only unique values for domains are permitted. Duplicate entry of domain a in route t",
    ),
    (
        {"virtual_hosts": [{"name": "v", "domains": ["*"], "virtual_clusters": [{"name": "x"}]}]},
        "virtual_hosts[0].virtual_clusters[0]: virtual clusters must define 'headers'",
    ),
    ([to("c", safe_regex={"regex": "/(a"})], "virtual_hosts[0].routes[0].match.safe_regex.regex: missing ): /(a"),
    ([{"match": {}, "route": {"cluster": "c"}}], "virtual_hosts[0].routes[0].match: a route match needs a path specifier"),
    ([{"match": {"prefix": "/"}}], "virtual_hosts[0].routes[0]: a route needs one of route"),
    ([to("c", path_match_policy={"name": "x"})], "routes[0].match.path_match_policy.typed_config: not supported yet: path_match_policy 'x'"),
    ([to("c", prefix="/", filter_state=[{"key": "k", "address_match": {"ranges": [{"address_prefix": "10.0"}]}}])], "filter_state[0].address_match.ranges[0]: malformed IP address: 10.0"),
    ([to("c", prefix="/", filter_state=[{"key": "k"}])], "routes[0].match.filter_state[0]: one of string_match, address_match is required"),
    ({"vhds": {}}, "vhds: not supported yet: vhds"),
    ([to("c") | {"tracing": {"operation": "%FOO%"}}], "routes[0].tracing.operation: Not supported field in StreamInfo: FOO"),
    ([to("c") | {"typed_per_filter_config": {"x": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {}}}}], "Didn't find a registered implementation for 'x'"),
    ([to("c", prefix="/") | {"route": {"cluster": "c", "early_data_policy": {"name": "x", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {}}}}}], "early_data_policy: Didn't find a registered implementation for 'x'"),
    ([to("c", prefix="/") | {"route": {"cluster": "c", "cors": {"allow_origin_string_match": [{"safe_regex": {"regex": "("}}]}}}], "cors.allow_origin_string_match[0].safe_regex.regex: missing )"),
    ([to("c", prefix="/") | {"route": {"cluster": "c", "retry_policy": {"retry_host_predicate": [{"name": "x"}]}}}], "retry_host_predicate[0]: Didn't find a registered implementation for 'x'"),
    ([to("c", prefix="/") | {"route": {"weighted_clusters": {"clusters": [{"name": "a"}, {"name": "b", "weight": 1}]}}}], "weighted_clusters.clusters[0]: Field 'weight' is missing"),
    ([to("c", safe_regex={"google_re2": {"max_program_size": 1}, "regex": "/aaa"})], "RE2 program size of 8 > max program size of 1"),
])  # fmt: skip
def test_problems_say_where(load, config, problem):
    _, problems = load(config)

    assert len(problems) == 1
    assert problem in problems[0]


def test_all_problems_are_found_at_once(load):
    _, problems = load([to("c", safe_regex={"regex": "("}), {"match": {"prefix": "/"}}, to("c", safe_regex={"regex": "["})])
    assert len(problems) == 3


MUTATION = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"
WRAPPER = "type.googleapis.com/envoy.config.route.v3.FilterConfig"


def mutation(name):
    return {"@type": MUTATION, "mutations": {"request_mutations": [{"remove": name}]}}


def removed(settings):
    return settings.request[0].removed


def test_the_most_specific_filter_settings_win(table_of, ask):
    table = table_of({
        "typed_per_filter_config": {"a": mutation("table"), "b": mutation("table"), "c": mutation("table")},
        "virtual_hosts": [{
            "name": "v", "domains": ["*"],
            "typed_per_filter_config": {"b": mutation("host"), "c": mutation("host"), "off": {"@type": WRAPPER, "disabled": True}},
            "routes": [{
                "match": {"prefix": "/"},
                "typed_per_filter_config": {"c": mutation("route"), "on": {"@type": WRAPPER, "config": {}}},
                "route": {"weighted_clusters": {"clusters": [
                    {"name": "plain", "weight": 1},
                    {"name": "own", "weight": 1, "typed_per_filter_config": {"c": mutation("cluster")}},
                ]}},
            }],
        }],
    })  # fmt: skip
    route = ask(table).route
    plain, own = route.action.clusters.targets

    assert {name: removed(route.filter_settings[name]) for name in "abc"} == {"a": b"table", "b": b"host", "c": b"route"}
    assert route.filter_settings["off"] is DISABLED
    assert route.filter_settings["on"] is ENABLED
    assert plain.filter_settings is None
    assert {name: removed(own.filter_settings[name]) for name in "abc"} == {"a": b"table", "b": b"host", "c": b"cluster"}
    assert own.filter_settings["off"] is DISABLED
    assert [removed(s) for s in route.every_setting("c", plain)] == [b"table", b"host", b"route"]
    assert [removed(s) for s in route.every_setting("c", own)] == [b"table", b"host", b"route", b"cluster"]
    assert route.every_setting("off") == []


UNKNOWN = {"@type": "type.googleapis.com/envoy.config.route.v3.RouteMatch"}
ROUTER = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}


@pytest.mark.parametrize(("config", "problem"), [
    ({"@type": WRAPPER}, "Empty route/virtual host per filter configuration for f filter"),
    ({"@type": WRAPPER, "is_optional": True}, "Empty route/virtual host per filter configuration for f filter"),
    ({"@type": WRAPPER, "disabled": True}, None),
    ({"@type": WRAPPER, "config": UNKNOWN}, "Didn't find a registered implementation for 'f'"),
    ({"@type": WRAPPER, "is_optional": True, "config": UNKNOWN}, None),
    ({"@type": WRAPPER, "config": {"@type": MUTATION}}, None),
    (UNKNOWN, "with type URL: 'envoy.config.route.v3.RouteMatch'"),
    (ROUTER, "The filter f doesn't support virtual host or route specific configurations"),
    (mutation("x"), None),
])  # fmt: skip
def test_filter_settings_that_cannot_be(load, config, problem):
    _, problems = load([{**to("c"), "typed_per_filter_config": {"f": config}}])
    if problem is None:
        assert problems == []
    else:
        assert problem in problems[0]
        assert 'typed_per_filter_config["f"]' in problems[0]


def test_routes_that_come_again_are_the_same_elsewhere(table_of):
    """Large tables repeat themselves: what was compiled once is shared, and told apart by its host."""
    route = {
        "name": "again",
        "match": {"prefix": "/a"},
        "stat_prefix": "s",
        "metadata": {"filter_metadata": {"n": {"k": "v"}}},
        "route": {"cluster": "c", "request_mirror_policies": [{"cluster": "m"}]},
        "response_headers_to_add": [{"header": {"key": "x-a", "value": "b"}}],
    }
    plain = {"name": "v", "domains": ["a"], "routes": [route, route]}
    own = {"name": "o", "domains": ["b"], "routes": [route], "request_headers_to_remove": ["x-own"]}
    table = table_of({"virtual_hosts": [plain, {**plain, "domains": ["c"]}, own, {**plain, "domains": ["d"]}]})
    first, second, third, fourth = table.virtual_hosts

    for host in (first, second, fourth):
        assert [one.virtual_host for one in host.routes] == [host, host]
        for one in host.routes:
            assert (one.name, one.stat_prefix, one.metadata) == ("again", "s", {"n": {"k": "v"}})
            assert one.response_headers is not None
            assert one.request_headers is None
    assert second.routes[0].action is first.routes[0].action
    assert third.routes[0].request_headers is not None
    assert table.clusters() == {"c", "m"}
