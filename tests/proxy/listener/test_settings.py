"""Listener configurations: what Envoy takes, what it refuses, what Weft does not know yet."""

import json

import pytest

from weft.api.load import load_bootstrap
from weft.api.problems import ConfigError, Problems, Where
from weft.proxy.assemble import server_settings
from weft.proxy.listener.filter_chain_match import ChainMatch
from weft.proxy.listener.settings import check_addresses

TYPES = "type.googleapis.com/envoy.extensions."


def typed(type, **fields):
    return {"name": type.split(".")[2], "typed_config": {"@type": TYPES + type, **fields}}


ECHO = typed("filters.network.echo.v3.Echo")
LIMIT = typed("filters.network.connection_limit.v3.ConnectionLimit", stat_prefix="s", max_connections=1)
INSPECTOR = typed("filters.listener.http_inspector.v3.HttpInspector")


def tcp(**fields):
    return typed("filters.network.tcp_proxy.v3.TcpProxy", **{"stat_prefix": "s", "cluster": "c", **fields})


def rate(**bucket):
    return typed("filters.network.local_ratelimit.v3.LocalRateLimit", stat_prefix="s", token_bucket=bucket)


def response(**source):
    return typed("filters.network.direct_response.v3.Config", response=source)


def proxy_protocol(**fields):
    return typed("filters.listener.proxy_protocol.v3.ProxyProtocol", **fields)


def at(ip="127.0.0.1", port=0, **fields):
    return {"socket_address": {"address": ip, "port_value": port, **fields}}


def pipe(path, **fields):
    return {"pipe": {"path": path, **fields}}


def chain(*filters, **match):
    made = {"filters": list(filters) or [ECHO]}
    return {**made, "filter_chain_match": match} if match else made


def listener(**fields):
    made = {"name": "l", "address": at(), "filter_chains": [chain()], **fields}
    return {name: value for name, value in made.items() if value is not None}


def chains(*chains):
    return listener(filter_chains=list(chains))


def filters(*filters):
    return chains(chain(*filters))


def cidr(prefix, length=None):
    return {"address_prefix": prefix, **({} if length is None else {"prefix_len": length})}


def settings_of(*listeners):
    loaded = load_bootstrap(None, json.dumps({"static_resources": {"listeners": list(listeners)}}))
    settings = server_settings(loaded.bootstrap, loaded.problems.where)
    loaded.problems.raise_if_any()
    return settings.listeners


TAKEN = {
    "default-chain-only": listener(filter_chains=None, default_filter_chain=chain()),
    "no-filters": chains({"filters": []}),
    "same-chain-names": chains({**chain(destination_port=80), "name": "a"}, {**chain(destination_port=81), "name": "a"}),
    "cidr-without-length": chains(chain(prefix_ranges=[cidr("10.0.0.0")])),
    "cidr-too-long-for-v4": chains(chain(prefix_ranges=[cidr("10.0.0.0", 64)])),
    "cidr-all-and-none": chains(chain(prefix_ranges=[cidr("0.0.0.0", 0)]), chain()),
    "wildcard-name": chains(chain(server_names=["*.com", ".net", ""])),
    "unknown-transport-protocol": chains(chain(transport_protocol="zork"), chain()),
    "source-types": chains(*(chain(source_type=kind) for kind in ("ANY", "SAME_IP_OR_LOOPBACK", "EXTERNAL"))),
    "filter-then-terminal": filters(LIMIT, ECHO),
    "v6": listener(address=at("::1")),
    "v6-mapped": listener(address=at("::ffff:127.0.0.1", ipv4_compat=True)),
    "v6-zone": listener(address=at("fe80::1%lo")),
    "dual": listener(address=at("::", ipv4_compat=True)),
    "pipe": listener(address=pipe("/run/x", mode=0o600)),
    "abstract": listener(address=pipe("@x")),
    "raw-buffer": chains({**chain(), "transport_socket": typed("transport_sockets.raw_buffer.v3.RawBuffer")}),
    "handshake-timeout": chains({**chain(), "transport_socket_connect_timeout": "1s"}),
    "proxy-protocol": listener(listener_filters=[proxy_protocol(rules=[{"tlv_type": 1, "on_tlv_present": {"key": "a"}}])]),
    "disabled": listener(listener_filters=[{**INSPECTOR, "filter_disabled": {"any_match": True}}]),
    "exact-balance": listener(connection_balance_config={"exact_balance": {}}),
    "mptcp": listener(enable_mptcp=True),
    "more-addresses": listener(additional_addresses=[{"address": at("127.0.0.2")}, {"address": pipe("/run/x")}]),
    "tokens": filters(rate(max_tokens=1, fill_interval="0.05s"), ECHO),
    "tcp-idle-off": filters(tcp(idle_timeout="0s")),
    "tcp-hash": filters(tcp(hash_policy=[{"source_ip": {}}], metadata_match={"filter_metadata": {"envoy.lb": {"a": "b"}}})),
    "tcp-waits": filters(tcp(upstream_connect_mode="ON_DOWNSTREAM_DATA", max_early_data_bytes=10)),
    "tcp-backoff": filters(tcp(backoff_options={"base_interval": "1s"})),
    "response": filters(response(inline_string="")),
    "unused-fields": listener(tcp_backlog_size=0, max_connections_to_accept_per_socket_event=3, bypass_overload_manager=True),
}  # fmt: skip


