"""Filter-chain matching: Envoy's order, and a naive reference."""

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from weft.proxy.address import Address
from weft.proxy.listener.filter_chain_match import (
    ANY_SOURCE,
    EXTERNAL,
    SAME_IP_OR_LOOPBACK,
    ChainMatch,
    FilterChainMatcher,
    overlap,
)
from weft.proxy.observe.stream_info import ConnectionInfo


def connection(local="10.0.0.1:80", remote="192.0.2.7:5000", direct=None, sni="", transport="", alpn=()):
    def address(text):
        if text.startswith("/"):
            return Address(path=text)
        host, _, port = text.rpartition(":")
        return Address(host.strip("[]"), int(port))

    info = ConnectionInfo(1, 0.0, address(remote), address(local))
    info.direct_remote = address(direct or remote)
    info.server_name = sni
    info.transport_protocol = transport
    info.application_protocols = list(alpn)
    return info


PORT_80 = ChainMatch(destination_port=80)
TEN = ChainMatch(prefixes=("10.0.0.0/8",))


@pytest.mark.parametrize(
    ("matches", "info", "chain"),
    [
        pytest.param([ChainMatch()], connection(), 0, id="no-criteria"),
        pytest.param([PORT_80], connection(local="10.0.0.1:81"), -1, id="port-differs"),
        pytest.param([ChainMatch(), PORT_80], connection(), 1, id="port-before-no-port"),
        pytest.param(
            [ChainMatch(), ChainMatch(destination_port=80, prefixes=("11.0.0.0/8",))],
            connection(), -1, id="no-way-back-from-a-port",
        ),
        pytest.param(
            [TEN, ChainMatch(prefixes=("10.0.0.0/24",)), ChainMatch(prefixes=("0.0.0.0/0",)), ChainMatch()],
            connection(), 1, id="longest-prefix",
        ),
        pytest.param([ChainMatch(prefixes=("0.0.0.0/0",))], connection(local="[2001:db8::1]:80"), -1, id="v4-all-is-not-v6"),
        pytest.param([ChainMatch()], connection(local="[2001:db8::1]:80"), 0, id="no-prefix-takes-v6"),
        pytest.param([ChainMatch(prefixes=("2001:db8::/32",))], connection(local="[2001:db8::1]:80"), 0, id="v6-prefix"),
        pytest.param(
            [TEN, ChainMatch(prefixes=("10.0.0.0/24",), server_names=("a.com",))],
            connection(), -1, id="no-way-back-from-a-prefix",
        ),
        pytest.param(
            [ChainMatch(server_names=("www.a.com",)), ChainMatch(server_names=(".a.com",)), ChainMatch(server_names=(".com",)), ChainMatch()],
            connection(sni="www.a.com"), 0, id="exact-name",
        ),
        pytest.param(
            [ChainMatch(server_names=(".a.com",)), ChainMatch(server_names=(".com",)), ChainMatch()],
            connection(sni="x.y.a.com"), 0, id="longest-wildcard",
        ),
        pytest.param([ChainMatch(server_names=(".a.com",)), ChainMatch()], connection(sni="a.com"), 1, id="wildcard-needs-a-label"),
        pytest.param([ChainMatch(server_names=("a.com",))], connection(), -1, id="no-name"),
        pytest.param([ChainMatch(transport_protocol="raw_buffer"), ChainMatch()], connection(), 0, id="raw-buffer-is-the-default"),
        pytest.param([ChainMatch(transport_protocol="tls"), ChainMatch()], connection(), 1, id="not-tls"),
        pytest.param([ChainMatch(transport_protocol="tls"), ChainMatch()], connection(transport="tls"), 0, id="tls"),
        pytest.param(
            [ChainMatch(application_protocols=("h2c",)), ChainMatch(application_protocols=("http/1.1",)), ChainMatch()],
            connection(alpn=("http/1.1", "h2c")), 1, id="first-protocol-of-the-client",
        ),
        pytest.param(
            [ChainMatch(direct_source_prefixes=("192.0.2.0/24",)), ChainMatch()],
            connection(remote="1.1.1.1:1", direct="192.0.2.9:1"), 0, id="directly-connected",
        ),
        pytest.param(
            [ChainMatch(source_type=SAME_IP_OR_LOOPBACK), ChainMatch(source_type=EXTERNAL), ChainMatch()],
            connection(remote="127.0.0.1:9"), 0, id="loopback",
        ),
        pytest.param(
            [ChainMatch(source_type=SAME_IP_OR_LOOPBACK), ChainMatch(source_type=EXTERNAL), ChainMatch()],
            connection(remote="10.0.0.1:9"), 0, id="same-address",
        ),
        pytest.param(
            [ChainMatch(source_type=SAME_IP_OR_LOOPBACK), ChainMatch(source_type=EXTERNAL), ChainMatch()],
            connection(), 1, id="external",
        ),
        pytest.param([ChainMatch(source_type=SAME_IP_OR_LOOPBACK), ChainMatch()], connection(), 1, id="any-type"),
        pytest.param(
            [ChainMatch(source_prefixes=("192.0.2.0/24",)), ChainMatch(source_prefixes=("192.0.2.7/32",)), ChainMatch()],
            connection(), 1, id="source-prefix",
        ),
        pytest.param([ChainMatch(source_ports=(1, 5000)), ChainMatch()], connection(), 0, id="source-port"),
        pytest.param([ChainMatch(source_ports=(1,)), ChainMatch()], connection(), 1, id="no-source-port"),
        pytest.param(
            [ChainMatch(source_prefixes=("192.0.2.0/24",), source_ports=(1,)), ChainMatch()],
            connection(), -1, id="no-way-back-from-a-source",
        ),
        pytest.param([ChainMatch(), PORT_80], connection(local="/run/x", remote="/"), 0, id="unix-has-no-port"),
        pytest.param([TEN, ChainMatch()], connection(local="/run/x", remote="/"), 1, id="unix-has-no-ip"),
        pytest.param([ChainMatch(source_type=SAME_IP_OR_LOOPBACK), ChainMatch()], connection(local="/run/x", remote="/"), 0, id="unix-is-local"),
    ],
)  # fmt: skip
def test_the_chain_of_a_connection(matches, info, chain):
    assert FilterChainMatcher(tuple(matches)).find(info) == chain


