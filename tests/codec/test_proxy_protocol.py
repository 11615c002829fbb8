"""The PROXY protocol: what real Envoy takes and refuses, at any chunking."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.codec.errors import PeerError
from weft.codec.proxy_protocol import (
    MAX_V1,
    SIGNATURE_V2,
    format_v1,
    format_v2,
    parse,
    version_of,
)


def v2(command=0x21, family=0x11, addresses=None, tlvs=b"", length=None):
    if addresses is None:
        addresses = socket.inet_aton("1.2.3.4") + socket.inet_aton("5.6.7.8") + struct.pack("!HH", 11, 22)
    body = addresses + tlvs
    return (
        SIGNATURE_V2
        + bytes([command, family])
        + struct.pack("!H", len(body) if length is None else length)
        + body
    )


def tlv(kind, value):
    return bytes([kind]) + struct.pack("!H", len(value)) + value


def ends(source, destination):
    return socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!HH", 11, 22)


V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
V6 += struct.pack("!HH", 11, 22)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 11 22\r\n", ("1.2.3.4", 11, "5.6.7.8", 22), id="v1"),
        pytest.param(
            b"PROXY TCP6 2001:db8::1 2001:db8::2 11 22\r\n",
            ("2001:db8::1", 11, "2001:db8::2", 22),
            id="v1-v6",
        ),
        pytest.param(
            b"PROXY TCP6 2001:DB8:0::1 ::2 11 22\r\n", ("2001:db8::1", 11, "::2", 22), id="v1-v6-canonical"
        ),
        pytest.param(
            b"PROXY TCP6 ::ffff:1.2.3.4 ::2 11 22\r\n", ("::ffff:1.2.3.4", 11, "::2", 22), id="v1-mapped"
        ),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n", ("1.2.3.4", 0, "5.6.7.8", 0), id="v1-port-0"),
        pytest.param(
            b"PROXY TCP4 1.2.3.4 5.6.7.8 011 +22\r\n", ("1.2.3.4", 11, "5.6.7.8", 22), id="v1-odd-ports"
        ),
        pytest.param(
            b"PROXY TCP4 1.2.3.4 5.6.7.8 11 22 \r\n", ("1.2.3.4", 11, "5.6.7.8", 22), id="v1-space-at-the-end"
        ),
        pytest.param(v2(), ("1.2.3.4", 11, "5.6.7.8", 22), id="v2"),
        pytest.param(v2(family=0x12), ("1.2.3.4", 11, "5.6.7.8", 22), id="v2-datagram"),
        pytest.param(v2(family=0x21, addresses=V6), ("2001:db8::1", 11, "2001:db8::2", 22), id="v2-v6"),
    ],
)
def test_ends_are_told(data, told):
    header = parse(data + b"GET /")

    assert header is not None
    assert not header.command_local
    assert (header.source, header.source_port, header.destination, header.destination_port) == told
    assert header.length == len(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"PROXY UNKNOWN\r\n", id="v1-unknown"),
        pytest.param(b"PROXY UNKNOWN 1 2 3\r\n", id="v1-unknown-with-more"),
        pytest.param(b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 16) + b"\r\n", id="v1-longest"),
        pytest.param(v2(command=0x20), id="v2-local"),
        pytest.param(v2(command=0x20, family=0, addresses=b""), id="v2-local-without-address"),
        pytest.param(v2(command=0x20, family=0x21, addresses=b"xx"), id="v2-local-family-ignored"),
        pytest.param(v2(command=0x20, tlvs=b"\x01\xff\xff"), id="v2-local-tlvs-ignored"),
    ],
)
def test_local_connections_tell_nothing(data):
    header = parse(data)

    assert header is not None
    assert header.command_local
    assert header.length == len(data)
    assert header.tlvs == []


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n", "not_found", id="http"),
        pytest.param(b"proxy TCP4 1.2.3.4 5.6.7.8 11 22\r\n", "not_found", id="lower-case"),
        pytest.param(b"PROXY\tTCP4 1.2.3.4 5.6.7.8 11 22\r\n", "not_found", id="tab"),
        pytest.param(b"PROXYTCP4 1.2.3.4 5.6.7.8 11 22\r\n", "not_found", id="no-space"),
        pytest.param(b"PROXY UNKNOWNX\r\n", "v1_malformed", id="unknown-and-more"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 11 22\n", "v1_bare_lf", id="bare-lf"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 11 22 33\r\n", "v1_malformed", id="too-many-words"),
        pytest.param(b"PROXY TCP4  1.2.3.4 5.6.7.8 11 22\r\n", "v1_malformed", id="two-spaces"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 22\r\n", "bad_port", id="port-too-big"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 22\r\n", "bad_port", id="port-negative"),
        pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 1_1 22\r\n", "bad_port", id="port-underscore"),
        pytest.param("PROXY TCP4 1.2.3.4 5.6.7.8 ١١ 22\r\n".encode(), "bad_port", id="port-arabic-digits"),
        pytest.param(b"PROXY TCP4 2001:db8::1 2001:db8::2 11 22\r\n", "bad_address", id="tcp4-with-v6"),
        pytest.param(b"PROXY TCP6 1.2.3.4 5.6.7.8 11 22\r\n", "bad_address", id="tcp6-with-v4"),
        pytest.param(b"PROXY TCP4 1.2.3.4 2001:db8::2 11 22\r\n", "bad_address", id="mixed"),
        pytest.param(b"PROXY TCP4 1.2.3.04 5.6.7.8 11 22\r\n", "bad_address", id="octal"),
        pytest.param(b"PROXY TCP4 0.0.0.0 5.6.7.8 11 22\r\n", "bad_address", id="any"),
        pytest.param(b"PROXY TCP4 1.2.3.4 0.0.0.0 11 22\r\n", "bad_address", id="any-destination"),
        pytest.param(b"PROXY TCP4 224.0.0.1 5.6.7.8 11 22\r\n", "bad_address", id="multicast"),
        pytest.param(b"PROXY TCP4 255.255.255.255 5.6.7.8 11 22\r\n", "bad_address", id="broadcast"),
        pytest.param(b"PROXY TCP6 ff02::1 ::1 11 22\r\n", "bad_address", id="v6-multicast"),
        pytest.param(b"PROXY UDP4 1.2.3.4 5.6.7.8 11 22\r\n", "v1_unknown_family", id="udp"),
        pytest.param(b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 15) + b"\r\n", "v1_too_long", id="v1-too-long"),
        pytest.param(b"PROXY " + b"x" * 200, "v1_too_long", id="v1-endless"),
        pytest.param(v2(command=0x22), "v2_bad_command", id="command-2"),
        pytest.param(v2(command=0x11), "v2_bad_version", id="version-1"),
        pytest.param(v2(command=0x31), "v2_bad_version", id="version-3"),
        pytest.param(v2(family=0x10), "v2_unknown_transport", id="transport-unspecified"),
        pytest.param(v2(family=0x01, addresses=b""), "v2_unknown_family", id="family-unspecified"),
        pytest.param(v2(family=0x31, addresses=b"x" * 216), "v2_unknown_family", id="unix"),
        pytest.param(v2(family=0x41), "v2_unknown_family", id="family-4"),
        pytest.param(v2(addresses=b"x" * 8), "v2_too_short", id="addresses-cut-off"),
        pytest.param(v2(family=0x21, addresses=b"x" * 12), "v2_too_short", id="v6-cut-off"),
        pytest.param(v2(addresses=ends("0.0.0.0", "5.6.7.8")), "bad_address", id="v2-any"),
        pytest.param(v2(addresses=ends("224.1.1.1", "5.6.7.8")), "bad_address", id="v2-multicast"),
        pytest.param(v2(tlvs=b"\x01\x00\x20abc"), "v2_bad_tlv", id="tlv-overrun"),
        pytest.param(v2(tlvs=b"\x01"), "v2_bad_tlv", id="tlv-1-byte"),
        pytest.param(v2(tlvs=b"\x01\x00"), "v2_bad_tlv", id="tlv-2-bytes"),
        pytest.param(v2(tlvs=tlv(1, b"ok") + b"\x02\x00\x20abc"), "v2_bad_tlv", id="second-tlv-overrun"),
    ],
)
def test_wrong_headers_are_refused(data, kind):
    with pytest.raises(PeerError) as refused:
        # Client bytes follow: a TLV that reaches into them must not be read from them.
        parse(data + b"x" * 64)

    assert refused.value.kind == f"proxy_protocol_{kind}"


def test_tlvs_are_kept_in_order():
    header = parse(v2(tlvs=tlv(1, b"one") + tlv(2, b"") + tlv(1, b"\xff")) + b"\x04\x00\x00")

    assert header is not None
    assert header.tlvs == [(1, b"one"), (2, b""), (1, b"\xff")]


addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
).filter(
    lambda pair: not any(ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255" for ip in pair)
)
ports = st.integers(0, 65535)


@given(
    addresses,
    ports,
    ports,
    st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=5),
    st.booleans(),
)
def test_what_is_written_is_read_at_any_chunking(pair, source_port, destination_port, tlvs, old):
    family = socket.AF_INET if pair[0].version == 4 else socket.AF_INET6
    source, destination = (socket.inet_ntop(family, ip.packed) for ip in pair)
    if old:
        tlvs = []
        data = format_v1(source, source_port, destination, destination_port)
    else:
        data = format_v2(source, source_port, destination, destination_port, tlvs)

    # The parser is given everything so far; every proper prefix must ask for more.
    for cut in {0, 1, 5, 6, 11, 12, 13, 15, 16, 27, 28, len(data) - 1}:
        if cut < len(data):
            assert parse(data[:cut]) is None
    header = parse(data + b"rest")
    assert header is not None
    assert header.length == len(data)
    assert (header.source, header.source_port) == (source, source_port)
    assert (header.destination, header.destination_port) == (destination, destination_port)
    assert header.tlvs == tlvs


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=80).map(lambda rest: SIGNATURE_V2 + rest),
                 st.binary(max_size=120).map(lambda rest: b"PROXY " + rest),
                 st.binary(max_size=120).map(lambda rest: v2(tlvs=rest))))  # fmt: skip
def test_anything_gives_a_header_a_refusal_or_asks_for_more(data):
    kind, header = "", None
    try:
        header = parse(data)
    except PeerError as error:
        kind = error.kind
    assert not kind or kind.startswith("proxy_protocol_")
    assert header is None or 0 < header.length <= len(data)
    assert (version_of(data) == 0) == (kind == "proxy_protocol_not_found")


def test_a_peer_that_sends_byte_by_byte_costs_little():
    data = v2(tlvs=tlv(9, b"z" * 60000))

    asked = [parse(data[:cut]) for cut in range(0, len(data), 7)]

    assert not any(asked)
    assert parse(data) is not None
