"""Cluster specifier plugins: the matcher, a plugin of one's own, and what goes wrong in them."""

import pytest

from weft.api.schema import find_type
from weft.proxy import extensions
from weft.proxy.extensions import ClusterSpecifierKind
from weft.proxy.http.filter import HttpFilter
from weft.proxy.route.cluster_specifier import ClusterSpecifier
from weft.proxy.runtime import Runtime
from weft.testing.peer import Upstream
from weft.testing.proxy import proxy

T = "type.googleapis.com/"
MATCHER = "envoy.extensions.router.cluster_specifiers.matcher.v3."
OWN = "google.protobuf.Struct"


def typed(type, name="x", **fields):
    return {"name": name, "typed_config": {"@type": T + type, **fields}}


A = typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name="x-a")


def cluster(name):
    return {"action": typed(MATCHER + "ClusterAction", cluster=name)}


def matcher(branches, input=A, name="x", **rest):
    tree = {"matcher_tree": {"input": input, "exact_match_map": {"map": branches}}, **rest}
    return typed(MATCHER + "MatcherClusterSpecifier", name, cluster_matcher=tree)


def inline(extension, **fields):
    return [{"match": {"prefix": "/"}, "route": {"inline_cluster_specifier_plugin": {"extension": extension, **fields}}}]


