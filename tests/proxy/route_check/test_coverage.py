"""Coverage is counted as Envoy's tool counts it."""

import asyncio

import pytest
from google.protobuf import json_format

from weft.api.schema import message_class
from weft.proxy.clock import Clock
from weft.proxy.route_check.coverage import ANSWERED, FORWARDED, Coverage
from weft.proxy.route_check.files import load_table
from weft.proxy.route_check.outcome import play

INPUT = "envoy.RouterCheckToolSchema.ValidationInput"

TABLE = """
virtual_hosts:
- name: one
  domains: [one]
  routes:
  - {match: {prefix: /a}, route: {cluster: a}}
  - {match: {prefix: /b}, route: {cluster: b}}
  - {match: {prefix: /d}, direct_response: {status: 200}}
  - match: {prefix: /w}
    route: {weighted_clusters: {clusters: [{name: w1, weight: 1}, {name: w2, weight: 1}]}}
- name: header
  domains: [header]
  routes:
  - {name: named, match: {prefix: /}, route: {cluster_header: to}}
- name: tls
  domains: [tls]
  require_tls: ALL
- name: tls too
  domains: [tls2]
  require_tls: ALL
"""


@pytest.fixture
def covered(tmp_path):
    """A Coverage after (authority, path, what, more input) were asserted rightly."""
    loop = asyncio.new_event_loop()

    def run(*steps, table=TABLE):
        (tmp_path / "r.yaml").write_text(table)
        checked = load_table(str(tmp_path / "r.yaml"))
        coverage = Coverage(checked.config, checked.table)
        for authority, path, what, *more in steps:
            given = message_class(INPUT)()
            json_format.ParseDict(
                {"authority": authority, "path": path, "method": "GET", **(more[0] if more else {})}, given
            )
            coverage.mark(play(checked, given, Clock(loop)), what)
        return coverage

    yield run
    loop.close()


def to(cluster):
    return {"additional_request_headers": [{"key": "to", "value": cluster}]}


@pytest.mark.parametrize(
    ("steps", "routes"),
    [
        ([], 0),
        ([("one", "/a", "cluster_name")], 1),
        ([("one", "/a", "cluster_name"), ("one", "/a/b", "path_rewrite")], 1),
        ([("one", "/a", "cluster_name"), ("one", "/b", "host_rewrite")], 2),
        ([("one", "/d", "path_redirect")], 1),
        # What cannot be right of such a route says nothing of it.
        ([("one", "/d", "cluster_name"), ("one", "/a", "path_redirect"), ("one", "/a", "code_redirect")], 0),
        ([("nowhere", "/", "cluster_name"), ("nowhere", "/", "path_redirect")], 0),
        # Each of the weighted clusters.
        ([("one", "/w", "cluster_name", {"random_value": 0})], 1),
        ([("one", "/w", "cluster_name", {"random_value": 2}), ("one", "/w", "path_rewrite", {"random_value": 0})], 1),
        ([("one", "/w", "cluster_name", {"random_value": 0}), ("one", "/w", "cluster_name", {"random_value": 1})], 2),
        # Each cluster that a header names.
        ([("header", "/", "cluster_name", to("p")), ("header", "/x", "cluster_name", to("p"))], 1),
        ([("header", "/", "cluster_name", to("p")), ("header", "/", "cluster_name", to("q"))], 2),
        # The redirect to https, one for all.
        ([("tls", "/", "path_redirect"), ("tls2", "/", "code_redirect")], 1),
    ],
)  # fmt: skip
def test_covered_routes(covered, steps, routes):
    assert covered(*steps).percent() == pytest.approx(100 * routes / 6)


def test_a_comprehensive_count_is_by_fields(covered):
    steps = [
        ("one", "/a", "cluster_name"),
        ("one", "/a", "virtual_host_name"),
        ("one", "/d", "code_redirect"),
    ]

    assert covered(*steps).percent(comprehensive=True) == pytest.approx(100 * (2 / 5 + 1 / 2) / 6)


def test_everything_covered(covered):
    one = "virtual_hosts: [{name: a, domains: [a], routes: [{match: {prefix: /}, route: {cluster: c}}, {match: {prefix: /}, redirect: {}}]}]"
    coverage = covered(*[("a", "/", what) for what in FORWARDED], table=one)
    assert coverage.percent(comprehensive=True) == 50.0
    assert [found.place for found in coverage.uncovered()] == ["virtual_hosts[0].routes[1]"]

    other = one.replace("route: {cluster: c}", "redirect: {}")
    assert covered(*[("a", "/", what) for what in ANSWERED], table=other).percent(comprehensive=True) == 50.0


def test_a_table_without_routes_is_covered(covered):
    assert covered(table="virtual_hosts: []").percent() == 100.0


def test_what_is_not_covered(covered):
    coverage = covered(
        ("one", "/a", "cluster_name"), ("one", "/w", "cluster_name"), ("tls", "/", "path_redirect")
    )

    assert [(found.virtual_host, found.route, found.match.prefix) for found in coverage.uncovered()] == [
        ("one", "", "/b"),
        ("one", "", "/d"),
        ("header", "named", "/"),
    ]


TREE = """
virtual_hosts:
- name: tree
  domains: ["*"]
  matcher:
    matcher_tree:
      input:
        name: header
        typed_config:
          "@type": type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput
          header_name: to
      exact_match_map:
        map:
          p: {action: {name: r, typed_config: {"@type": type.googleapis.com/envoy.config.route.v3.Route, name: first, match: {prefix: /}, route: {cluster: p}}}}
          q: {action: {name: r, typed_config: {"@type": type.googleapis.com/envoy.config.route.v3.Route, name: second, match: {prefix: /x}, route: {weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, weight: 1}]}}}}}
"""


def test_the_routes_of_a_matcher(covered):
    coverage = covered(("a", "/", "cluster_name", to("p")), table=TREE)

    assert coverage.percent() == pytest.approx(100 / 3)
    (found,) = coverage.uncovered()
    assert (found.route, found.place, found.match, found.conditions) == (
        "second",
        "virtual_hosts[0].matcher",
        None,
        ["prefix /x"],
    )
    assert covered(("a", "/x", "cluster_name", to("q")), table=TREE).percent() == pytest.approx(100 / 3)