@pytest.mark.parametrize("message", TAKEN.values(), ids=TAKEN)
def test_taken(message):
    (settings,) = settings_of(message)

    assert settings.name == "l"


REFUSED = {
    "no-chains": (listener(filter_chains=None), "no filter chains specified"),
    "same-match": (chains(chain(), chain()), "has the same matching rules"),
    "same-port": (chains(chain(destination_port=80), chain(destination_port=80)), "has the same matching rules"),
    "overlapping-names": (chains(chain(server_names=["a", "b"]), chain(server_names=["B"])), "overlapping matching rules"),
    "overlapping-ports": (chains(chain(source_ports=[1, 1])), "overlapping matching rules"),
    "equal-networks": (
        chains(chain(prefix_ranges=[cidr("10.1.0.0", 8)]), chain(prefix_ranges=[cidr("10.2.0.0", 8)])), "same matching rules",
    ),
    "bad-cidr": (chains(chain(prefix_ranges=[cidr("10.0.0.300", 8)])), "malformed IP address: 10.0.0.300"),
    "bad-source-cidr": (chains(chain(source_prefix_ranges=[cidr("x", 8)])), "malformed IP address: x"),
    "address-suffix": (chains(chain(address_suffix="x")), "not implemented"),
    "partial-wildcard": (chains(chain(server_names=["a*.com"])), "partial wildcards"),
    "star-alone": (chains(chain(server_names=["*"])), "partial wildcards"),
    "no-terminal": (filters(LIMIT), "is the last filter in a network filter chain"),
    "no-terminal-in-default": (listener(default_filter_chain=chain(LIMIT)), "is the last filter in a network filter chain"),
    "terminal-first": (filters(ECHO, tcp()), "must be the last filter"),
    "no-address": (listener(address=None), "address is necessary"),
    "host-name": (listener(address=at("localhost")), "malformed IP address: localhost"),
    "octal": (listener(address=at("127.0.0.01")), "malformed IP address"),
    "named-port": (listener(address={"socket_address": {"address": "1.2.3.4", "named_port": "http"}}), "numeric port"),
    "resolver": (listener(address=at(resolver_name="x")), "unknown address resolver: 'x'"),
    "compat-v4": (listener(address=at("0.0.0.0", ipv4_compat=True)), "ipv4_compat"),
    "compat-v6": (listener(address=at("::1", ipv4_compat=True)), "ipv4_compat"),
    "abstract-mode": (listener(address=pipe("@x", mode=0o600)), "cannot set mode"),
    "long-path": (listener(address=pipe("/" + "x" * 108)), "maximum Unix socket path"),
    "nul-path": (listener(address=pipe("/tmp/\0x")), "NUL"),
    "internal-address": (listener(address={"envoy_internal_address": {"server_listener_name": "x"}}), "internal_listener"),
    "mptcp-pipe": (listener(address=pipe("/run/x"), enable_mptcp=True), "only be used with IP"),
    "negative-timeout": (listener(listener_filters_timeout="-1s"), "must not be negative"),
    "option-without-value": (listener(socket_options=[{"level": 1, "name": 2}]), "int_value or buf_value"),
    "fast-bucket": (filters(rate(max_tokens=1, fill_interval="0.01s"), ECHO), ">= 50ms"),
    "limit-without-limit": (filters(typed("filters.network.connection_limit.v3.ConnectionLimit", stat_prefix="s"), ECHO), "max_connections"),
    "no-such-file": (filters(response(filename="/nonexistent")), "cannot read '/nonexistent'"),
    "no-such-variable": (filters(response(environment_variable="WEFT_NO_SUCH")), "WEFT_NO_SUCH"),
    "all-versions": (listener(listener_filters=[proxy_protocol(disallowed_versions=["V1", "V2"])]), "all PROXY protocol versions"),
    "tcp-early-data": (filters(tcp(upstream_connect_mode="ON_DOWNSTREAM_DATA")), "max_early_data_bytes must be set"),
    "tcp-backoff": (filters(tcp(backoff_options={"base_interval": "1s", "max_interval": "0.5s"})), "greater than or equal"),
    "tcp-log-twice": (filters(tcp(flush_access_log_on_connected=True, access_log_options={})), "only one of"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "text"), REFUSED.values(), ids=REFUSED)
def test_refused_as_by_envoy(message, text):
    with pytest.raises(ConfigError) as refused:
        settings_of(message)

    assert text in str(refused.value)
    assert refused.value.problems[0].path.startswith("static_resources.listeners[0]")


