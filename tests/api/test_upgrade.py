"""Old names are read as what they are called today, where a document is unmistakably old."""

import pytest

from weft.api.dump import to_dict
from weft.api.load import load_text
from weft.api.problems import ConfigError

EXTENSIONS = "type.googleapis.com/envoy.extensions."
HCM = EXTENSIONS + "filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = EXTENSIONS + "filters.http.router.v3.Router"


def upgraded(text: str) -> tuple[dict, list[str]]:
    """The bootstrap, and the warnings as place and text."""
    loaded = load_text(text, "yaml", "f")
    assert all(item.warning for item in loaded.problems.items)
    return to_dict(loaded.bootstrap), [str(item) for item in loaded.problems.items]


def test_a_bootstrap_of_2019():
    config, warnings = upgraded("""\
admin:
  access_log_path: /dev/null
  address: {socket_address: {address: 127.0.0.1, port_value: 0}}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.http_connection_manager
        config:
          codec_type: auto
          stat_prefix: ingress
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: /}
                route: {cluster: one}
          http_filters:
          - name: envoy.router
          clusters: []
  clusters:
  - name: one
    connect_timeout: 0.25s
    type: strict_dns
    lb_policy: round_robin
    hosts: [{socket_address: {address: one.example, port_value: 80}}]
""")
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]

    assert manager["name"] == "envoy.filters.network.http_connection_manager"
    assert manager["typed_config"]["@type"] == HCM
    assert manager["typed_config"]["http_filters"] == [
        {"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}
    ]
    assert config["static_resources"]["clusters"][0]["load_assignment"] == {
        "cluster_name": "one",
        "endpoints": [
            {
                "lb_endpoints": [
                    {
                        "endpoint": {
                            "address": {"socket_address": {"address": "one.example", "port_value": 80}}
                        }
                    }
                ]
            }
        ],
    }
    assert config["admin"]["access_log"] == [
        {
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": EXTENSIONS + "access_loggers.file.v3.FileAccessLog",
                "path": "/dev/null",
            },
        }
    ]
    chain = "static_resources.listeners[0].filter_chains[0].filters[0]"
    assert warnings == [
        "f:2:3: admin.access_log_path: the old field 'access_log_path' is read as access_log",
        f"f:9:15: {chain}.name: the old name 'envoy.http_connection_manager' is read as"
        " envoy.filters.network.http_connection_manager",
        f"f:10:9: {chain}.config: the old field 'config' is read as typed_config of {HCM.partition('/')[2]}",
        f"f:21:19: {chain}.typed_config.http_filters[0].name: the old name 'envoy.router' is read as"
        " envoy.filters.http.router",
        f"f:22:11: {chain}.typed_config.clusters: the old field 'clusters' is read as absent: it has no effect",
        "f:28:5: static_resources.clusters[0].hosts: the old field 'hosts' is read as load_assignment",
    ]


CLUSTER = "static_resources: {clusters: [{name: c, connect_timeout: 1s, %s}]}"
ROUTES = """
static_resources:
  listeners:
  - address: {pipe: {path: /x}}
    filter_chains:
    - filters:
      - name: envoy.http_connection_manager
        config:
          stat_prefix: s
          %s
          route_config: {virtual_hosts: [{name: v, domains: ["*"], %s, routes: [{%s}]}]}
"""


def cluster_of(config: dict) -> dict:
    return config["static_resources"]["clusters"][0]


def manager_of(config: dict) -> dict:
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def host_of(config: dict) -> dict:
    return manager_of(config)["route_config"]["virtual_hosts"][0]


def route_of(config: dict) -> dict:
    return host_of(config)["routes"][0]


TO = "route: {cluster: c}"


