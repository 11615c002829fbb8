"""Loading bootstraps: forms, merging, places, problems, and what Envoy accepts and refuses."""

import json
import os

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.api.load import load_bootstrap, load_message, load_text
from weft.api.problems import ConfigError
from weft.api.schema import message_class

HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"


def problems_of(text: str, form: str = "yaml") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, form, "f")
    return [str(problem) for problem in caught.value.problems]


def warnings_of(text: str, form: str = "yaml") -> list[str]:
    return [str(problem) for problem in load_text(text, form, "f").problems.items if problem.warning]


def loaded(text: str, form: str = "yaml") -> str:
    """The bootstrap in one line of text protobuf."""
    return text_format.MessageToString(load_text(text, form).bootstrap, as_one_line=True)


CLUSTER = "static_resources: {clusters: [{name: c, connect_timeout: 1s, %s}]}"
METADATA = "node: {metadata: {a: %s}}"


@pytest.mark.parametrize(
    ("text", "due"),
    [
        # Field names in both styles.
        ("flagsPath: a", 'flags_path: "a"'),
        ("flags_path: a", 'flags_path: "a"'),
        # Enum names in any case, and numbers.
        (CLUSTER % "type: strict_dns", "type: STRICT_DNS"),
        (CLUSTER % "type: Strict_Dns", "type: STRICT_DNS"),
        (CLUSTER % "type: 1", "type: STRICT_DNS"),
        (CLUSTER % 'type: "1"', "type: STRICT_DNS"),
        # One value where a list is due, and lists of lists.
        ("node: {client_features: a}", 'client_features: "a"'),
        ("node: {client_features: [[a], [b]]}", 'client_features: "a" client_features: "b"'),
        ("node: {extensions: {name: a}}", 'extensions { name: "a" }'),
        # An element that is null is an empty one; anything else that is null is not set.
        ("node: {client_features: [a, ~]}", 'client_features: "a" client_features: ""'),
        ("node: {id: ~}", "node { }"),
        ("node: ~", ""),
        # Booleans.
        ('enable_dispatcher_stats: "true"', "enable_dispatcher_stats: true"),
        ("enable_dispatcher_stats: yes", "enable_dispatcher_stats: true"),
        ('enable_dispatcher_stats: "1"', "enable_dispatcher_stats: true"),
        ("enable_dispatcher_stats: tRue", "enable_dispatcher_stats: true"),
        # Numbers.
        ("stats_server_version_override: 1e3", "value: 1000"),
        ("stats_server_version_override: 1.0", "value: 1"),
        ("stats_server_version_override: 0x10", "value: 16"),
        ("stats_server_version_override: 010", "value: 8"),
        ("stats_server_version_override: '010'", "value: 10"),
        ("stats_server_version_override: '0x10'", "value: 16"),
        ("stats_server_version_override: 18446744073709551615", "value: 18446744073709551615"),
        ("watchdog: {multikill_threshold: {value: .5}}", "value: 0.5"),
        # Text that looks like a number to others.
        ("node: {id: 1.5}", 'id: "1.5"'),
        ("node: {id: 99999999999}", 'id: "99999999999"'),
        ("node: {id: 2001-01-01}", 'id: "2001-01-01"'),
        # Durations.
        ("stats_flush_interval: 0.25s", "nanos: 250000000"),
        ("stats_flush_interval: {seconds: 2}", "seconds: 2"),
        # Struct: plain fractions and large numbers stay text.
        (METADATA % "1", "number_value: 1.0"),
        (METADATA % "1.5", 'string_value: "1.5"'),
        (METADATA % "99999999999", 'string_value: "99999999999"'),
        (METADATA % "yes", "bool_value: true"),
        (METADATA % "~", "null_value: NULL_VALUE"),
        (METADATA % "[1, {b: c}]", 'list_value { values { number_value: 1.0 } values { struct_value'),
        # Maps.
        ("node: {dynamic_parameters: {1: ~}}", 'key: "1" value { }'),
        # An Any without a type is an empty one.
        (CLUSTER % "transport_socket: {name: x, typed_config: {}}", "typed_config { }"),
        # Anchors.
        ("node: {id: &x a, cluster: *x}", 'id: "a" cluster: "a"'),
        ("!ignore x: &x {id: a}\nnode: *x", 'id: "a"'),
        # Of a key that stands twice the last one counts.
        ("node: {id: a, id: b}", 'id: "b"'),
    ],
)  # fmt: skip
def test_what_envoy_accepts_is_accepted_and_means_the_same(text, due):
    assert due in loaded(text)


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("node: {nope: 1}", "1:8: node.nope", "unknown field 'nope' in envoy.config.core.v3.Node"),
        ("node: {cluter: 1}", "1:8: node.cluter", "did you mean 'cluster'?"),
        ("node: {ID: a}", "1:8: node.ID", "did you mean 'id'?"),
        ("node: {<<: {id: a}}", "1:8: node.<<", "merge keys (<<) are not allowed"),
        ("node: {id: 1}", "1:12: node.id", "expected a string, not the number 1 (quote it)"),
        ("node: {id: n}", "1:12: node.id", "expected a string, not the boolean false (quote it)"),
        ("node: {id: [a]}", "1:12: node.id", "expected a string, not a list"),
        ("node: [{id: a}]", "1:7: node", "expected a mapping (Node), not a list"),
        ('node: ""', "1:7: node", "expected a mapping (Node), not the string ''"),
        ("enable_dispatcher_stats: 1", "1:26: enable_dispatcher_stats", "expected true or false, not the number 1"),
        ("stats_server_version_override: -1", "1:32: stats_server_version_override", "-1 is out of range"),
        ("stats_server_version_override: 1.5", "1:32: stats_server_version_override", "expected an integer, not 1.5"),
        ("stats_server_version_override: ' 1'", "1:32: stats_server_version_override", "expected an integer"),
        ("stats_server_version_override: 18446744073709551616", "1:32: stats_server_version_override", "out of range"),
        ("watchdog: {multikill_threshold: {value: .inf}}", "1:41: watchdog.multikill_threshold.value", "expected a number"),
        ("stats_flush_interval: 250ms", "1:23: stats_flush_interval", "expected a duration such as 0.25s, not the string '250ms'"),
        ("stats_flush_interval: 1", "1:23: stats_flush_interval", "expected a duration such as 0.25s, not the number 1"),
        ("stats_flush_interval: .5s", "1:23: stats_flush_interval", "expected a duration"),
        ("stats_flush_interval: 0.0000000001s", "1:23: stats_flush_interval", "expected a duration"),
        ("stats_flush_interval: 315576000001s", "1:23: stats_flush_interval", "out of range"),
        ("stats_flush_interval: -1s", "1:23: stats_flush_interval", "must not be negative"),
        ("watchdog: {miss_timeout: 9223372036s}", "1:26: watchdog.miss_timeout", "out of range"),
        (CLUSTER % "type: strictDns", "1:68: static_resources.clusters[0].type", "unknown value 'strictDns' of DiscoveryType; did you mean 'STRICT_DNS'?"),
        (CLUSTER % "type: 1.0", "1:68: static_resources.clusters[0].type", "unknown value '1.0'"),
        (CLUSTER % "type: true", "1:68: static_resources.clusters[0].type", "expected a name of DiscoveryType"),
        ("node: {user_agent_version: a, user_agent_build_version: {}}", "1:31: node.user_agent_build_version", "only one of 'user_agent_version' and 'user_agent_build_version' may be set"),
        ("node: {userAgentVersion: a, user_agent_version: b}", "1:29: node.user_agent_version", "given twice, as 'userAgentVersion' and as 'user_agent_version'"),
        ("node: {metadata: []}", "1:18: node.metadata", "expected a mapping, not a list"),
        ("node: {dynamic_parameters: []}", "1:28: node.dynamic_parameters", "expected a mapping, not a list"),
        (CLUSTER % "transport_socket: {name: x, typed_config: {a: b}}", '1:104: static_resources.clusters[0].transport_socket.typed_config', '"@type" is missing'),
        (CLUSTER % 'transport_socket: {name: x, typed_config: {"@type": a}}', "1:114: static_resources.clusters[0].transport_socket.typed_config.@type", "'a' is no type URL"),
        (CLUSTER % 'transport_socket: {name: x, typed_config: {"@type": x/envoy.RawBufer}}', "1:114: static_resources.clusters[0].transport_socket.typed_config.@type", "unknown type 'envoy.RawBufer'"),
        (CLUSTER % 'transport_socket: {name: x, typed_config: {"@type": x/google.protobuf.Duration, value: 1s, a: 1}}', "1:153: static_resources.clusters[0].transport_socket.typed_config.a", "has nothing but 'value' here"),
        ("[]", "1:1", "expected a mapping (Bootstrap), not a list"),
        ("node: {metadata: {a: " + "[" * 120 + "]" * 120 + "}}", "1:70", "nested deeper than 100 levels"),
    ],
)  # fmt: skip
def test_what_envoy_refuses_is_refused_with_place_and_reason(text, place, says):
    (problem,) = problems_of(text)

    assert problem.startswith(f"f:{place}"), problem
    assert says in problem


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "f: nothing in it"),
        ("~", "f:1:1: expected a mapping, not null"),
        ("a: b: c", "f:1:5: not YAML"),
        ("node: *x", "f:1:7: the alias *x has no anchor before it"),
    ],
)
def test_text_that_cannot_be_read(text, says):
    (problem,) = problems_of(text)

    assert problem.startswith(says)


