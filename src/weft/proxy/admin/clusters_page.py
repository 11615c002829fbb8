"""``/clusters`` and ``/listeners``, as text and JSON."""

from typing import Any, Final

from weft.proxy.admin.query import JSON, AdminRequest, Answer, regex
from weft.proxy.admin.rendering import pretty, pretty_steps, socket_address
from weft.proxy.admin.view import ClusterStatus, HostStatus, LimitStatus, ListenerStatus
from weft.proxy.observe.quantiles import number
from weft.steps import Steps

HOST_COUNTERS: Final = ("cx_connect_fail", "cx_total", "rq_error", "rq_success", "rq_timeout", "rq_total")
HOST_GAUGES: Final = ("cx_active", "rq_active", "rq_pending_active")
_HOST_LINES: Final = tuple(sorted(HOST_COUNTERS + HOST_GAUGES))

_HEALTH_FIELDS: Final = (
    ("failed_active_hc", "failed_active_health_check"),
    ("failed_outlier_check", "failed_outlier_check"),
    ("degraded_active_hc", "failed_active_degraded_check"),
    ("pending_dynamic_removal", "pending_dynamic_removal"),
    ("pending_active_hc", "pending_active_hc"),
    ("excluded_via_immediate_hc_fail", "excluded_via_immediate_hc_fail"),
    ("active_hc_timeout", "active_hc_timeout"),
)
"""Health flag -> field of ``envoy.admin.v3.HostHealthStatus``."""

_EDS_HEALTH: Final = (
    ("failed_eds_health", "UNHEALTHY"),
    ("eds_status_draining", "DRAINING"),
    ("degraded_eds_health", "DEGRADED"),
)


def clusters_steps(request: AdminRequest, clusters: list[ClusterStatus]) -> Steps[Answer]:
    """``/clusters``, in steps."""
    wanted = request.query.get("filter")
    if wanted:
        pattern = regex(wanted, "Invalid re2 regex")
        clusters = [cluster for cluster in clusters if pattern.search(cluster.name) is not None]
    if request.query.get("format") == "json":
        statuses: list[dict[str, Any]] = []
        for cluster in clusters:
            statuses.append(_cluster(cluster))
            yield 5 * (1 + len(cluster.hosts))
        body = yield from pretty_steps({"cluster_statuses": statuses} if clusters else {})
        return Answer(body=body, content_type=JSON)
    lines: list[str] = []
    for cluster in clusters:
        _cluster_lines(cluster, lines)
        yield 10 * (1 + len(cluster.hosts))
    return Answer(body="".join(lines))


def _cluster_lines(cluster: ClusterStatus, lines: list[str]) -> None:
    name = cluster.name

    def line(what: str, value: object) -> None:
        lines.append(f"{name}::{what}::{value}\n")

    line("observability_name", cluster.observability_name or name)
    if cluster.outlier:
        line("outlier::success_rate_average", number(cluster.success_rate_average))
        line("outlier::success_rate_ejection_threshold", number(cluster.success_rate_threshold))
        line("outlier::local_origin_success_rate_average", number(cluster.local_success_rate_average))
        line(
            "outlier::local_origin_success_rate_ejection_threshold",
            number(cluster.local_success_rate_threshold),
        )
    for priority, limits in (("default", cluster.default), ("high", cluster.high)):
        line(f"{priority}_priority::max_connections", limits.max_connections)
        line(f"{priority}_priority::max_pending_requests", limits.max_pending_requests)
        line(f"{priority}_priority::max_requests", limits.max_requests)
        line(f"{priority}_priority::max_retries", limits.max_retries)
    line("added_via_api", _boolean(cluster.added_via_api))
    if cluster.eds_service_name:
        line("eds_service_name", cluster.eds_service_name)
    for host in cluster.hosts:
        at = host.address
        for stat in _HOST_LINES:
            line(f"{at}::{stat}", host.counters.get(stat, 0) + host.gauges.get(stat, 0))
        line(f"{at}::hostname", host.hostname)
        line(f"{at}::health_flags", "".join("/" + flag for flag in host.flags) or "healthy")
        line(f"{at}::weight", host.weight)
        line(f"{at}::region", host.region)
        line(f"{at}::zone", host.zone)
        line(f"{at}::sub_zone", host.sub_zone)
        line(f"{at}::canary", _boolean(host.canary))
        line(f"{at}::priority", host.priority)
        line(f"{at}::success_rate", number(host.success_rate))
        line(f"{at}::local_origin_success_rate", number(host.local_origin_success_rate))


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _cluster(cluster: ClusterStatus) -> dict[str, Any]:
    """``envoy.admin.v3.ClusterStatus``: fields in the order of their numbers, defaults left out."""
    out: dict[str, Any] = {"name": cluster.name}
    if cluster.added_via_api:
        out["added_via_api"] = True
    if cluster.outlier and cluster.success_rate_threshold >= 0:
        out["success_rate_ejection_threshold"] = {"value": cluster.success_rate_threshold}
    if cluster.hosts:
        out["host_statuses"] = [_host(host) for host in cluster.hosts]
    if cluster.outlier and cluster.local_success_rate_threshold >= 0:
        out["local_origin_success_rate_ejection_threshold"] = {"value": cluster.local_success_rate_threshold}
    out["circuit_breakers"] = {
        "thresholds": [_limits(cluster.default), {"priority": "HIGH", **_limits(cluster.high)}]
    }
    out["observability_name"] = cluster.observability_name or cluster.name
    if cluster.eds_service_name:
        out["eds_service_name"] = cluster.eds_service_name
    return out


