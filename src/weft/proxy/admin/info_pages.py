"""The small pages: server info, readiness, memory, runtime, logging, init and certificates."""

from typing import Any

from weft.proxy.admin.query import JSON, AdminRequest, Answer, Refused, parse_query
from weft.proxy.admin.rendering import duration, pretty
from weft.proxy.admin.view import LIVE, AdminView, MemoryStatus, RuntimeStatus, ServerInfo

LEVELS = ("trace", "debug", "info", "warning", "error", "critical", "off")


def ready_page(info: ServerInfo) -> Answer:
    return Answer(body=info.state + "\n", status=200 if info.state == LIVE else 503)


def server_info_page(info: ServerInfo) -> Answer:
    identity = info.identity
    out: dict[str, Any] = {
        "version": info.version,
        "state": info.state,
        "uptime_current_epoch": duration(info.uptime_current_epoch),
        "uptime_all_epochs": duration(info.uptime_all_epochs),
        "hot_restart_version": info.hot_restart_version,
        "command_line_options": dict(info.options),
        "node": {
            "id": identity.node_id,
            "cluster": identity.cluster,
            **({"metadata": identity.metadata} if identity.metadata else {}),
            "locality": {"region": identity.region, "zone": identity.zone, "sub_zone": identity.sub_zone},
            "user_agent_name": "weft",
            "user_agent_build_version": {
                "version": _version(info.version),
                "metadata": {"build.type": "RELEASE"},
            },
            "extensions": _extensions(info),
            "client_features": [],
            "listening_addresses": [],
            "dynamic_parameters": {},
        },
        "hot_restart_initializing": False,
    }
    return Answer(body=pretty(out), content_type=JSON)


def _version(version: str) -> dict[str, int]:
    """``SemanticVersion`` from the second part of the version text."""
    parts = version.split("/")
    digits = (parts[1] if len(parts) > 1 else version).split("-")[0].split("+")[0].split(".")
    numbers = [int(part) if part.isdigit() else 0 for part in digits]
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return {"major_number": major, "minor_number": minor, "patch": patch}


def _extensions(info: ServerInfo) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "category": category,
            "type_descriptor": "",
            "disabled": False,
            "type_urls": [kind] if kind else [],
        }
        for category, extensions in sorted(info.extensions.items())
        for name, kind in extensions
    ]


def memory_page(memory: MemoryStatus) -> Answer:
    """64-bit numbers are strings in protobuf's JSON."""
    out = {
        "allocated": str(memory.allocated),
        "heap_size": str(memory.heap_size),
        "pageheap_unmapped": str(memory.pageheap_unmapped),
        "pageheap_free": str(memory.pageheap_free),
        "total_thread_cache": str(memory.total_thread_cache),
        "total_physical_bytes": str(memory.total_physical_bytes),
    }
    return Answer(body=pretty(out), content_type=JSON)


def runtime_page(runtime: RuntimeStatus) -> Answer:
    entries = {
        key: {"final_value": entry.final_value, "layer_values": entry.layer_values}
        for key, entry in sorted(runtime.entries.items())
    }
    return Answer(body=pretty({"layers": runtime.layers, "entries": entries}), content_type=JSON)


async def modify_runtime(request: AdminRequest, view: AdminView) -> Answer:
    values = dict(request.query)
    if not values and request.body:
        if not request.content_type.startswith("application/x-www-form-urlencoded"):
            raise Refused("the body has to be application/x-www-form-urlencoded\n")
        values = parse_query(request.body.decode("utf-8", "replace").replace("+", " "))
    if not values:
        raise Refused(
            "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n"
            "       or send the parameters as form values\n"
            "use an empty value to remove a previously added override"
        )
    if not view.runtime().modifiable:
        raise Refused("No admin layer specified", 503)
    outcome = await view.modify_runtime(values)
    if not outcome.ok:
        raise Refused(outcome.text or "could not be changed\n", 503)
    return Answer(body="OK\n")


async def logging_page(request: AdminRequest, view: AdminView) -> Answer:
    problem = await _change_levels(request.query, view)
    active = "".join(f"  {name}: {level}\n" for name, level in view.log_levels().items())
    active = f"active loggers:\n{active}\n"
    if not problem:
        return Answer(body=active)
    usage = (
        "usage: /logging?<name>=<level> (change single level)\n"
        "usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n"
        "usage: /logging?level=<level> (change all levels)\n"
        f"levels: {' '.join(LEVELS)} \n"
    )
    return Answer(body=f"error: {problem}\n\n{usage}{active}", status=400)


async def _change_levels(query: dict[str, str], view: AdminView) -> str:
    """What is wrong with the request; empty when it was done.  All levels are checked before one is set."""
    # A browser's form sends every field, empty ones too.
    given = {name: value for name, value in query.items() if value}
    if not given:
        return ""
    if len(given) > 1:
        return "invalid number of parameters"
    name, value = next(iter(given.items()))
    if name == "group":
        return "group parameter requires fine-grain logging to be enabled"
    if name == "level":
        changes = [("", value)]
    elif name == "paths":
        changes = []
        for pair in value.split(","):
            component, _, level = pair.partition(":")
            changes.append((component, level))
            if not component or not level:
                return "empty logger name or empty logger level"
    else:
        changes = [(name, value)]
    known = view.log_levels()
    if any(level not in LEVELS for _, level in changes):
        return "unknown logger level"
    if any(component and component not in known for component, _ in changes):
        return "unknown logger name"
    for component, level in changes:
        if not await view.set_log_level(level, component):
            return "unknown logger name"
    return ""


async def init_dump_page(request: AdminRequest, view: AdminView) -> Answer:
    wanted = request.query.get("mask", "")
    dumps = [
        {"name": name, "target_names": targets}
        for name, targets in await view.unready()
        if not wanted or wanted in name
    ]
    return Answer(body=pretty({"unready_targets_dumps": dumps} if dumps else {}), content_type=JSON)


def certs_page() -> Answer:
    return Answer(body=pretty({"certificates": []}), content_type=JSON)