UNSUPPORTED = {
    "udp": (listener(address=at(protocol="UDP"), filter_chains=None, udp_listener_config={}), "UDP listeners"),
    "internal": (listener(address=None, internal_listener={}), "internal listeners"),
    "namespace": (listener(address=at(network_namespace_filepath="/x")), "network namespace"),
    "tls": (chains({**chain(), "transport_socket": typed("transport_sockets.tls.v3.DownstreamTlsContext")}), "DownstreamTlsContext"),
    "tunnel": (filters(tcp(tunneling_config={"hostname": "x"})), "tunneling"),
    "on-demand": (filters(tcp(on_demand={})), "on demand"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "text"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_is_not_there_yet_is_named(message, text):
    with pytest.raises(ConfigError) as refused:
        settings_of(message)

    assert "not supported" in str(refused.value)
    assert text in str(refused.value)


def test_every_problem_is_reported_at_once():
    with pytest.raises(ConfigError) as refused:
        settings_of(
            chains(
                chain(LIMIT, prefix_ranges=[cidr("x")]), chain(ECHO, tcp(tunneling_config={"hostname": "h"}))
            )
        )

    assert [
        problem.path.removeprefix("static_resources.listeners[0].filter_chains")
        for problem in refused.value.problems
    ] == [
        "[0].filters[0]",
        "[0].filter_chain_match.prefix_ranges[0]",
        "[1].filters[0]",
        "[1].filters[1].typed_config.tunneling_config",
    ]


def test_values_and_defaults():
    (plain,) = settings_of(listener())
    assert (plain.buffer_limit, plain.filters_timeout, plain.reuse_port, plain.bind_to_port) == (
        1 << 20,
        15.0,
        True,
        True,
    )
    assert plain.filter_chains[0].match == ChainMatch()

    (full,) = settings_of(
        listener(
            address=pipe("/run/x", mode=0o600), per_connection_buffer_limit_bytes=7, listener_filters_timeout="3s",
            use_original_dst=True, deprecated_v1={"bind_to_port": False}, traffic_direction="OUTBOUND",
            filter_chains=[{**chain(prefix_ranges=[cidr("10.9.9.9", 8)], server_names=["*.A.com"]), "use_proxy_proto": True}],
            listener_filters=[INSPECTOR], metadata={"filter_metadata": {"n": {"k": 1}}},
            socket_options=[{"level": 1, "name": 2, "int_value": 3, "state": "STATE_BOUND"}],
        )
    )  # fmt: skip
    assert (full.buffer_limit, full.filters_timeout, full.reuse_port, full.bind_to_port) == (
        7,
        3.0,
        False,
        False,
    )
    assert (full.address.mode, full.traffic_direction, full.metadata) == (
        0o600,
        "OUTBOUND",
        {"n": {"k": 1.0}},
    )
    assert full.filter_chains[0].match == ChainMatch(prefixes=("10.0.0.0/8",), server_names=(".a.com",))
    assert [item.kind.name.rpartition(".")[2] for item in full.listener_filters] == [
        "http_inspector",
        "original_dst",
        "proxy_protocol",
    ]
    assert (full.socket_options[0].value, full.socket_options[0].state) == (3, 1)


def test_what_has_changed():
    (old,) = settings_of(listener())
    (same,) = settings_of(listener())
    (other_chain,) = settings_of(listener(filter_chains=[chain(response(inline_string="x"))]))
    (other_frame,) = settings_of(listener(tcp_backlog_size=3))
    assert old == same
    assert old.message_bytes == same.message_bytes
    assert old.changed_only_in_chains(other_chain)
    assert not old.changed_only_in_chains(other_frame)


def test_a_listener_without_name_has_a_stable_one():
    (one,), (same,), (other,) = (
        settings_of(listener(name=None, address=at(port=port))) for port in (1, 1, 2)
    )
    assert one.name == same.name != other.name


@pytest.mark.parametrize(
    ("one", "other", "free"),
    [
        pytest.param(at(port=80), at(port=80), False, id="same"),
        pytest.param(at(port=0), at(port=0), True, id="any-port"),
        pytest.param(at("0.0.0.0", 80), at(port=80), True, id="wildcard-and-one"),
        pytest.param(at("::1", 80), at("0:0::1", 80), False, id="spelled-differently"),
        pytest.param(at("::", 80), at("::", 80, ipv4_compat=True), False, id="dual"),
        pytest.param(pipe("/run/x"), pipe("/run/x", mode=0o600), False, id="pipe"),
    ],
)
def test_an_address_belongs_to_one_listener(one, other, free):
    made = [
        settings_of(listener(name=name, address=address))[0] for name, address in (("a", one), ("b", other))
    ]
    problems = Problems()

    check_addresses(made, [Where("a", problems), Where("b", problems)])

    assert (problems.items == []) == free
    assert all(problem.path == "b" and "duplicate address" in problem.text for problem in problems.items)