def test_every_problem_is_told_in_the_order_of_the_file():
    text = f"""\
node:
  id: 5
  nope: 1
static_resources:
  listeners:
  - name: l
    address: {{socket_address: {{address: 127.0.0.1, port_value: 70000}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/{HCM}
          codec_type: HTTP9
          route_config:
            virtual_hosts:
            - name: v
              routes:
              - match: {{}}
                route: {{cluster: c, timeout: 5ms}}
          http_filters:
          - name: router
            typed_config:
              "@type": type.googleapis.com/{ROUTER}
              strict_check_headers: [bad]
  clusters:
  - connect_timeout: -1s
"""
    hcm = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config"

    assert [problem.partition(": ")[0] + " " + problem.split(": ")[1] for problem in problems_of(text)] == [
        "f:2:7 node.id",
        "f:3:3 node.nope",
        "f:7:64 static_resources.listeners[0].address.socket_address.port_value",
        f"f:12:11 {hcm}.stat_prefix",
        f"f:13:23 {hcm}.codec_type",
        f"f:16:15 {hcm}.route_config.virtual_hosts[0].domains",
        f"f:18:24 {hcm}.route_config.virtual_hosts[0].routes[0].match",
        f"f:19:46 {hcm}.route_config.virtual_hosts[0].routes[0].route.timeout",
        f"f:24:38 {hcm}.http_filters[0].typed_config.strict_check_headers[0]",
        "f:26:5 static_resources.clusters[0].name",
        "f:26:22 static_resources.clusters[0].connect_timeout",
    ]


