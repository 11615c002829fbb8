"""From the message to settings, and what is refused.  The verdicts are those of Envoy 1.40 where it has one."""

import pytest

from weft.proxy.address import Address
from weft.proxy.upstream.bind import BindSettings, KeepaliveSettings, SocketOptionSettings
from weft.proxy.upstream.discovery import ClusterType, DnsSettings, Family
from weft.proxy.upstream.http_options import HttpSettings
from weft.proxy.upstream.limits import RetryBudget, Thresholds
from weft.proxy.upstream.policy import Algorithm, HashFunction, PolicySettings

HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
DNS_CLUSTER = "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster"
POLICIES = "type.googleapis.com/envoy.extensions.load_balancing_policies."


def http(**fields):
    return {"typed_extension_protocol_options": {HTTP: {"@type": "type.googleapis.com/" + HTTP, **fields}}}


def http1(**options):
    return {"http_protocol_options": options}


def policies(*entries):
    return {
        "load_balancing_policy": {
            "policies": [
                {
                    "typed_extension_config": {
                        "name": name,
                        "typed_config": {"@type": POLICIES + type, **fields},
                    }
                }
                for name, type, fields in entries
            ]
        }
    }


ROUND_ROBIN = ("rr", "round_robin.v3.RoundRobin", {})
MAGLEV = ("maglev", "maglev.v3.Maglev", {"table_size": 101})
SUBSET = ("subset", "subset.v3.Subset", {"subset_selectors": [{"keys": ["a"]}]})


def custom(name, **typed):
    return {
        "cluster_type": {"name": name, **({"typed_config": {"@type": DNS_CLUSTER, **typed}} if typed else {})}
    }


def test_defaults_are_envoys(kit):
    made = kit.settings(name="web")

    assert made.http == HttpSettings()
    assert (made.idle_timeout, made.max_headers_count, made.max_response_headers_kb) == (3600.0, 100, 60)
    assert (made.max_requests_per_connection, made.max_connection_duration) == (0, 0.0)
    assert made.per_connection_buffer_limit == 1048576
    assert made.policy == PolicySettings()
    assert made.policy.panic_threshold == 50.0
    assert made.thresholds == (Thresholds(), Thresholds())
    assert made.type is ClusterType.STATIC
    assert made.assignment.overprovisioning == 140
    assert (made.bind, made.keepalive, made.wait_for_warm) == (None, None, True)
    fields = kit.fields()
    del fields["connect_timeout"]
    assert kit.parse(fields)[0].connect_timeout == 5.0


def test_the_same_message_has_the_same_bytes(kit):
    one, two = kit.settings(kit.locality("10.0.0.1")), kit.settings(kit.locality("10.0.0.1"))

    assert one == two
    assert one.message_bytes == two.message_bytes != kit.settings().message_bytes


@pytest.mark.parametrize(
    ("fields", "name", "prefix"),
    [
        ({}, "web", "cluster.web."),
        ({"name": "a:b"}, "a:b", "cluster.a_b."),
        ({"alt_stat_name": "other:x"}, "other:x", "cluster.other_x."),
    ],
)
def test_names_in_stats(kit, fields, name, prefix):
    made = kit.settings(**fields)

    assert (made.observability_name, made.stat_prefix) == (name, prefix)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {"max_requests_per_connection": 7},
            HttpSettings(max_requests_per_connection=7),
            id="on-the-cluster",
        ),
        pytest.param(
            {"common_http_protocol_options": {"idle_timeout": "0s", "max_headers_count": 5}},
            HttpSettings(idle_timeout=0.0, max_headers_count=5),
            id="deprecated-common-options",
        ),
        pytest.param(
            http(
                explicit_http_config=http1(enable_trailers=True, allow_chunked_length=True),
                common_http_protocol_options={
                    "idle_timeout": "1.5s",
                    "max_connection_duration": "9s",
                    "max_stream_duration": "0s",
                    "max_headers_count": 50,
                    "max_response_headers_kb": 90,
                    "max_requests_per_connection": 3,
                    "headers_with_underscores_action": "DROP_HEADER",
                },
            ),
            HttpSettings(
                idle_timeout=1.5,
                max_connection_duration=9.0,
                max_headers_count=50,
                max_response_headers_kb=90,
                max_requests_per_connection=3,
                enable_trailers=True,
                allow_chunked_length=True,
            ),
            id="all-of-it",
        ),
        pytest.param(
            http(use_downstream_protocol_config=http1(enable_trailers=True)),
            HttpSettings(enable_trailers=True),
            id="as-downstream",
        ),
        pytest.param(
            {**http(explicit_http_config=http1()), "common_http_protocol_options": {"idle_timeout": "1s"}},
            HttpSettings(),
            id="the-extension-hides-deprecated-fields",
        ),
    ],
)
def test_http_options(kit, fields, expected):
    assert kit.settings(**fields).http == expected