@pytest.mark.parametrize(
    ("text", "where", "due"),
    [
        (CLUSTER % "hosts: {pipe: {path: /a}}", lambda config: cluster_of(config)["load_assignment"]["endpoints"][0]["lb_endpoints"], [{"endpoint": {"address": {"pipe": {"path": "/a"}}}}]),
        (CLUSTER % "tls_context: {sni: a}", lambda config: cluster_of(config)["transport_socket"], {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": EXTENSIONS + "transport_sockets.tls.v3.UpstreamTlsContext", "sni": "a"}}),
        (CLUSTER % "tls_context: {common_tls_context: {validation_context: {verify_subject_alt_name: [a]}}}", lambda config: cluster_of(config)["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"], {"match_subject_alt_names": [{"exact": "a"}]}),
        (CLUSTER % "lb_policy: original_dst_lb", lambda config: cluster_of(config)["lb_policy"], "CLUSTER_PROVIDED"),
        (CLUSTER % "transport_socket: {name: raw_buffer}", lambda config: cluster_of(config)["transport_socket"]["typed_config"]["@type"], EXTENSIONS + "transport_sockets.raw_buffer.v3.RawBuffer"),
        (CLUSTER % "health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: {path: /, use_http2: true, service_name: a}}]", lambda config: cluster_of(config)["health_checks"][0]["http_health_check"], {"path": "/", "service_name_matcher": {"prefix": "a"}, "codec_client_type": "HTTP2"}),
        (ROUTES % ("idle_timeout: 5s", "", "match: {prefix: /}, " + TO), lambda config: manager_of(config)["common_http_protocol_options"], {"idle_timeout": "5s"}),
        (ROUTES % ("tracing: {operation_name: egress}", "", "match: {prefix: /}, " + TO), lambda config: manager_of(config)["tracing"], {}),
        (ROUTES % ("access_log: [{name: envoy.file_access_log, config: {path: /a}}]", "", "match: {prefix: /}, " + TO), lambda config: manager_of(config)["access_log"], [{"name": "envoy.access_loggers.file", "typed_config": {"@type": EXTENSIONS + "access_loggers.file.v3.FileAccessLog", "path": "/a"}}]),
        (ROUTES % ("", "", "match: {regex: /a.*}, " + TO), lambda config: route_of(config)["match"], {"safe_regex": {"regex": "/a.*"}}),
        (ROUTES % ("", "", "match: {prefix: /, headers: [{name: h, regex_match: a}]}, " + TO), lambda config: route_of(config)["match"]["headers"], [{"name": "h", "safe_regex_match": {"regex": "a"}}]),
        (ROUTES % ("", "", "match: {prefix: /, query_parameters: [{name: q, value: a}]}, " + TO), lambda config: route_of(config)["match"]["query_parameters"], [{"name": "q", "string_match": {"exact": "a"}}]),
        (ROUTES % ("", "", "match: {prefix: /, query_parameters: [{name: q, value: a, regex: true}]}, " + TO), lambda config: route_of(config)["match"]["query_parameters"], [{"name": "q", "string_match": {"safe_regex": {"regex": "a"}}}]),
        (ROUTES % ("", "", "match: {prefix: /, runtime: {default_value: 5, runtime_key: k}}, " + TO), lambda config: route_of(config)["match"]["runtime_fraction"], {"default_value": {"numerator": 5}, "runtime_key": "k"}),
        (ROUTES % ("", "", "match: {prefix: /}, route: {cluster: c, host_rewrite: h}"), lambda config: route_of(config)["route"]["host_rewrite_literal"], "h"),
        (ROUTES % ("", "", "match: {prefix: /}, route: {cluster: c, auto_host_rewrite_header: h}"), lambda config: route_of(config)["route"]["host_rewrite_header"], "h"),
        (ROUTES % ("", "", "match: {prefix: /}, route: {cluster: c, request_mirror_policy: {cluster: m}}"), lambda config: route_of(config)["route"]["request_mirror_policies"], [{"cluster": "m"}]),
        (ROUTES % ("", 'cors: {allow_origin: ["*", a]}', "match: {prefix: /}, " + TO), lambda config: host_of(config)["cors"]["allow_origin_string_match"], [{"safe_regex": {"regex": ".*"}}, {"exact": "a"}]),
        (ROUTES % ("", "per_filter_config: {envoy.buffer: {disabled: true}}", "match: {prefix: /}, " + TO), lambda config: host_of(config)["typed_per_filter_config"], {"envoy.filters.http.buffer": {"@type": EXTENSIONS + "filters.http.buffer.v3.BufferPerRoute", "disabled": True}}),
        ("runtime: {symlink_root: /r, subdirectory: a, override_subdirectory: b, base: {k: 1}}", lambda config: config["layered_runtime"]["layers"], [
            {"name": "base", "static_layer": {"k": 1}},
            {"name": "root", "disk_layer": {"symlink_root": "/r", "subdirectory": "a"}},
            {"name": "override", "disk_layer": {"symlink_root": "/r", "subdirectory": "b", "append_service_cluster": True}},
            {"name": "admin", "admin_layer": {}},
        ]),
        ("stats_sinks: [{name: envoy.statsd, config: {address: {pipe: {path: /s}}}}]", lambda config: config["stats_sinks"], [{"name": "envoy.stat_sinks.statsd", "typed_config": {"@type": "type.googleapis.com/envoy.config.metrics.v3.StatsdSink", "address": {"pipe": {"path": "/s"}}}}]),
        ("node: {id: a, build_version: x}", lambda config: config["node"], {"id": "a"}),
        ("admin: {access_log_path: /a}\ndynamic_resources: {cds_config: {}, lds_config: {path: /l}}", lambda config: config["dynamic_resources"], {"lds_config": {"path": "/l"}}),
        ('static_resources: {listeners: [{address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: x, typed_config: {"@type": type.googleapis.com/envoy.config.filter.network.tcp_proxy.v2.TcpProxy, stat_prefix: s, cluster: c}}]}]}]}', lambda config: manager_of(config)["@type"], EXTENSIONS + "filters.network.tcp_proxy.v3.TcpProxy"),
        ("static_resources: {listeners: [{address: {pipe: {path: /x}}, listener_filters: [{name: envoy.listener.tls_inspector}]}]}", lambda config: config["static_resources"]["listeners"][0]["listener_filters"], [{"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": EXTENSIONS + "filters.listener.tls_inspector.v3.TlsInspector"}}]),
    ],
)  # fmt: skip
def test_an_old_name(text, where, due):
    config, warnings = upgraded(text.replace(", ,", ","))

    assert where(config) == due
    assert warnings


V3 = f"""
static_resources:
  listeners:
  - address: {{pipe: {{path: /x}}}}
    filter_chains:
    - filters:
      - name: envoy.http_connection_manager
        typed_config:
          "@type": {HCM}
          stat_prefix: s
          route_config: {{}}
          http_filters: [{{name: envoy.router, typed_config: {{"@type": {ROUTER}}}}}]
"""


def test_a_v3_document_means_what_it_says():
    config, warnings = upgraded(V3)

    assert warnings == []
    assert config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["name"] == (
        "envoy.http_connection_manager"
    )


@pytest.mark.parametrize(
    ("addition", "says"),
    [
        ("  clusters: [{name: c, hosts: []}]", "static_resources.clusters[0].hosts: unknown field 'hosts'"),
        ("          idle_timeout: 1s", "typed_config.idle_timeout: unknown field 'idle_timeout'"),
        ("          clusters: []", "typed_config.clusters: unknown field 'clusters'"),
        ("dynamic_resources: {cds_config: {}}", "dynamic_resources.cds_config: one of path"),
    ],
)
def test_in_a_v3_document_an_old_name_is_a_mistake(addition, says):
    with pytest.raises(ConfigError) as caught:
        load_text(V3 + addition)

    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        # Today's names without a typed_config are left alone when nothing else is old: Envoy refuses them.
        "static_resources: {listeners: [{address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: envoy.filters.network.echo}]}]}]}",
        "dynamic_resources: {cds_config: {ads: {}}}",
        "admin: {access_log_path: /a, access_log: []}",
    ],
)
def test_nothing_old_nothing_done(text):
    _, warnings = upgraded(text)

    assert [warning for warning in warnings if "is read as" in warning] == []


def test_an_old_field_of_a_wrong_kind_is_a_problem_like_any_other():
    with pytest.raises(ConfigError) as caught:
        load_text(
            "static_resources: {listeners: [{address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: envoy.echo, config: 5}]}]}]}"
        )

    assert "unknown field 'config'" in str(caught.value)


def test_aliases_are_upgraded_once():
    config, _ = upgraded(
        "static_resources: {clusters: [{name: a, connect_timeout: 1s, hosts: &h [{pipe: {path: /a}}]}, {name: b, connect_timeout: 1s, hosts: *h}]}"
    )

    assert [
        len(cluster["load_assignment"]["endpoints"]) for cluster in config["static_resources"]["clusters"]
    ] == [1, 1]