def test_what_could_not_be_read_is_not_also_missing():
    (problem,) = problems_of("static_resources: {clusters: [{name: 5}]}")

    assert "expected a string" in problem


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("node: {id: a, id: b}", "f:1:15: node.id: given twice; the last one counts"),
        ("flags_path: a\nflagsPath: b", "f:2:1: flags_path: given twice, as 'flags_path' and as 'flagsPath'"),
        ("node: {metadata: {a: 1, a: 2}}", 'f:1:25: node.metadata["a"]: given twice; the last one counts'),
        ("admin: {access_log_path: /dev/null, access_log: []}", "f:1:26: admin.access_log_path: this field is deprecated"),
    ],
)  # fmt: skip
def test_warnings(text, warning):
    assert warnings_of(text) == [warning]


def test_json_is_read_as_json():
    assert "number_value: 1.5" in loaded('{"node": {"metadata": {"a": 1.5}}}', "json")
    assert 'id: "b"' in loaded('{"node": {"id": "a", "id": "b"}}', "json")
    assert 'locality { region: "r" zone: "z" }' in loaded(
        '{"node": {"locality": {"region": "r"}, "locality": {"zone": "z"}}}', "json"
    )
    assert problems_of('{"node": {"metadata": {"a": 1, "a": 2}}}', "json") == [
        'f:1:32: node.metadata["a"]: given twice'
    ]
    assert problems_of('{"node": {"user_agent_version": "a", "user_agent_version": "b"}}', "json") == [
        "f:1:38: node.user_agent_version: given twice"
    ]
    assert problems_of('{"node": {\n "id": 1}}', "json") == [
        "f:2:8: node.id: expected a string, not the number 1 (quote it)"
    ]


def test_text_protobuf():
    assert loaded('node { id: "a" build_version: "old" }', "pb_text") == 'node { id: "a" }'
    assert problems_of('node { nope: 1\n cluste: "x" id: "a" }', "pb_text") == [
        "f:1:8: unknown field 'nope' in envoy.config.core.v3.Node",
        "f:2:2: unknown field 'cluste' in envoy.config.core.v3.Node; did you mean 'cluster'?",
    ]
    assert problems_of("node { id: 5 }", "pb_text") == [
        "f:1:12: not a text protobuf: 'node { id: 5 }': Expected string but found: '5'"
    ]
    assert problems_of("static_resources { clusters { } }", "pb_text") == [
        "f: static_resources.clusters[0].name: must not be empty"
    ]
    expanded = f'admin {{ access_log {{ name: "x" typed_config {{ [type.googleapis.com/{ROUTER}] {{ dynamic_stats {{ value: true }} }} }} }} }}'
    assert ROUTER in loaded(expanded, "pb_text")