def test_the_codec_gets_its_limits(kit):
    options = {"max_response_headers_kb": 8, "max_headers_count": 9}
    made = kit.settings(
        **http(explicit_http_config=http1(enable_trailers=True), common_http_protocol_options=options)
    )

    assert (made.http1_options.max_head, made.http1_options.max_fields, made.http1_options.keep_trailers) == (
        8192,
        9,
        True,
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"lb_policy": "RANDOM"}, PolicySettings(algorithm=Algorithm.RANDOM), id="random"),
        pytest.param(
            {
                "lb_policy": "LEAST_REQUEST",
                "least_request_lb_config": {
                    "choice_count": 5,
                    "active_request_bias": {"default_value": 0.5, "runtime_key": "bias"},
                },
            },
            PolicySettings(algorithm=Algorithm.LEAST_REQUEST, choice_count=5, bias=0.5, bias_key="bias"),
            id="least-request",
        ),
        pytest.param(
            {"lb_policy": "ROUND_ROBIN", "least_request_lb_config": {"choice_count": 5}},
            PolicySettings(),
            id="parameters-of-another-policy",
        ),
        pytest.param(policies(ROUND_ROBIN, MAGLEV), PolicySettings(), id="the-first-of-the-list"),
        pytest.param(
            policies(MAGLEV, ROUND_ROBIN),
            PolicySettings(algorithm=Algorithm.MAGLEV, table_size=101),
            id="maglev-in-the-list",
        ),
        pytest.param(
            {
                "lb_policy": "RING_HASH",
                "ring_hash_lb_config": {"hash_function": "MURMUR_HASH_2", "minimum_ring_size": 7, "maximum_ring_size": 9},
                "common_lb_config": {
                    "locality_weighted_lb_config": {},
                    "consistent_hashing_lb_config": {"hash_balance_factor": 120},
                },
            },
            PolicySettings(
                algorithm=Algorithm.RING_HASH,
                hash_function=HashFunction.MURMUR_HASH_2,
                minimum_ring_size=7,
                maximum_ring_size=9,
                hash_balance_factor=120,
                locality_weighted=True,
            ),
            id="ring-hash",
        ),
        pytest.param(
            {"lb_policy": "RING_HASH", **policies(ROUND_ROBIN)},
            PolicySettings(),
            id="the-list-hides-lb_policy",
        ),
        pytest.param(
            policies(("x", "subset.v3.NotThere", {}), ROUND_ROBIN),
            PolicySettings(),
            id="unknown-ones-are-passed-over",
        ),
        pytest.param(
            policies(("lr", "least_request.v3.LeastRequest", {"selection_method": "FULL_SCAN"})),
            PolicySettings(algorithm=Algorithm.LEAST_REQUEST, full_scan=True),
            id="full-scan",
        ),
        pytest.param(
            policies(
                (
                    "rr",
                    "round_robin.v3.RoundRobin",
                    {"locality_lb_config": {"locality_weighted_lb_config": {}}},
                )
            ),
            PolicySettings(locality_weighted=True),
            id="localities-in-the-extension",
        ),
        pytest.param(
            {
                "common_lb_config": {
                    "locality_weighted_lb_config": {},
                    "healthy_panic_threshold": {"value": 20.5},
                }
            },
            PolicySettings(locality_weighted=True, panic_threshold=21.0),
            id="localities-and-panic",
        ),
        pytest.param(
            {"common_lb_config": {"zone_aware_lb_config": {"fail_traffic_on_panic": True}}},
            PolicySettings(fail_on_panic=True),
            id="fail-on-panic",
        ),
    ],
)
def test_policies(kit, fields, expected):
    if "NotThere" in str(fields):
        first = fields["load_balancing_policy"]["policies"][0]["typed_extension_config"]
        first["typed_config"] = {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {}}
    assert kit.settings(**fields).policy == expected


