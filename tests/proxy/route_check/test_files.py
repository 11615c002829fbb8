"""Tables and tests from files."""

import json
import textwrap

import pytest

from weft.api.problems import ConfigError
from weft.proxy.regex import REGEX_LIMITS
from weft.proxy.route_check.check import check
from weft.proxy.route_check.files import load_table, load_tests

TABLE = """
virtual_hosts:
- name: v
  domains: ["*"]
  routes:
  - match: {prefix: /, runtime_fraction: {default_value: {numerator: 0}, runtime_key: k}}
    route: {cluster: c}
  - match: {prefix: /, runtime_fraction: {default_value: {numerator: 7}}}
    route: {cluster: c}
"""


def test_the_table_that_was_written_stays_as_it_was(tmp_path):
    (tmp_path / "r.yaml").write_text(TABLE)
    checked = load_table(str(tmp_path / "r.yaml"))

    numerators = [
        route.match.runtime_fraction.default_value.numerator
        for route in checked.config.virtual_hosts[0].routes
    ]
    assert numerators == [0, 7]
    assert checked.fractions == {"k"}


def test_a_runtime_enables_one_key(tmp_path):
    (tmp_path / "r.yaml").write_text(TABLE)
    checked = load_table(str(tmp_path / "r.yaml"))

    assert checked.runtime("k").values == {}
    assert checked.runtime("").values == {"k": "0/100"}
    assert checked.runtime("other") is checked.runtime("other")


def test_names_are_those_of_today(tmp_path):
    # What a bootstrap of 2019 may say is no RouteConfiguration.
    (tmp_path / "r.yaml").write_text(TABLE.replace("{cluster: c}", "{cluster: c, use_websocket: true}"))

    with pytest.raises(ConfigError, match="unknown field 'use_websocket'"):
        load_table(str(tmp_path / "r.yaml"))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.pb", b"\xff\xff"),
        ("t.json", b"{} {}"),
        ("t.yaml", b"a: [\n"),
        ("t.pb_text", b"tests {"),
        ("t.json", b"\xff"),
    ],
)
def test_what_is_no_test_file(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)

    with pytest.raises(ConfigError) as error:
        load_tests(str(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)


def test_the_word_of_a_bootstrap_in_a_table_is_only_a_word(tmp_path):
    (tmp_path / "r.yaml").write_text(TABLE.replace("cluster: c", "cluster: 'static_resources:'"))

    assert len(load_table(str(tmp_path / "r.yaml")).table.virtual_hosts) == 1


def test_the_fractions_of_a_matcher(tmp_path):
    route = '{"@type": type.googleapis.com/envoy.config.route.v3.Route, match: {prefix: /, runtime_fraction: {default_value: {numerator: 0}, runtime_key: t}}, route: {cluster: c}}'
    (tmp_path / "r.yaml").write_text(
        f"virtual_hosts: [{{name: v, domains: ['*'], matcher: {{on_no_match: {{action: {{name: r, typed_config: {route}}}}}}}}}]\n"
    )
    checked = load_table(str(tmp_path / "r.yaml"))

    assert checked.fractions == {"t"}
    assert checked.table.virtual_hosts[0].routes[0].match.conditions[0].chance.numerator == 1


BOOTSTRAP = """
layered_runtime:
  layers:
  - name: static
    static_layer: {re2.max_program_size.error_level: 5000, w.a: 0, w.b: 7}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: 1}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: s
          route_config:
"""
LARGE = """
virtual_hosts:
- name: v
  domains: ["*"]
  routes:
  - match: {safe_regex: {regex: "/(?:[a-z]{3,6}[0-9]{2,4}){10,20}"}}
    route: {cluster: large}
  - match: {prefix: /}
    route: {weighted_clusters: {runtime_key_prefix: w, clusters: [{name: a, weight: 1}, {name: b, weight: 1}]}}
"""


@pytest.fixture(autouse=True)
def _limits(monkeypatch):
    """As they were, afterwards."""
    monkeypatch.setattr(REGEX_LIMITS, "max_program_size", REGEX_LIMITS.max_program_size)


def test_a_bootstrap_brings_its_runtime(tmp_path):
    (tmp_path / "b.yaml").write_text(BOOTSTRAP + textwrap.indent(LARGE, " " * 12))
    checked = load_table(str(tmp_path / "b.yaml"))

    assert checked.values.values["w.b"] == 7
    tests = {
        "tests": [
            {
                "test_name": "t",
                "input": {"authority": "a", "path": "/", "method": "GET"},
                "validate": {"cluster_name": "b"},
            }
        ]
    }
    (tmp_path / "t.json").write_text(json.dumps(tests))
    assert check(checked, *load_tests(str(tmp_path / "t.json"))).failed == []


def test_a_table_of_its_own_has_the_limits_of_envoy(tmp_path):
    (tmp_path / "b.yaml").write_text(BOOTSTRAP + textwrap.indent(LARGE, " " * 12))
    (tmp_path / "r.yaml").write_text(LARGE)
    load_table(str(tmp_path / "b.yaml"))

    with pytest.raises(ConfigError, match="max program size of 100"):
        load_table(str(tmp_path / "r.yaml"))