@pytest.mark.parametrize(
    ("name", "content", "node_id"),
    [
        ("a.yaml", "node: {id: yy}", "yy"),
        ("a.YML", "node: {id: yy}", "yy"),
        ("a.json", '{"node": {"id": "j"}}', "j"),
        ("a.conf", '{"node": {"id": "j"}}', "j"),
        ("a", '{"node": {"id": "j"}}', "j"),
        ("a.pb_text", 'node { id: "t" }', "t"),
        ("a.pb", b"\n\x03\n\x01b", "b"),
        ("bom.yaml", b"\xef\xbb\xbfnode: {id: yy}", "yy"),
    ],
)
def test_the_form_is_told_by_the_end_of_the_name(tmp_path, name, content, node_id):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    assert load_bootstrap(str(path)).bootstrap.node.id == node_id


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.conf", b"node: {id: y}", ":1:1: not JSON: expected a value"),
        ("a.yaml", b"node:\n id: \xff", ":2:6: not UTF-8"),
        ("a.pb", b"\xff\xff", ": not a binary envoy.config.bootstrap.v3.Bootstrap"),
        ("a.pb", b"\n\x03\x7a\x01b", ": node: fields of unknown number in envoy.config.core.v3.Node: 15"),
        ("missing/a.yaml", None, ": cannot be read: No such file or directory"),
        ("nul\0.yaml", None, ": cannot be read: "),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, says):
    path = os.path.join(tmp_path, name)
    if content is not None:
        with open(path, "wb") as file:
            file.write(content)

    with pytest.raises(ConfigError) as caught:
        load_bootstrap(path)

    (problem,) = caught.value.problems
    assert str(problem).partition(path)[2].startswith(says)


def test_nothing_to_load():
    with pytest.raises(ConfigError, match="neither a configuration file nor inline YAML"):
        load_bootstrap(None)


def test_inline_yaml_is_merged_over_the_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "node: {id: a, cluster: c, client_features: [x], user_agent_version: v}\n"
        "stats_flush_interval: 1s\n"
        "static_resources: {clusters: [{name: one, connect_timeout: 1s}]}\n"
    )
    inline = (
        "{node: {id: b, client_features: [y1], user_agent_build_version: {}}, stats_flush_interval: 0.5s,"
        " static_resources: {clusters: [{name: two, connect_timeout: 1s}]}}"
    )

    bootstrap = load_bootstrap(str(path), inline).bootstrap

    assert (bootstrap.node.id, bootstrap.node.cluster) == ("b", "c")
    assert list(bootstrap.node.client_features) == ["x", "y1"]
    assert bootstrap.node.WhichOneof("user_agent_version_type") == "user_agent_build_version"
    assert (bootstrap.stats_flush_interval.seconds, bootstrap.stats_flush_interval.nanos) == (1, 500_000_000)
    assert [cluster.name for cluster in bootstrap.static_resources.clusters] == ["one", "two"]


def test_places_are_found_across_the_file_and_the_inline_yaml(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "static_resources:\n  clusters:\n  - {name: one, typedExtensionProtocolOptions: {k: {}}}\n"
    )
    loaded = load_bootstrap(
        str(path), "{static_resources: {clusters: {name: two}}, node: {metadata: {a.b: [1]}}}"
    )
    locate = loaded.problems.locate

    assert locate("static_resources.clusters[0].name") == (str(path), 3, 12)
    assert locate('static_resources.clusters[0].typed_extension_protocol_options["k"]') == (str(path), 3, 52)
    assert locate("static_resources.clusters[0].lb_policy") == (str(path), 3, 5)
    assert locate("static_resources.clusters[1].name") == ("--config-yaml", 1, 38)
    assert locate('node.metadata["a.b"][0]') == ("--config-yaml", 1, 69)
    assert locate("static_resources.listeners[7]") == ("--config-yaml", 1, 20)