@pytest.mark.parametrize(
    ("fields", "type", "dns"),
    [
        pytest.param({}, ClusterType.STATIC, DnsSettings(), id="nothing-said"),
        pytest.param({"type": "STRICT_DNS"}, ClusterType.STRICT_DNS, DnsSettings(), id="strict"),
        pytest.param(custom("envoy.cluster.static"), ClusterType.STATIC, DnsSettings(), id="static-by-name"),
        pytest.param(
            custom("envoy.cluster.strict_dns"), ClusterType.STRICT_DNS, DnsSettings(), id="strict-by-name"
        ),
        pytest.param(
            custom("envoy.cluster.logical_dns"), ClusterType.LOGICAL_DNS, DnsSettings(), id="logical-by-name"
        ),
        pytest.param(custom("envoy.cluster.dns"), ClusterType.STRICT_DNS, DnsSettings(), id="dns-by-name"),
        pytest.param(
            custom("any", dns_refresh_rate="2s", dns_lookup_family="ALL", dns_jitter="1s"),
            ClusterType.STRICT_DNS,
            DnsSettings(refresh=2.0, family=Family.ALL, jitter=1.0),
            id="dns-by-type",
        ),
        pytest.param(
            custom("envoy.cluster.dns", all_addresses_in_single_endpoint=True),
            ClusterType.LOGICAL_DNS,
            DnsSettings(),
            id="dns-in-one-endpoint",
        ),
        pytest.param(
            {
                "type": "STRICT_DNS",
                "dns_refresh_rate": "9s",
                "dns_lookup_family": "V4_PREFERRED",
                "dns_failure_refresh_rate": {"base_interval": "2s"},
            },
            ClusterType.STRICT_DNS,
            DnsSettings(refresh=9.0, family=Family.V4_PREFERRED, failure_base=2.0, failure_max=20.0),
            id="all-fields",
        ),
    ],
)
def test_types(kit, fields, type, dns):
    name = "10.0.0.1" if type is ClusterType.STATIC else "web.test"
    made = kit.settings(kit.locality(name), **fields)

    assert (made.type, made.dns) == (type, dns)


def test_limits(kit):
    made = kit.settings(
        circuit_breakers={
            "thresholds": [
                {"max_connections": 5, "max_retries": 0, "track_remaining": True},
                {"max_connections": 6},
                {
                    "priority": "HIGH",
                    "retry_budget": {"budget_percent": {"value": 50}},
                    "max_connection_pools": 2,
                },
            ],
            "per_host_thresholds": [{"max_connections": 9}],
        }
    )

    assert made.thresholds == (
        Thresholds(max_connections=5, max_retries=0, track_remaining=True, max_host_connections=9),
        Thresholds(max_connection_pools=2, retry_budget=RetryBudget(percent=50.0, minimum=3)),
    )


def test_where_connections_come_from(kit):
    made = kit.settings(
        upstream_bind_config={
            "source_address": {"address": "10.0.0.9", "port_value": 0},
            "extra_source_addresses": [{"address": {"address": "::9", "port_value": 7}}],
            "socket_options": [
                {"level": 1, "name": 36, "int_value": 3, "state": "STATE_PREBIND"},
                {"level": 1, "name": 99, "int_value": 3, "state": "STATE_LISTENING"},
            ],
        },
        upstream_connection_options={"tcp_keepalive": {"keepalive_time": 5, "keepalive_probes": 2}},
    )

    assert made.bind == BindSettings(
        sources=(Address("10.0.0.9"), Address("::9", 7)),
        socket_options=(SocketOptionSettings(level=1, name=36, value=3),),
    )
    assert made.bind.source_for(Address("1.1.1.1", 80)) == Address("10.0.0.9")
    assert made.bind.source_for(Address("::1", 80)) == Address("::9", 7)
    assert made.keepalive == KeepaliveSettings(probes=2, time=5)


