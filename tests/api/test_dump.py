"""Messages as values for the admin: names, forms, and what is hidden."""

import base64
import json

import pytest
from google.protobuf import json_format

from weft.api.dump import to_dict
from weft.api.load import load_text
from weft.api.schema import message_class, schema

BOOTSTRAP = """
node: {id: a, metadata: {n: 1, f: "1.5", l: [true, ~, {x: y}]}}
stats_flush_interval: 0.25s
stats_server_version_override: 18446744073709551615
watchdog: {multikill_threshold: {value: 12.5}, miss_timeout: 1.000001s, megamiss_timeout: 2s}
admin: {profile_path: /p, address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  clusters:
  - name: c
    type: strict_dns
    connect_timeout: 1.000000001s
    dns_jitter: 0s
    common_lb_config: {healthy_panic_threshold: {value: 50}}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          tls_certificates:
          - certificate_chain: {inline_string: public}
            private_key: {inline_string: confidential}
            password: {inline_bytes: Y29uZmlkZW50aWFs}
  secrets:
  - name: s
    generic_secret: {secret: {inline_string: confidential}}
"""


def test_the_same_as_protobufs_own_json():
    bootstrap = load_text(BOOTSTRAP).bootstrap

    due = json.loads(
        json_format.MessageToJson(bootstrap, preserving_proto_field_name=True, descriptor_pool=schema().pool)
    )
    assert to_dict(bootstrap, redact=False) == due


def test_secrets_are_hidden():
    dumped = to_dict(load_text(BOOTSTRAP).bootstrap)
    resources = dumped["static_resources"]
    (certificate,) = resources["clusters"][0]["transport_socket"]["typed_config"]["common_tls_context"][
        "tls_certificates"
    ]

    assert "confidential" not in json.dumps(dumped)
    assert certificate["certificate_chain"] == {"inline_string": "public"}
    assert certificate["private_key"] == {"inline_string": "[redacted]"}
    assert certificate["password"] == {"inline_bytes": base64.b64encode(b"[redacted]").decode()}
    assert resources["secrets"][0]["generic_secret"]["secret"] == {"inline_string": "[redacted]"}


def test_a_typed_struct_that_stands_for_secrets_is_hidden_whole():
    struct = message_class("xds.type.v3.TypedStruct")()
    struct.type_url = "x/envoy.extensions.transport_sockets.tls.v3.TlsCertificate"
    struct.value.update({"private_key": {"inline_string": "confidential"}, "n": 5})
    message = message_class("google.protobuf.Any")()
    message.Pack(struct)

    dumped = to_dict(
        message_class("envoy.config.core.v3.TypedExtensionConfig")(name="x", typed_config=message)
    )

    assert "confidential" not in json.dumps(dumped)


@pytest.mark.parametrize(
    ("type_url", "value", "due"),
    [
        ("", b"", {}),
        ("x/a.B", b"\x01", {"@type": "x/a.B", "value": "AQ=="}),
        ("x/google.protobuf.Duration", b"\xff", {"@type": "x/google.protobuf.Duration", "value": "/w=="}),
        ("x/google.protobuf.Duration", b"\x08\x01", {"@type": "x/google.protobuf.Duration", "value": "1s"}),
        ("x/google.protobuf.Empty", b"", {"@type": "x/google.protobuf.Empty"}),
        ("x/google.protobuf.StringValue", b"\n\x01a", {"@type": "x/google.protobuf.StringValue", "value": "a"}),
        ("x/google.protobuf.Timestamp", b"\x08\x01", {"@type": "x/google.protobuf.Timestamp", "value": "1970-01-01T00:00:01Z"}),
        ("x/google.protobuf.FieldMask", b"\n\x03a_b", {"@type": "x/google.protobuf.FieldMask", "value": "aB"}),
    ],
)  # fmt: skip
def test_an_any(type_url, value, due):
    message = message_class("envoy.config.core.v3.TypedExtensionConfig")(name="n")
    message.typed_config.type_url = type_url
    message.typed_config.value = value

    assert to_dict(message) == {"name": "n", "typed_config": due}


def test_unknown_enum_numbers_and_odd_floats():
    cluster = message_class("envoy.config.cluster.v3.Cluster")(lb_policy=99)
    percent = message_class("envoy.type.v3.Percent")

    assert to_dict(cluster) == {"lb_policy": 99}
    assert to_dict(percent(value=float("inf"))) == {"value": "Infinity"}
    assert to_dict(percent(value=float("nan"))) == {"value": "NaN"}
    assert to_dict(percent(value=1e300)) == {"value": 1e300}
