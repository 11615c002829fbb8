"""``/config_dump``: sections, and what ``resource``, ``name_regex`` and ``mask`` leave of them."""

import json

import pytest
from google.protobuf import json_format

from weft.api import schema
from weft.proxy.admin.config_dump import config_dump_steps
from weft.proxy.admin.query import AdminRequest, Refused, parse_query
from weft.proxy.admin.view import Configuration, Resource
from weft.steps import at_once

CLUSTER = "envoy.config.cluster.v3.Cluster"
LISTENER = "envoy.config.listener.v3.Listener"
ROUTE = "envoy.config.route.v3.RouteConfiguration"
ADMIN = "type.googleapis.com/envoy.admin.v3."
THEN = 1_000_000_000.25


def message(full_name, **fields):
    return json_format.ParseDict(fields, schema.message_class(full_name)())


def resource(full_name, name, *, fields=None, **more):
    return Resource(
        name=name, message=message(full_name, name=name, **(fields or {})), last_updated=THEN, **more
    )


@pytest.fixture
def configuration():
    return Configuration(
        bootstrap=message("envoy.config.bootstrap.v3.Bootstrap", node={"id": "n0", "cluster": "c0"}),
        bootstrap_updated=THEN,
        clusters=[
            resource(CLUSTER, "web", fields={"connect_timeout": "1s"}),
            resource(CLUSTER, "api"),
            resource(CLUSTER, "dyn", static=False, version="v1"),
            resource(CLUSTER, "warm", static=False, version="v2", state="warming", error="bad"),
        ],
        listeners=[
            resource(LISTENER, "main"),
            resource(LISTENER, "ld", static=False, version="7"),
            resource(LISTENER, "ld", static=False, version="8", state="draining"),
        ],
        routes=[resource(ROUTE, "r"), resource(ROUTE, "rd", static=False, version="3")],
    )


def to_dict(value):
    yield 1
    return json_format.MessageToDict(value, preserving_proto_field_name=True)


def dump(configuration, query="", clusters=()):
    request = AdminRequest(method="GET", path="/config_dump", query=parse_query(query))
    answer = at_once(config_dump_steps(request, configuration, list(clusters), to_dict))
    assert answer.content_type == "application/json"
    return json.loads(answer.body)


def element(configuration, query, clusters=()):
    return dump(configuration, query, clusters)["configs"]


def test_sections_in_envoys_order(configuration, web):
    kinds = [section["@type"].removeprefix(ADMIN) for section in dump(configuration)["configs"]]
    with_eds = [
        section["@type"].removeprefix(ADMIN)
        for section in dump(configuration, "include_eds", [web])["configs"]
    ]

    assert kinds == [
        "BootstrapConfigDump",
        "ClustersConfigDump",
        "ListenersConfigDump",
        "ScopedRoutesConfigDump",
        "RoutesConfigDump",
        "SecretsConfigDump",
    ]
    assert with_eds == [*kinds[:2], "EndpointsConfigDump", *kinds[2:]]


def test_clusters(configuration):
    section = dump(configuration)["configs"][1]

    assert section["version_info"] == "v2"
    # Sorted by name, as Envoy has them.
    assert [entry["cluster"]["name"] for entry in section["static_clusters"]] == ["api", "web"]
    assert section["static_clusters"][1] == {
        "cluster": {"@type": f"type.googleapis.com/{CLUSTER}", "name": "web", "connect_timeout": "1s"},
        "last_updated": "2001-09-09T01:46:40.250Z",
    }
    assert section["dynamic_active_clusters"][0]["version_info"] == "v1"
    assert section["dynamic_warming_clusters"][0]["error_state"] == {"details": "bad"}


def test_states_of_a_dynamic_listener_are_one_entry(configuration):
    (entry,) = dump(configuration)["configs"][2]["dynamic_listeners"]

    assert (
        entry["name"],
        entry["active_state"]["version_info"],
        entry["draining_state"]["version_info"],
    ) == (
        "ld",
        "7",
        "8",
    )


def test_one_list(configuration):
    found = element(configuration, "resource=static_clusters")

    assert [(entry["@type"], entry["cluster"]["name"]) for entry in found] == [
        (ADMIN + "ClustersConfigDump.StaticCluster", "api"),
        (ADMIN + "ClustersConfigDump.StaticCluster", "web"),
    ]


def test_a_name_must_match_whole(configuration):
    assert len(element(configuration, "resource=static_clusters&name_regex=w.b")) == 1
    assert dump(configuration, "resource=static_clusters&name_regex=w") == {}
    sections = dump(configuration, "name_regex=rd")["configs"]
    assert "static_clusters" not in sections[1]
    assert [entry["route_config"]["name"] for entry in sections[4]["dynamic_route_configs"]] == ["rd"]


def test_a_mask_over_one_list(configuration):
    assert element(configuration, "resource=static_clusters&mask=cluster.name,last_updated") == [
        {
            "@type": ADMIN + "ClustersConfigDump.StaticCluster",
            "cluster": {"@type": f"type.googleapis.com/{CLUSTER}", "name": name},
            "last_updated": "2001-09-09T01:46:40.250Z",
        }
        for name in ("api", "web")
    ]


def test_a_mask_over_everything(configuration):
    assert element(configuration, "mask=bootstrap.node.id") == [
        {"@type": ADMIN + "BootstrapConfigDump", "bootstrap": {"node": {"id": "n0"}}}
    ]
    (section,) = element(configuration, "mask=dynamic_active_clusters")
    assert set(section) == {"@type", "dynamic_active_clusters"}


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("resource=bogus", 404, "bogus not found in config dump"),
        ("resource=static_endpoint_configs", 404, "static_endpoint_configs not found in config dump"),
        (
            "resource=bootstrap",
            400,
            "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field",
        ),
        ("mask=bogus", 400, "FieldMask bogus could not be successfully applied to any configs."),
        (
            "mask=static_clusters.cluster.name",
            400,
            "FieldMask static_clusters.cluster.name could not be successfully applied to any configs.",
        ),
        (
            "resource=static_clusters&mask=bogus",
            400,
            'FieldMask paths: "bogus" could not be successfully used.',
        ),
        ("name_regex=(", 400, "INVALID_ARGUMENT: Error while parsing name_regex from (: missing ): ("),
    ],
)
def test_refusals(configuration, query, status, text):
    with pytest.raises(Refused) as refused:
        dump(configuration, query)

    assert (refused.value.answer.status, refused.value.answer.body) == (status, text)


def test_endpoints_are_the_hosts_of_now(configuration, web):
    (entry,) = element(configuration, "include_eds&resource=static_endpoint_configs", [web])

    config = entry["endpoint_config"]
    assert (config["cluster_name"], config["policy"]) == ("web", {"overprovisioning_factor": 140})
    assert config["endpoints"] == [
        {
            "locality": {"region": "a", "zone": "b", "sub_zone": "c"},
            "lb_endpoints": [
                {
                    "endpoint": {
                        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 18099}},
                        "health_check_config": {},
                    },
                    "health_status": "HEALTHY",
                    "load_balancing_weight": 3,
                }
            ],
            "load_balancing_weight": 0,
        },
        {
            "locality": {},
            "lb_endpoints": [
                {
                    "endpoint": {
                        "address": {"socket_address": {"address": "127.0.0.2", "port_value": 18099}},
                        "health_check_config": {},
                        "hostname": "h2",
                    },
                    "health_status": "DRAINING",
                    "load_balancing_weight": 1,
                }
            ],
            "load_balancing_weight": 0,
            "priority": 1,
        },
    ]