def socket_address(address, **more):
    return {"endpoint": {"address": {"socket_address": {"address": address, "port_value": 80, **more}}}}


IP = {"source_address": {"address": "127.0.0.1", "port_value": 0}}


@pytest.mark.parametrize(
    ("localities", "fields", "text"),
    [
        # refused by Envoy too
        pytest.param(["foo.com"], {}, "malformed IP address: foo.com", id="a-name-in-static"),
        pytest.param(["[::1]"], {}, "malformed IP address", id="brackets"),
        pytest.param(["127.0.0.01"], {}, "malformed IP address", id="leading-zero"),
        pytest.param(
            [socket_address("127.0.0.1", resolver_name="x")], {}, "unknown address resolver: x", id="resolver"
        ),
        pytest.param(
            [socket_address("a", resolver_name="x")],
            {"type": "STRICT_DNS"},
            "must NOT have a custom resolver",
            id="strict-resolver",
        ),
        pytest.param(
            ["a", "b"],
            {"type": "LOGICAL_DNS"},
            "LOGICAL_DNS clusters must have a single host",
            id="two-logical",
        ),
        pytest.param(
            [], {"type": "LOGICAL_DNS"}, "LOGICAL_DNS clusters must have a single host", id="no-logical"
        ),
        pytest.param(
            ["a", "b"],
            custom("x", all_addresses_in_single_endpoint=True),
            "must have a single host",
            id="two-in-one-endpoint",
        ),
        pytest.param(
            [socket_address("127.0.0.1", network_namespace_filepath="/x")],
            {},
            "cannot specify network namespaces",
            id="netns",
        ),
        pytest.param(
            [], {"lb_policy": "CLUSTER_PROVIDED"}, "cluster provided LB specified", id="cluster-provided"
        ),
        pytest.param(
            [],
            {"lb_policy": "LOAD_BALANCING_POLICY_CONFIG"},
            "load_balancing_policy needs to be set",
            id="policy-config-missing",
        ),
        pytest.param([], policies(), "no registered load balancing policy", id="empty-policy-list"),
        pytest.param(
            [],
            {**policies(ROUND_ROBIN), "lb_subset_config": {"subset_selectors": [{"keys": ["a"]}]}},
            "cannot be combined with lb_subset_config",
            id="policy-and-subset",
        ),
        pytest.param(
            [],
            {**policies(ROUND_ROBIN), "common_lb_config": {"locality_weighted_lb_config": {}}},
            "together with load_balancing_policy",
            id="policy-and-localities",
        ),
        pytest.param(
            [],
            {"eds_cluster_config": {"eds_config": {"path": "/x"}}},
            "cluster type other than EDS",
            id="eds-config",
        ),
        pytest.param(
            ["a"],
            {"type": "STRICT_DNS", "dns_failure_refresh_rate": {"base_interval": "5s", "max_interval": "1s"}},
            "must have max_interval greater than or equal to the base_interval",
            id="failure-rate",
        ),
        pytest.param(
            ["a"], {"type": "STRICT_DNS", "dns_jitter": "-1s"}, "expected a positive duration", id="jitter"
        ),
        pytest.param([], http(common_http_protocol_options={}), "is required", id="no-protocol"),
        pytest.param(
            [],
            {"typed_extension_protocol_options": {"x": {"@type": "type.googleapis.com/" + HTTP}}},
            "no protocol options are known by the name 'x'",
            id="protocol-options-misnamed",
        ),
        pytest.param(
            [],
            {
                "max_requests_per_connection": 1,
                "common_http_protocol_options": {"max_requests_per_connection": 1},
            },
            "only one of max_requests_per_connection",
            id="requests-twice",
        ),
        pytest.param(
            [],
            {"circuit_breakers": {"per_host_thresholds": [{"max_requests": 1}]}},
            "Unsupported field in per_host_thresholds",
            id="per-host-requests",
        ),
        pytest.param(
            [],
            {"upstream_bind_config": {"source_address": {"address": "x", "port_value": 0}}},
            "malformed IP address: x",
            id="bind",
        ),
        pytest.param(
            [],
            {
                "upstream_bind_config": {
                    **IP,
                    "extra_source_addresses": [{"address": {"address": "127.0.0.2", "port_value": 0}}],
                }
            },
            "different IP versions",
            id="bind-twice-v4",
        ),
        # not yet there
        pytest.param([], {"type": "EDS"}, "not supported yet: cluster type EDS", id="eds"),
        pytest.param(
            [],
            {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"},
            "not supported yet: cluster type ORIGINAL_DST",
            id="original-dst",
        ),
        pytest.param(
            [], custom("envoy.clusters.aggregate"), "cluster type 'envoy.clusters.aggregate'", id="aggregate"
        ),
        pytest.param([], policies(SUBSET, ROUND_ROBIN), "load balancing policy 'subset'", id="subset-first"),
        pytest.param(
            [],
            {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 100}},
            "The table size of maglev must be prime number",
            id="maglev-not-prime",
        ),
        pytest.param(
            [],
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 10, "maximum_ring_size": 9}},
            "ring hash: minimum_ring_size (10) > maximum_ring_size (9)",
            id="ring-sizes",
        ),
        pytest.param(
            [],
            {
                "lb_policy": "MAGLEV",
                "common_lb_config": {"consistent_hashing_lb_config": {"use_hostname_for_hashing": True}},
            },
            "Cannot use hostname for consistent hashing loadbalancing for cluster of type: STATIC",
            id="hostnames-of-static-hosts",
        ),
        pytest.param([], {"round_robin_lb_config": {"slow_start_config": {}}}, "slow start", id="slow-start"),
        pytest.param(
            [], {"lb_subset_config": {"subset_selectors": [{"keys": ["a"]}]}}, "subset balancing", id="subset"
        ),
        pytest.param(
            [],
            {
                "health_checks": [
                    {
                        "timeout": "1s",
                        "interval": "1s",
                        "healthy_threshold": 1,
                        "unhealthy_threshold": 1,
                        "tcp_health_check": {},
                    }
                ]
            },
            "not supported yet: health_checks",
            id="health-checks",
        ),
        pytest.param(
            [], {"outlier_detection": {}}, "not supported yet: outlier_detection", id="outlier-detection"
        ),
        pytest.param([], {"http2_protocol_options": {}}, "HTTP/2 upstream is not supported yet", id="http2"),
        pytest.param(
            [],
            http(explicit_http_config={"http2_protocol_options": {}}),
            "HTTP/2 upstream is not supported yet",
            id="http2-explicit",
        ),
        pytest.param([], http(auto_config={}), "not supported yet: auto_config", id="auto"),
        pytest.param(
            [],
            http(explicit_http_config=http1(), common_http_protocol_options={"max_stream_duration": "3s"}),
            "not supported yet: max_stream_duration of a cluster",
            id="max-stream-duration",
        ),
        pytest.param(
            [],
            http(explicit_http_config=http1(header_key_format={"proper_case_words": {}})),
            "not supported yet: proper_case_words",
            id="proper-case",
        ),
        pytest.param(
            [],
            http(use_downstream_protocol_config=http1(send_fully_qualified_url=True)),
            "not supported yet: send_fully_qualified_url",
            id="qualified-url",
        ),
        pytest.param(
            [],
            {
                "transport_socket": {
                    "name": "tls",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
                    },
                }
            },
            "extension 'tls'",
            id="tls",
        ),
        pytest.param(
            ["a"],
            {"type": "STRICT_DNS", "dns_resolvers": [{"pipe": {"path": "x"}}]},
            "own DNS servers",
            id="dns-servers",
        ),
        pytest.param(
            [],
            {"connection_pool_per_downstream_connection": True},
            "connection_pool_per",
            id="pool-per-connection",
        ),
        pytest.param([], {"filters": [{"name": "x"}]}, "not supported yet: filters", id="filters"),
    ],
)
def test_refused_with_exactly_one_problem(kit, localities, fields, text):
    _, problems = kit.parse(kit.fields(*([kit.locality(*localities)] if localities else []), **fields))

    (problem,) = problems.errors
    assert text in problem.text