@pytest.mark.parametrize(
    ("one", "other", "ambiguous"),
    [
        pytest.param(ChainMatch(), ChainMatch(), True, id="equal"),
        pytest.param(
            ChainMatch(server_names=("a", "b")), ChainMatch(server_names=("b", "c")), True, id="one-in-common"
        ),
        pytest.param(
            ChainMatch(prefixes=("0.0.0.0/0",)), ChainMatch(), False, id="written-and-implied-prefix"
        ),
        pytest.param(ChainMatch(source_ports=(1,)), ChainMatch(source_ports=(2,)), False, id="different"),
        pytest.param(
            ChainMatch(prefixes=("10.0.0.0/8",)), ChainMatch(prefixes=("10.0.0.0/9",)), False, id="nested"
        ),
    ],
)
def test_overlap(one, other, ambiguous):
    assert (overlap((one, other)) is not None) == ambiguous


def test_a_chain_may_overlap_itself():
    assert overlap((ChainMatch(source_ports=(7, 7)),)) == (0, 0)


# -- a reference: at each level keep the chains with the best entry ---------------------------------


def longest(prefixes, ip):
    """Length of the longest prefix that has ``ip``; -1 for none, -0.5 when there are no prefixes."""
    if not prefixes:
        return -0.5
    if not ip:
        ip = "255.255.255.255"
    address = ipaddress.ip_address(ip)
    fits = [ipaddress.ip_network(p).prefixlen for p in prefixes if address in ipaddress.ip_network(p)]
    return max(fits, default=-1)


