"""The schema that the package carries: loaded lazily, complete, and of the rules it was built from."""

import subprocess
import sys

import pytest

from weft.api.schema import Schema, find_type, has_type, message_class, parse, rules, schema


def test_types_are_found_by_full_name():
    assert has_type("envoy.config.bootstrap.v3.Bootstrap")
    assert has_type("envoy.config.cluster.v3.Cluster.EdsClusterConfig")
    assert not has_type("envoy.config.bootstrap.v3.Bootstra")
    assert not has_type("a.B")
    assert not has_type("")
    with pytest.raises(KeyError):
        message_class("a.B")
    assert parse("google.protobuf.StringValue", b"\n\x01a").value == "a"


@pytest.mark.parametrize(
    "name",
    [
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "envoy.extensions.filters.http.router.v3.Router",
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "envoy.service.discovery.v3.DiscoveryRequest",
        "envoy.admin.v3.ConfigDump",
        "xds.type.v3.TypedStruct",
        "udpa.type.v1.TypedStruct",
        # Newer than the xds-protos we build with.
        "envoy.config.route.v3.CookieMatcher",
        "envoy.extensions.filters.network.tcp_bandwidth_limit.v3.TcpBandwidthLimit",
    ],
)
def test_what_configurations_need_is_there(name):
    assert has_type(name)


def test_every_type_can_be_loaded():
    names = schema().all_types()

    assert len(names) > 1400
    assert all(message_class(name) for name in names)


def test_rules_and_annotations():
    cluster = rules(find_type("envoy.config.cluster.v3.Cluster"))["fields"]
    host = rules(find_type("envoy.config.route.v3.RouteMatch"))

    assert cluster["name"]["rules"] == {"string": {"min_len": 1}}
    assert cluster["connect_timeout"]["rules"] == {"duration": {"gt": 0}}
    assert host["oneofs"] == ["path_specifier"]
    assert (
        "sensitive"
        in rules(find_type("envoy.extensions.transport_sockets.tls.v3.TlsCertificate"))["fields"][
            "private_key"
        ]
    )
    assert rules(find_type("google.protobuf.Empty")) == {}


def test_fields_newer_than_xds_protos():
    match = message_class("envoy.config.route.v3.RouteMatch")()
    match.cookies.add(name="a").string_match.exact = "b"

    again = parse("envoy.config.route.v3.RouteMatch", match.SerializeToString())
    assert again.cookies[0].string_match.exact == "b"
    assert rules(find_type("envoy.config.route.v3.CookieMatcher"))["fields"]["string_match"]["rules"] == {
        "message": {"required": True}
    }


def test_names_of_v2():
    names = schema().previous_names()

    assert names["envoy.api.v2.Cluster"] == "envoy.config.cluster.v3.Cluster"


def test_other_bytes_are_no_schema():
    with pytest.raises(RuntimeError, match="not a schema"):
        Schema(b"else")


def test_loading_is_lazy_and_needs_nothing_generated():
    program = (
        "import sys\n"
        "from weft.api.schema import message_class, schema\n"
        "message_class('envoy.config.bootstrap.v3.Bootstrap')\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('envoy', 'xds', 'udpa', 'validate')]\n"
        "files = schema()._files\n"
        "assert 0 < sum(file.added for file in files) < len(files) / 3\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})