def _limits(limits: LimitStatus) -> dict[str, Any]:
    out: dict[str, Any] = {
        "max_connections": limits.max_connections,
        "max_pending_requests": limits.max_pending_requests,
        "max_requests": limits.max_requests,
    }
    if not limits.retry_budget:
        out["max_retries"] = limits.max_retries
    return out


def _host(host: HostStatus) -> dict[str, Any]:
    stats: list[dict[str, Any]] = []
    for kind, names, values in (("", HOST_COUNTERS, host.counters), ("GAUGE", HOST_GAUGES, host.gauges)):
        for name in names:
            metric: dict[str, Any] = {"type": kind} if kind else {}
            if values.get(name, 0):
                metric["value"] = str(values[name])
            metric["name"] = name
            stats.append(metric)
    health: dict[str, Any] = {field: True for flag, field in _HEALTH_FIELDS if flag in host.flags}
    health["eds_health_status"] = next(
        (status for flag, status in _EDS_HEALTH if flag in host.flags), "HEALTHY"
    )
    out: dict[str, Any] = {"address": socket_address(host.address), "stats": stats, "health_status": health}
    if host.success_rate >= 0:
        out["success_rate"] = {"value": host.success_rate}
    if host.weight:
        out["weight"] = host.weight
    if host.hostname:
        out["hostname"] = host.hostname
    if host.priority:
        out["priority"] = host.priority
    if host.local_origin_success_rate >= 0:
        out["local_origin_success_rate"] = {"value": host.local_origin_success_rate}
    out["locality"] = locality(host)
    return out


def locality(host: HostStatus) -> dict[str, str]:
    named = (("region", host.region), ("zone", host.zone), ("sub_zone", host.sub_zone))
    return {name: value for name, value in named if value}


def listeners_page(request: AdminRequest, listeners: list[ListenerStatus]) -> Answer:
    if request.query.get("format") == "json":
        return Answer(body=pretty(_listeners(listeners)), content_type=JSON)
    lines = [f"{listener.name}::{address}\n" for listener in listeners for address in listener.addresses]
    return Answer(body="".join(lines))


def _listeners(listeners: list[ListenerStatus]) -> dict[str, Any]:
    out: list[dict[str, Any]] = []
    for listener in listeners:
        status: dict[str, Any] = {"name": listener.name}
        if listener.addresses:
            status["local_address"] = socket_address(listener.addresses[0])
        if len(listener.addresses) > 1:
            status["additional_local_addresses"] = [socket_address(text) for text in listener.addresses[1:]]
        out.append(status)
    return {"listener_statuses": out} if out else {}