def name_rank(names, sni):
    if not names:
        return 0
    if sni and sni in names:
        return 1000
    return max(
        [len(name) for name in names if name.startswith(".") and sni.endswith(name) and sni != name],
        default=-1,
    )


def reference(matches, info):
    alive = dict(enumerate(matches))

    def keep(rank, none=-1):
        nonlocal alive
        ranks = {i: rank(match) for i, match in alive.items()}
        best = max(ranks.values(), default=none)
        alive = {} if best == none else {i: match for i, match in alive.items() if ranks[i] == best}

    keep(
        lambda m: (
            1
            if info.local.ip and m.destination_port == info.local.port
            else 0
            if not m.destination_port
            else -1
        )
    )
    keep(lambda m: longest(m.prefixes, info.local.ip))
    keep(lambda m: name_rank(m.server_names, info.server_name))
    transport = info.transport_protocol or "raw_buffer"
    keep(lambda m: 1 if m.transport_protocol == transport else 0 if not m.transport_protocol else -1)
    offered = info.application_protocols
    keep(
        lambda m: (
            0
            if not m.application_protocols
            else max(
                [len(offered) - offered.index(p) for p in m.application_protocols if p in offered], default=-1
            )
        )
    )
    keep(lambda m: longest(m.direct_source_prefixes, info.direct_remote.ip))
    ip = info.remote.ip
    local = not ip or ip.startswith("127.") or ip == info.local.ip
    mine = SAME_IP_OR_LOOPBACK if local else EXTERNAL
    keep(lambda m: 1 if m.source_type == mine else 0 if m.source_type == ANY_SOURCE else -1)
    keep(lambda m: longest(m.source_prefixes, ip))
    keep(lambda m: 1 if info.remote.port in m.source_ports else 0 if not m.source_ports else -1)
    return min(alive, default=-1)


few = lambda *values: st.lists(st.sampled_from(values), unique=True, max_size=2).map(tuple)  # noqa: E731
prefixes = few("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "127.0.0.0/8", "192.168.0.0/16", "2001:db8::/32")
matches = st.builds(
    ChainMatch,
    destination_port=st.sampled_from((0, 0, 80, 443)),
    prefixes=prefixes,
    server_names=few("a.com", ".a.com", ".com", "b.a.com"),
    transport_protocol=st.sampled_from(("", "", "raw_buffer", "tls")),
    application_protocols=few("h2c", "http/1.1"),
    direct_source_prefixes=prefixes,
    source_type=st.sampled_from((ANY_SOURCE, ANY_SOURCE, SAME_IP_OR_LOOPBACK, EXTERNAL)),
    source_prefixes=prefixes,
    source_ports=few(1, 2),
)
ips = st.sampled_from(("10.1.2.3", "10.1.9.9", "10.9.9.9", "127.0.0.1", "192.168.1.1", "8.8.8.8"))


@st.composite
def infos(draw):
    at = lambda port: f"{draw(ips)}:{port}"  # noqa: E731
    return connection(
        local=at(draw(st.sampled_from((80, 443, 9)))),
        remote=at(draw(st.sampled_from((1, 2, 3)))),
        direct=at(1),
        sni=draw(st.sampled_from(("", "a.com", "b.a.com", "c.b.a.com", "com", "x.com"))),
        transport=draw(st.sampled_from(("", "tls", "raw_buffer"))),
        alpn=draw(st.lists(st.sampled_from(("h2c", "http/1.1", "foo")), unique=True, max_size=2)),
    )


@given(st.lists(matches, min_size=1, max_size=6).map(tuple), st.lists(infos(), min_size=1, max_size=4))
def test_the_compiled_matcher_is_the_reference(chains, connections):
    assume(overlap(chains) is None)
    matcher = FilterChainMatcher(chains)
    for info in connections:
        assert matcher.find(info) == reference(chains, info)
