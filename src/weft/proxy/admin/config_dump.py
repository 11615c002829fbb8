"""``/config_dump``: what runs, as the messages it was made from.

A dump is a list of sections (``envoy.admin.v3.*ConfigDump``), each with lists of resources.
``resource`` picks one such list, ``name_regex`` resources by name, ``mask`` fields.  Secrets are
redacted by :mod:`weft.api.dump`.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from weft.proxy.admin.clusters_page import locality
from weft.proxy.admin.query import JSON, AdminRequest, Answer, Refused, regex
from weft.proxy.admin.rendering import pretty_steps, socket_address, timestamp
from weft.proxy.admin.view import ClusterStatus, Configuration, Resource
from weft.steps import Steps

ToDict = Callable[[Any], Steps[dict[str, Any]]]
_TYPE: Final = "type.googleapis.com/envoy.admin.v3."
_PLAIN: Final = "text/plain"

SINGULAR: Final = frozenset(("bootstrap", "last_updated", "version_info"))
"""Fields of the sections that are no lists."""

ELEMENTS: Final[dict[str, tuple[str, str, frozenset[str]]]] = {
    "static_clusters": ("ClustersConfigDump", "StaticCluster", frozenset(("cluster", "last_updated"))),
    "dynamic_active_clusters": ("ClustersConfigDump", "DynamicCluster", frozenset(("version_info", "cluster", "last_updated", "error_state", "client_status"))),
    "dynamic_warming_clusters": ("ClustersConfigDump", "DynamicCluster", frozenset(("version_info", "cluster", "last_updated", "error_state", "client_status"))),
    "static_endpoint_configs": ("EndpointsConfigDump", "StaticEndpointConfig", frozenset(("endpoint_config", "last_updated"))),
    "dynamic_endpoint_configs": ("EndpointsConfigDump", "DynamicEndpointConfig", frozenset(("version_info", "endpoint_config", "last_updated", "error_state", "client_status"))),
    "static_listeners": ("ListenersConfigDump", "StaticListener", frozenset(("listener", "last_updated"))),
    "dynamic_listeners": ("ListenersConfigDump", "DynamicListener", frozenset(("name", "active_state", "warming_state", "draining_state", "error_state", "client_status"))),
    "inline_scoped_route_configs": ("ScopedRoutesConfigDump", "InlineScopedRouteConfigs", frozenset(("name", "scoped_route_configs", "last_updated"))),
    "dynamic_scoped_route_configs": ("ScopedRoutesConfigDump", "DynamicScopedRouteConfigs", frozenset(("name", "version_info", "scoped_route_configs", "last_updated"))),
    "static_route_configs": ("RoutesConfigDump", "StaticRouteConfig", frozenset(("route_config", "last_updated"))),
    "dynamic_route_configs": ("RoutesConfigDump", "DynamicRouteConfig", frozenset(("version_info", "route_config", "last_updated", "error_state", "client_status"))),
    "static_secrets": ("SecretsConfigDump", "StaticSecret", frozenset(("name", "last_updated", "secret"))),
    "dynamic_active_secrets": ("SecretsConfigDump", "DynamicSecret", frozenset(("name", "version_info", "last_updated", "secret", "error_state", "client_status"))),
    "dynamic_warming_secrets": ("SecretsConfigDump", "DynamicSecret", frozenset(("name", "version_info", "last_updated", "secret", "error_state", "client_status"))),
}  # fmt: skip
"""List of a section -> (section, type of an element, its fields)."""


def config_dump_steps(
    request: AdminRequest, configuration: Configuration, clusters: list[ClusterStatus], to_dict: ToDict
) -> Steps[Answer]:
    """The page, in steps: a thousand clusters are a megabyte."""
    query = request.query
    named = None
    if query.get("name_regex"):
        named = regex(
            query["name_regex"],
            f"INVALID_ARGUMENT: Error while parsing name_regex from {query['name_regex']}: {{reason}}",
            _PLAIN,
        )
    wanted = _Wanted(named)
    sections = yield from _sections(configuration, clusters if "include_eds" in query else None, wanted, to_dict)
    mask = query.get("mask", "")
    resource = query.get("resource", "")
    if resource:
        found = _one_list(sections, resource, mask)
    elif mask:
        found = _masked(sections, mask)
    else:
        found = [{"@type": _TYPE + name, **section} for name, section in sections]
    body = yield from pretty_steps({"configs": found} if found else {})
    return Answer(body=body, content_type=JSON)


class _Wanted:
    """Which names were asked for: those that ``name_regex`` matches whole."""

    def __init__(self, pattern: Any | None) -> None:
        self._pattern = pattern

    def __contains__(self, name: str) -> bool:
        return self._pattern is None or self._pattern.fullmatch(name) is not None


_Section = tuple[str, dict[str, Any]]


def _sections(
    configuration: Configuration, clusters: list[ClusterStatus] | None, wanted: _Wanted, to_dict: ToDict
) -> Steps[list[_Section]]:
    bootstrap: dict[str, Any] = {"bootstrap": (yield from to_dict(configuration.bootstrap))}
    bootstrap["last_updated"] = timestamp(configuration.bootstrap_updated)
    out: list[_Section] = [
        ("BootstrapConfigDump", bootstrap),
        ("ClustersConfigDump", (yield from _clusters(_among(configuration.clusters, wanted), to_dict))),
    ]
    if clusters is not None:
        out.append(("EndpointsConfigDump", (yield from _endpoints(configuration, clusters, wanted, to_dict))))
    out.append(("ListenersConfigDump", (yield from _listeners(_among(configuration.listeners, wanted), to_dict))))
    out.append(("ScopedRoutesConfigDump", {}))
    out.append(("RoutesConfigDump", (yield from _routes(_among(configuration.routes, wanted), to_dict))))
    out.append(("SecretsConfigDump", (yield from _secrets(_among(configuration.secrets, wanted), to_dict))))
    return out


def _among(resources: list[Resource], wanted: _Wanted) -> list[Resource]:
    return [resource for resource in resources if resource.name in wanted]


def _any(message: Any, to_dict: ToDict) -> Steps[dict[str, Any]]:
    fields = yield from to_dict(message)
    return {"@type": "type.googleapis.com/" + message.DESCRIPTOR.full_name, **fields}


def _element(field: str, resource: Resource, to_dict: ToDict) -> Steps[dict[str, Any]]:
    out: dict[str, Any] = {}
    if resource.version:
        out["version_info"] = resource.version
    out[field] = yield from _any(resource.message, to_dict)
    if resource.last_updated:
        out["last_updated"] = timestamp(resource.last_updated)
    if resource.error:
        out["error_state"] = {"details": resource.error}
    return out


def _elements(field: str, resources: Iterable[Resource], to_dict: ToDict) -> Steps[list[dict[str, Any]]]:
    out: list[dict[str, Any]] = []
    for resource in resources:
        out.append((yield from _element(field, resource, to_dict)))
    return out


def _filled(lists: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {name: elements for name, elements in lists.items() if elements}


def _clusters(clusters: list[Resource], to_dict: ToDict) -> Steps[dict[str, Any]]:
    lists: dict[str, list[dict[str, Any]]] = {
        "static_clusters": [], "dynamic_active_clusters": [], "dynamic_warming_clusters": []
    }  # fmt: skip
    version = ""
    for cluster in sorted(clusters, key=lambda resource: resource.name):
        if cluster.static:
            name = "static_clusters"
        else:
            name = "dynamic_warming_clusters" if cluster.state == "warming" else "dynamic_active_clusters"
            version = cluster.version or version
        lists[name].append((yield from _element("cluster", cluster, to_dict)))
    return {**({"version_info": version} if version else {}), **_filled(lists)}


def _listeners(listeners: list[Resource], to_dict: ToDict) -> Steps[dict[str, Any]]:
    static = yield from _elements("listener", [one for one in listeners if one.static], to_dict)
    dynamic: dict[str, dict[str, Any]] = {}
    version = ""
    for listener in listeners:
        if listener.static:
            continue
        version = listener.version or version
        entry = dynamic.setdefault(listener.name, {"name": listener.name})
        state = yield from _element("listener", listener, to_dict)
        error = state.pop("error_state", None)
        entry[f"{listener.state}_state"] = state
        if error is not None:
            entry["error_state"] = error
    return {
        **({"version_info": version} if version else {}),
        **_filled({"static_listeners": static, "dynamic_listeners": list(dynamic.values())}),
    }


def _routes(routes: list[Resource], to_dict: ToDict) -> Steps[dict[str, Any]]:
    static = yield from _elements("route_config", [one for one in routes if one.static], to_dict)
    dynamic = yield from _elements("route_config", [one for one in routes if not one.static], to_dict)
    return _filled({"static_route_configs": static, "dynamic_route_configs": dynamic})


def _secrets(secrets: list[Resource], to_dict: ToDict) -> Steps[dict[str, Any]]:
    lists: dict[str, list[dict[str, Any]]] = {
        "static_secrets": [], "dynamic_active_secrets": [], "dynamic_warming_secrets": []
    }  # fmt: skip
    for secret in secrets:
        name = "static_secrets" if secret.static else f"dynamic_{secret.state}_secrets"
        element = yield from _element("secret", secret, to_dict)
        lists.setdefault(name, []).append({"name": secret.name, **element})
    return _filled(lists)


# -- endpoints -----------------------------------------------------------------------------------


def _endpoints(
    configuration: Configuration, clusters: list[ClusterStatus], wanted: _Wanted, to_dict: ToDict
) -> Steps[dict[str, Any]]:
    dynamic = _among(configuration.endpoints, wanted)
    known = {resource.name for resource in dynamic}
    static: list[dict[str, Any]] = []
    for cluster in clusters:
        if cluster.name in wanted and (cluster.eds_service_name or cluster.name) not in known:
            static.append({"endpoint_config": _assignment(cluster)})
            yield 5 * (1 + len(cluster.hosts))
    found = yield from _elements("endpoint_config", dynamic, to_dict)
    return _filled({"static_endpoint_configs": static, "dynamic_endpoint_configs": found})


def _assignment(cluster: ClusterStatus) -> dict[str, Any]:
    """A ClusterLoadAssignment of the hosts as they are now."""
    groups: dict[tuple[int, str, str, str], dict[str, Any]] = {}
    for host in cluster.hosts:
        key = (host.priority, host.region, host.zone, host.sub_zone)
        group = groups.get(key)
        if group is None:
            group = groups[key] = {"locality": locality(host), "lb_endpoints": []}
            if host.priority:
                group["priority"] = host.priority
        endpoint: dict[str, Any] = {"address": socket_address(host.address), "health_check_config": {}}
        if host.hostname:
            endpoint["hostname"] = host.hostname
        healthy = (
            "HEALTHY"
            if not host.flags
            else "DRAINING"
            if "eds_status_draining" in host.flags
            else "UNHEALTHY"
        )
        group["lb_endpoints"].append(
            {"endpoint": endpoint, "health_status": healthy, "load_balancing_weight": host.weight}
        )
    for group in groups.values():
        group["load_balancing_weight"] = 0
        if priority := group.pop("priority", 0):
            group["priority"] = priority
    out: dict[str, Any] = {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster.name,
    }
    if groups:
        out["endpoints"] = [groups[key] for key in sorted(groups)]
    out["policy"] = {"overprovisioning_factor": 140}
    return out


# -- resource and mask ---------------------------------------------------------------------------


def _one_list(sections: list[_Section], resource: str, mask: str) -> list[dict[str, Any]]:
    if resource in SINGULAR:
        raise Refused(
            f"{resource} is not a repeated field. Use ?mask={resource} to get only this field", 400, _PLAIN
        )
    if resource not in ELEMENTS:
        raise Refused(f"{resource} not found in config dump", 404, _PLAIN)
    section_name, element, fields = ELEMENTS[resource]
    if section_name not in {name for name, _ in sections}:
        raise Refused(f"{resource} not found in config dump", 404, _PLAIN)
    paths = [path.split(".") for path in mask.split(",") if path]
    if any(path[0] not in fields for path in paths):
        raise Refused(f'FieldMask paths: "{mask}" could not be successfully used.', 400, _PLAIN)
    kind = f"{_TYPE}{section_name}.{element}"
    out: list[dict[str, Any]] = []
    for name, section in sections:
        if name == section_name:
            for found in section.get(resource, []):
                out.append({"@type": kind, **(_trim(found, paths) if paths else found)})
    return out


def _masked(sections: list[_Section], mask: str) -> list[dict[str, Any]]:
    paths = [path.split(".") for path in mask.split(",") if path]
    out: list[dict[str, Any]] = []
    for name, section in sections:
        mine = [path for path in paths if _fits(name, path)]
        if mine and len(mine) == len(paths):
            out.append({"@type": _TYPE + name, **_trim(section, mine)})
    if not out:
        raise Refused(f"FieldMask {mask} could not be successfully applied to any configs.", 400, _PLAIN)
    return out


def _fits(section: str, path: list[str]) -> bool:
    """A path must lie in the section, and may end at a list but not go through it."""
    first = path[0]
    if first in ELEMENTS:
        return ELEMENTS[first][0] == section and len(path) == 1
    if first == "bootstrap":
        return section == "BootstrapConfigDump"
    if first == "version_info":
        return section in ("ClustersConfigDump", "ListenersConfigDump") and len(path) == 1
    return first == "last_updated" and section == "BootstrapConfigDump"


def _trim(value: dict[str, Any], paths: list[list[str]]) -> dict[str, Any]:
    """Only what ``paths`` lead to; an Any keeps its type."""
    out: dict[str, Any] = {}
    if "@type" in value:
        out["@type"] = value["@type"]
    for key, field in value.items():
        below = [path[1:] for path in paths if path[0] == key]
        if not below:
            continue
        if any(not path for path in below) or not isinstance(field, dict):
            out[key] = field
        else:
            out[key] = _trim(field, below)
    return out
