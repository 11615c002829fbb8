"""Small configurations for tests, as plain values and as text that the loader takes."""

import json
from collections.abc import Sequence
from typing import Any

_TYPES = "type.googleapis.com/envoy.extensions."

ADMIN: dict[str, Any] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}


def bootstrap(*listeners: dict[str, Any], clusters: Sequence[dict[str, Any]] = (), **more: Any) -> str:
    """With an admin server on a port that is free."""
    resources = {"listeners": list(listeners), "clusters": list(clusters)}
    return json.dumps({"admin": ADMIN, "static_resources": resources, **more}, indent=1)


def listener(
    name: str = "web",
    *,
    port: int = 0,
    says: str = "hello",
    upstream: str = "",
    access_log: str = "",
    **more: Any,
) -> dict[str, Any]:
    """HTTP: every path says ``says``, but those under ``/up`` go to the cluster ``upstream``."""
    routes: list[dict[str, Any]] = [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": says}}}
    ]
    if upstream:
        routes.insert(0, {"match": {"prefix": "/up"}, "route": {"cluster": upstream, "timeout": "0s"}})
    manager: dict[str, Any] = {
        "@type": _TYPES + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {
            "name": name,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": _TYPES + "filters.http.router.v3.Router"}}
        ],
    }
    if access_log:
        settings = {
            "@type": _TYPES + "access_loggers.file.v3.FileAccessLog",
            "path": access_log,
            "log_format": {"text_format_source": {"inline_string": "%REQ(:PATH)%\n"}},
        }
        manager["access_log"] = [{"name": "file", "typed_config": settings}]
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        **more,
    }


def cluster(name: str, port: int, **more: Any) -> dict[str, Any]:
    """STATIC, one host on this machine."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {"name": name, "load_assignment": {"cluster_name": name, "endpoints": endpoints}, **more}