def table(plugins, **route):
    routes = [{"match": {"prefix": "/"}, "route": route}]
    return {"cluster_specifier_plugins": plugins, "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]}


@pytest.fixture(autouse=True)
def _types():
    for name in (MATCHER + "ClusterAction", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "envoy.extensions.matching.common_inputs.network.v3.SourceIPInput", "envoy.extensions.router.cluster_specifiers.lua.v3.LuaConfig", OWN):
        find_type(name)


@pytest.fixture
def choose(request_of, info_of):
    def name_of(table, *headers, path="/", random=0):
        request = request_of(path, headers=headers)
        info = info_of(request)
        route = table.find(request, info, random, Runtime())
        return route.action.choose(request, random, Runtime(), info).cluster

    return name_of


def test_a_matcher_names_the_cluster(table_of, choose):
    made = table_of(inline(matcher({"1": cluster("one")}, on_no_match=cluster("rest"))))
    assert choose(made, ("x-a", "1")) == "one"
    assert choose(made) == "rest"
    assert made.clusters() == {"one", "rest"}


def test_a_matcher_may_name_none(table_of, choose):
    assert choose(table_of(inline(matcher({"1": cluster("one")})))) == ""


def test_a_query_parameter_and_keep_matching(table_of, choose):
    query = typed("envoy.type.matcher.v3.HttpRequestQueryParamMatchInput", query_param="q")
    kept = {**cluster("kept"), "keep_matching": True}
    made = table_of(inline(matcher({"a b": cluster("one"), "k": kept}, query, on_no_match=cluster("rest"))))
    assert choose(made, path="/?q=a%20b") == "one"
    assert choose(made, path="/?q=k") == "rest"


def test_plugins_have_names_and_the_first_of_a_name_holds(table_of, choose):
    plugins = [{"extension": matcher({"1": cluster(name)}, name="p")} for name in ("one", "two")]
    assert choose(table_of(table(plugins, cluster_specifier_plugin="p")), ("x-a", "1")) == "one"


def test_an_optional_plugin_that_is_not_there_names_no_cluster(table_of, choose):
    plugins = [{"extension": typed("envoy.config.core.v3.Node", "p"), "is_optional": True}]
    made = table_of(table(plugins, cluster_specifier_plugin="p"))
    assert choose(made) == ""
    assert made.virtual_hosts[0].routes[0].describe() == "route: prefix / -> forward to no cluster"


def test_what_forwards_is_told(table_of):
    (route,) = table_of(inline(matcher({"1": cluster("one")}))).virtual_hosts[0].routes
    assert route.describe() == "route: prefix / -> forward to the cluster of a matcher (request header x-a is one of '1')"


@pytest.mark.parametrize(("config", "problem"), [
    (table([], cluster_specifier_plugin="q"), "routes[0].route.cluster_specifier_plugin: Unknown cluster specifier plugin name: q is used in the route"),
    (
        inline(typed("envoy.extensions.router.cluster_specifiers.lua.v3.LuaConfig", "lua")),
        "routes[0].route.inline_cluster_specifier_plugin.extension: extension 'lua' (type envoy.extensions.router.cluster_specifiers.lua.v3.LuaConfig) is not supported",
    ),
    (table([{"extension": typed("envoy.config.core.v3.Node", "p")}], cluster="c"), "cluster_specifier_plugins[0].extension: extension 'p' (type envoy.config.core.v3.Node) is not supported"),
    (inline(matcher({"1": cluster("")})), "action.typed_config.cluster: value length must be at least 1"),
    (inline(matcher({"1": {"action": typed("envoy.config.route.v3.Route")}})), "extension.typed_config.cluster_matcher.matcher_tree.exact_match_map.map[\"1\"].action: Didn't find a registered implementation"),
    (inline({"name": "bare"}), "extension 'bare' has no typed_config"),
])  # fmt: skip
def test_problems_say_where(load, config, problem):
    _, problems = load(config)

    assert len(problems) == 1
    assert problem in problems[0]


# -- a plugin of one's own -------------------------------------------------------------------------


class ByPath(ClusterSpecifier):
    """``/NAME/...`` goes to NAME; a number is not a name."""

    def choose(self, request, info, random_value, runtime):
        name = request.path.split(b"/")[1].decode()
        if name == "raise":
            raise RuntimeError("no such thing")
        return int(name) if name.isdigit() else name or None

    def describe(self):
        return "the first segment"


KIND = ClusterSpecifierKind(name="test.by_path", type=OWN, settings=lambda message, where: None, build=lambda settings: ByPath())


class EntryPoint:
    def load(self):
        return KIND


@pytest.fixture
def _installed(monkeypatch):
    from importlib import metadata

    monkeypatch.setattr(metadata, "entry_points", lambda group: [EntryPoint()] if group == "weft.cluster_specifier" else [])


BOOTSTRAP = """
static_resources:
  listeners:
  - name: main
    address: {socket_address: {address: 10.0.0.1, port_value: 80}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config:
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - match: {prefix: /}
                route:
                  inline_cluster_specifier_plugin:
                    extension: {name: own, typed_config: {"@type": type.googleapis.com/google.protobuf.Struct, value: {}}}
          upgrade_configs: [{upgrade_type: websocket}]
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: one
    load_assignment: {cluster_name: one, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 81}}}}]}]}
"""


async def ask(running, path):
    client = await running.connect("main")
    client.send(b"GET %b HTTP/1.1\r\nhost: a\r\n\r\n" % path)
    head = await client.read_until(b"\r\n\r\n")
    client.close()
    return head.split(b"\r\n")[0]


@pytest.mark.usefixtures("_installed")
async def test_a_plugin_of_ones_own_carries_traffic(loop):
    async with await Upstream.listen("10.0.0.2", 81) as upstream, proxy(BOOTSTRAP) as running:
        client = await running.connect("main")
        client.send(b"GET /one/x HTTP/1.1\r\nhost: a\r\n\r\n")
        peer = await upstream.accept()
        assert (await peer.read_until(b"\r\n\r\n")).startswith(b"GET /one/x ")
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        client.close()
        peer.close()

        assert await ask(running, b"/nobody") == b"HTTP/1.1 503 Service Unavailable"
        assert await ask(running, b"/") == b"HTTP/1.1 503 Service Unavailable"
        assert running.stat("http.main.no_cluster") == 2


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("path", [b"/raise", b"/7"])
async def test_a_plugin_that_fails_costs_one_request(path):
    async with proxy(BOOTSTRAP) as running:
        assert await ask(running, path) == b"HTTP/1.1 500 Internal Server Error"
        assert running.stat("http.main.bugs") == 1
        assert "bug in a cluster specifier" in running.bugs.pop()
        assert await ask(running, b"/nobody") == b"HTTP/1.1 503 Service Unavailable"


@pytest.mark.usefixtures("_installed")
async def test_filters_and_upgrades_do_not_ask_the_plugin():
    class Asks(HttpFilter):
        def on_request(self, request, stream):
            assert (stream.filter_settings("x"), stream.every_setting("x")) == (None, [])

    async with proxy(BOOTSTRAP, http_filters=[Asks]) as running:
        client = await running.connect("main")
        client.send(b"GET /raise HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
        client.close()
        assert "bug in a cluster specifier" in running.bugs.pop()
        assert running.bugs == []


def test_the_kind_is_known_by_its_category():
    assert extensions.names("cluster_specifier") == ["envoy.router.cluster_specifier_plugin.matcher"]
    assert extensions.ENVOY_CATEGORIES["cluster_specifier"] == "envoy.router.cluster_specifier_plugin"