def test_problems_say_where(kit):
    _, problems = kit.parse(kit.fields(kit.locality("10.0.0.1"), kit.locality("10.0.0.1", "web.test")))

    (problem,) = problems.errors
    assert (
        problem.path == "load_assignment.endpoints[1].lb_endpoints[1].endpoint.address.socket_address.address"
    )


@pytest.mark.parametrize(
    ("localities", "fields", "text"),
    [
        pytest.param(["/x.sock"], {"type": "STRICT_DNS"}, "never becomes a host", id="pipe-by-dns"),
        pytest.param(["a"], {"type": "STRICT_DNS", "respect_dns_ttl": True}, "time to live", id="ttl"),
        pytest.param(
            [],
            {"preconnect_policy": {"per_upstream_preconnect_ratio": 2.0}},
            "ahead of requests",
            id="preconnect",
        ),
        pytest.param([], {"track_cluster_stats": {"timeout_budgets": True}}, "not counted yet", id="track"),
    ],
)
def test_taken_with_a_warning(kit, localities, fields, text):
    _, problems = kit.parse(kit.fields(*([kit.locality(*localities)] if localities else []), **fields))

    (warning,) = problems.items
    assert warning.warning
    assert text in warning.text


@pytest.mark.parametrize(
    ("localities", "fields"),
    [
        pytest.param(["/x.sock"], {}, id="pipe"),
        pytest.param(["127.0.0.1"], {"type": "STRICT_DNS"}, id="address-by-dns"),
        pytest.param(
            [socket_address("127.0.0.1", resolver_name="envoy.ip")], {}, id="the-resolver-of-addresses"
        ),
        pytest.param([socket_address("127.0.0.1", protocol="UDP")], {}, id="udp"),
        pytest.param(["a"], {"type": "LOGICAL_DNS"}, id="logical"),
        pytest.param([], {"lb_subset_config": {}}, id="subset-without-selectors"),
        pytest.param([], {"ring_hash_lb_config": {"minimum_ring_size": 10}}, id="ring-of-another-policy"),
        pytest.param(
            [], {"common_lb_config": {"zone_aware_lb_config": {}}}, id="zone-aware-without-local-cluster"
        ),
        pytest.param([], {"protocol_selection": "USE_DOWNSTREAM_PROTOCOL"}, id="protocol-selection"),
        pytest.param(
            [],
            {"circuit_breakers": {"per_host_thresholds": [{"track_remaining": True}]}},
            id="per-host-remaining",
        ),
        pytest.param([], {"upstream_connection_options": {}}, id="connection-options"),
        pytest.param(
            [],
            {
                "upstream_config": {
                    "name": "x",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.http.v3.HttpConnectionPoolProto"
                    },
                }
            },
            id="http-upstream",
        ),
    ],
)
def test_taken_without_a_word(kit, localities, fields):
    _, problems = kit.parse(kit.fields(*([kit.locality(*localities)] if localities else []), **fields))

    assert problems.items == []


@pytest.mark.parametrize(
    ("weights", "policy", "text"),
    [
        ([2**32 - 1, 1], "MAGLEV", "The sum of weights of all upstream hosts in a locality exceeds 4294967295"),
        ([2**32 - 2, 1], "MAGLEV", ""),
        ([2**32 - 1, 1], "ROUND_ROBIN", ""),
    ],
)
def test_weights_of_hashing_balancers_add_up_in_32_bits(kit, weights, policy, text):
    hosts = [kit.endpoint(f"10.0.0.{i}", load_balancing_weight=weight) for i, weight in enumerate(weights)]
    _, problems = kit.parse(kit.fields(kit.locality(*hosts), lb_policy=policy))
    assert [problem.text for problem in problems.errors] == ([text] if text else [])


def test_weights_of_localities_too(kit):
    groups = [kit.locality("10.0.0.1", load_balancing_weight=2**31) for _ in range(2)]
    _, problems = kit.parse(kit.fields(*groups, lb_policy="RING_HASH"))
    assert [problem.text for problem in problems.errors] == [
        "The sum of weights of all localities at the same priority exceeds 4294967295"
    ]
