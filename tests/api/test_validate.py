"""Where rules are looked for: through messages, lists, maps, every Any and TypedStruct."""

import time

import pytest

from weft.api.load import load_text
from weft.api.problems import ConfigError, Problems
from weft.api.schema import message_class
from weft.api.validate import Checker

CLUSTER = "envoy.config.cluster.v3.Cluster"
ROUTE = "envoy.config.route.v3.RouteConfiguration"


def found(message) -> list[str]:
    problems = Problems()
    Checker(problems).check(message)
    return [("warning " if item.warning else "") + f"{item.path}: {item.text}" for item in problems.items]


def make(full_name: str, **fields):
    return message_class(full_name)(**fields)


def test_an_unset_scalar_breaks_its_rule():
    assert found(make(CLUSTER)) == ["name: must not be empty"]


def test_a_wrapper_that_is_not_set_breaks_none():
    core = "envoy.config.core.v3."
    assert found(make(core + "Http2ProtocolOptions")) == []
    assert found(make(core + "Http2ProtocolOptions", max_concurrent_streams={"value": 0})) == [
        "max_concurrent_streams: must be at least 1"
    ]


def test_a_required_message():
    host = make("envoy.config.core.v3.HealthCheck", tcp_health_check={})

    assert found(host) == [
        "timeout: is required",
        "interval: is required",
        "unhealthy_threshold: is required",
        "healthy_threshold: is required",
    ]


def test_a_required_oneof_and_its_members():
    table = make(ROUTE)
    route = table.virtual_hosts.add(name="v", domains=["*"]).routes.add()

    assert found(table) == [
        "virtual_hosts[0].routes[0].match: is required",
        "virtual_hosts[0].routes[0]: one of route, redirect, direct_response, filter_action or non_forwarding_action is required",
    ]

    route.match.path_separated_prefix = "/a/"
    route.route.cluster = "c"
    assert found(table) == [
        "virtual_hosts[0].routes[0].match.path_separated_prefix: does not match '^[^?#]+[^?#/]$'"
    ]

    # A rule of a member that is not the one chosen does not count.
    route.match.prefix = "/"
    assert found(table) == []


def test_lists_and_maps():
    table = make(ROUTE)
    table.virtual_hosts.add(name="v", domains=["*"], request_headers_to_remove=["a", "b\n"])
    metadata = make("envoy.config.core.v3.Metadata")
    metadata.filter_metadata[""].SetInParent()
    context = make("envoy.config.core.v3.Node")
    context.locality.SetInParent()

    assert found(table) == ["virtual_hosts[0].request_headers_to_remove[1]: must not contain CR, LF or NUL"]
    assert found(metadata) == ['filter_metadata[""]: the key must not be empty']


def test_durations_are_checked_where_no_rule_says_so():
    options = make("envoy.config.core.v3.HttpProtocolOptions", idle_timeout={"seconds": -1})
    options.max_stream_duration.seconds = 9_223_372_036

    assert found(options) == [
        "idle_timeout: a duration must not be negative",
        "max_stream_duration: the duration is out of range (less than 9223372036s)",
    ]


def typed(message):
    any_message = message_class("google.protobuf.Any")()
    any_message.Pack(message)
    return any_message


def test_into_an_any():
    cluster = make(CLUSTER, name="c")
    cluster.typed_extension_protocol_options["k"].CopyFrom(typed(make(CLUSTER)))

    assert found(cluster) == ['typed_extension_protocol_options["k"].name: must not be empty']


def test_an_any_of_an_unknown_type_or_of_other_bytes():
    cluster = make(CLUSTER, name="c")
    options = cluster.typed_extension_protocol_options
    options["unknown"].type_url = "type.googleapis.com/a.B"
    options["unknown"].value = b"\xff"
    options["unset"].SetInParent()
    options["broken"].type_url = f"type.googleapis.com/{CLUSTER}"
    options["broken"].value = b"\xff"

    assert found(cluster) == [f'typed_extension_protocol_options["broken"]: the bytes are not a {CLUSTER}']


@pytest.mark.parametrize("struct", ["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"])
def test_into_a_typed_struct(struct):
    inner = make(struct, type_url=f"x/{CLUSTER}")
    inner.value.update({"connect_timeout": "-1s", "circuitBreakers": {"thresholds": [{"max_retries": -1}]}})
    cluster = make(CLUSTER, name="c")
    cluster.typed_extension_protocol_options["k"].CopyFrom(typed(inner))

    assert found(cluster) == [
        'typed_extension_protocol_options["k"].value.circuit_breakers.thresholds[0].max_retries: '
        "-1 is out of range (0 to 4294967295)"
    ]

    inner.value.update({"circuitBreakers": {}})
    cluster.typed_extension_protocol_options["k"].CopyFrom(typed(inner))
    assert found(cluster) == [
        'typed_extension_protocol_options["k"].value.name: must not be empty',
        'typed_extension_protocol_options["k"].value.connect_timeout: a duration must not be negative',
    ]


def test_what_is_on_its_way_out():
    assert found(make("envoy.config.bootstrap.v3.Admin", access_log_path="/a")) == [
        "warning access_log_path: this field is deprecated"
    ]
    action = make("envoy.config.route.v3.RateLimit.Action")
    action.dynamic_metadata.descriptor_key = "a"
    action.dynamic_metadata.metadata_key.key = "a"
    action.dynamic_metadata.metadata_key.path.add(key="a")
    assert found(action) == ["dynamic_metadata: this field is deprecated and no longer allowed"]


def test_an_enum_value_that_is_no_longer_allowed_even_as_the_default():
    zipkin = make("envoy.config.trace.v3.ZipkinConfig", collector_cluster="c", collector_endpoint="/")
    gone = "DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE"

    assert found(zipkin) == [
        f"collector_endpoint_version: must be set: its default {gone} is no longer allowed"
    ]

    zipkin.collector_endpoint_version = 1
    assert found(zipkin) == []


def test_deprecated_fields_can_be_allowed_by_the_runtime():
    bad = """
static_resources:
  listeners:
  - name: l
    address: {pipe: {path: /x}}
    api_listener:
      api_listener:
        "@type": type.googleapis.com/envoy.config.route.v3.RateLimit.Action
        dynamic_metadata: {descriptor_key: a, metadata_key: {key: a, path: [{key: a}]}}
"""
    with pytest.raises(ConfigError, match="no longer allowed"):
        load_text(bad)
    for key in (
        "envoy.features.enable_all_deprecated_features",
        "envoy.deprecated_features:envoy.config.route.v3.RateLimit.Action.dynamic_metadata",
    ):
        layer = f'layered_runtime: {{layers: [{{name: a, static_layer: {{"{key}": true}}}}]}}'
        (warning,) = load_text(bad + layer).problems.items
        assert (warning.warning, warning.text) == (True, "this field is deprecated")


def test_a_large_cluster_is_checked_in_little_time():
    cluster = make(CLUSTER, name="c", load_assignment={"cluster_name": "c"})
    endpoints = cluster.load_assignment.endpoints.add()
    for number in range(2000):
        address = endpoints.lb_endpoints.add().endpoint.address.socket_address
        address.address = "10.0.0.1"
        address.port_value = number
    found(cluster)

    began = time.process_time()
    assert found(cluster) == []
    assert time.process_time() - began < 0.1