def test_problems_of_both_sources_are_told(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: [")

    with pytest.raises(ConfigError) as caught:
        load_bootstrap(str(path), "{node: {nope: 1}}")

    assert [problem.file for problem in caught.value.problems] == [str(path), "--config-yaml"]


def test_a_large_bootstrap_keeps_no_tree(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("static_resources: {clusters: [" + "{name: a, connect_timeout: 1s}, " * 300 + "]}")
    loaded = load_bootstrap(str(path))

    assert all(source.root is None for source in loaded.problems.locate.__self__._sources)
    assert loaded.problems.locate("static_resources.clusters[299].name") == (str(path), 1, 9606)


def test_loading_leaves_the_collector_as_it_was():
    import gc

    assert gc.isenabled()
    load_text("{}")
    problems_of("nope: 1")
    assert gc.isenabled()


SNIPPETS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["1s", "*", "@type"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["node", "id", "metadata", "static_resources", "clusters", "listeners", "name", "@type", "value",
             "typed_config", "admin", "address", "load_assignment", "hosts", "config", "type", "filters",
             "filter_chains", "layered_runtime", "layers", "static_layer"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(SNIPPETS)
def test_any_tree_is_loaded_or_refused(tree):
    text = json.dumps(tree)
    for form in ("yaml", "json"):
        try:
            load_text(text, form, "f")
        except ConfigError as error:
            assert error.problems
            assert all(problem.text for problem in error.problems)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([".yaml", ".json", ".pb", ".pb_text"]))
def test_any_bytes_are_loaded_or_refused(tmp_path_factory, data, ending):
    path = tmp_path_factory.getbasetemp() / f"any{ending}"
    path.write_bytes(data)
    try:
        load_bootstrap(str(path))
    except ConfigError as error:
        assert error.problems


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="node{}<>[]:,;\"'# \nid1.-x", max_size=60))
def test_any_text_protobuf_is_loaded_or_refused(text):
    try:
        load_text(text, "pb_text")
    except ConfigError as error:
        assert error.problems


def test_wire_form_round_trips(tmp_path):
    first = load_text(CLUSTER % "type: STATIC, load_assignment: {cluster_name: c}").bootstrap
    path = tmp_path / "a.pb"
    path.write_bytes(first.SerializeToString())

    assert load_bootstrap(str(path)).bootstrap == first
    assert isinstance(first, message_class("envoy.config.bootstrap.v3.Bootstrap"))


# -- messages of other types -----------------------------------------------------------------------

ROUTES = "envoy.config.route.v3.RouteConfiguration"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", b"name: r"),
        ("a.json", b'{"name": "r",}'),
        ("a.json", b'{"name": "r"}'),
        ("a.pb_text", b'name: "r"'),
        ("a.pb", b"\n\x01r"),
    ],
)
def test_a_message_of_another_type(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    message, problems = load_message(str(tmp_path / name), ROUTES)

    assert (message.DESCRIPTOR.full_name, message.name, problems.items) == (ROUTES, "r", [])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.yaml", b"name: r\nnode: {}", f":2:1: node: unknown field 'node' in {ROUTES}"),
        (
            "a.json",
            b'{"virtual_hosts": [{"name": "v"}]}',
            ":1:20: virtual_hosts[0].domains: must not be empty",
        ),
        ("a.pb", b"\xff\xff", f": not a binary {ROUTES}"),
    ],
)
def test_a_message_of_another_type_that_is_wrong(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        load_message(str(tmp_path / name), ROUTES)
    assert str(caught.value) == str(tmp_path / name) + says


OLD_ACTION = """
virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: c, %s}}]}]
"""


def test_old_names_are_for_bootstraps(tmp_path):
    # The field is a new one here, and in a bootstrap of 2019 another word for host_rewrite_literal.
    (tmp_path / "a.yaml").write_text(OLD_ACTION % "host_rewrite: '%REQ(x)%'")
    message, problems = load_message(str(tmp_path / "a.yaml"), ROUTES)

    assert message.virtual_hosts[0].routes[0].route.host_rewrite == "%REQ(x)%"
    assert problems.items == []


def test_deprecated_fields_may_be_allowed(tmp_path):
    action = "dynamic_metadata: {descriptor_key: d, metadata_key: {key: k, path: [{key: p}]}}"
    (tmp_path / "a.yaml").write_text(
        OLD_ACTION % (f"max_grpc_timeout: 1s, rate_limits: [{{actions: [{{{action}}}]}}]")
    )

    with pytest.raises(ConfigError, match="deprecated and no longer allowed"):
        load_message(str(tmp_path / "a.yaml"), ROUTES)
    _, problems = load_message(str(tmp_path / "a.yaml"), ROUTES, allow_deprecated=True)
    assert problems.items == []
