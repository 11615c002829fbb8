"""Every endpoint, without a socket."""

import asyncio
import json
import re

import pytest

from weft.proxy.admin.site import Site, normal_path
from weft.proxy.admin.view import ListenerStatus, Outcome


def ask(view, target, method="GET", **more):
    return asyncio.run(Site(view, more.pop("allow_paths", ())).answer(method, target, **more))


def text(view, target, method="GET", **more):
    answer = ask(view, target, method, **more)
    assert answer.status == 200, answer
    return answer.body


MUTATING = [
    "/cpuprofiler",
    "/drain_listeners",
    "/healthcheck/fail",
    "/healthcheck/ok",
    "/heapprofiler",
    "/logging",
    "/quitquitquit",
    "/reload",
    "/reopen_logs",
    "/reset_counters",
    "/route/explain",
    "/runtime_modify",
    "/stats/recentlookups/clear",
    "/stats/recentlookups/disable",
    "/stats/recentlookups/enable",
]


@pytest.mark.parametrize("path", MUTATING)
@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
def test_only_post_changes_anything(view, path, method):
    answer = ask(view, path + "?enable=n", method)

    assert (answer.status, answer.body) == (405, f"Method {method} not allowed, POST required.")
    assert view.orders == []


def test_an_unknown_path_shows_the_help(view):
    answer = ask(view, "/nope?x=1")

    assert answer.status == 404
    assert answer.body == "invalid path. " + text(view, "/help")


def test_help_has_envoys_layout(view):
    lines = text(view, "/help").splitlines()

    assert lines[0] == "admin commands are:"
    assert all(re.fullmatch(r"  /[\w/]*( \(POST\))?: .+|      \w+: .+", line) for line in lines[1:])
    paths = [line.split()[0].rstrip(":") for line in lines[1:] if line.startswith("  /")]
    assert paths == sorted(paths)
    assert {line.split()[0] for line in lines[1:] if "(POST)" in line} == set(MUTATING)
    assert any(line.endswith("; One of (text, json)") for line in lines)


def test_the_home_page_links_to_everything_and_posts_what_changes(view):
    answer = ask(view, "/")

    assert answer.content_type == "text/html; charset=UTF-8"
    for path in MUTATING:
        assert f"method='post' action='{path[1:]}'" in answer.body
    for path in ("memory", "ready", "certs", "runtime"):
        assert f"<a href='{path}'>" in answer.body
    assert "method='get' action='stats'" in answer.body


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/ready", "/ready"),
        ("//ready", "/ready"),
        ("/x/../ready", "/ready"),
        ("/../ready", "/ready"),
        ("/./stats//prometheus", "/stats/prometheus"),
        ("/ready/", "/ready/"),
        ("/.hidden", "/.hidden"),
    ],
)
def test_paths_are_normalized_before_they_are_looked_up(path, normal):
    assert normal_path(path) == normal


def test_paths_may_be_restricted(view):
    allowed = (lambda path: path.startswith("/ready"), lambda path: path == "/stats")

    refused = ask(view, "/x/../certs?a=b", allow_paths=allowed)
    assert (refused.status, refused.body) == (403, "request to path /certs?a=b not allowed")
    assert ask(view, "/readyz", allow_paths=allowed).status == 404
    assert ask(view, "/ready", allow_paths=allowed).status == 200
    # Envoy compares with the query.
    assert ask(view, "/stats?usedonly", allow_paths=allowed).status == 403


@pytest.mark.parametrize(
    ("state", "status"),
    [("LIVE", 200), ("DRAINING", 503), ("INITIALIZING", 503), ("PRE_INITIALIZING", 503)],
)
def test_ready(view, state, status):
    view.state = state

    answer = ask(view, "/ready")
    assert (answer.status, answer.body) == (status, state + "\n")


def test_server_info(view):
    answer = ask(view, "/server_info")

    assert answer.content_type == "application/json"
    assert answer.body.startswith('{\n "version": "abc/1.2.3/Clean/RELEASE/none",\n "state": "LIVE",\n')
    info = json.loads(answer.body)
    assert (info["uptime_current_epoch"], info["uptime_all_epochs"]) == ("9s", "65s")
    assert info["command_line_options"] == {"base_id": "0", "concurrency": 1}
    assert info["node"]["locality"] == {"region": "r1", "zone": "z1", "sub_zone": ""}
    assert info["node"]["user_agent_build_version"]["version"] == {
        "major_number": 1,
        "minor_number": 2,
        "patch": 3,
    }
    assert info["node"]["extensions"] == [
        {
            "name": "envoy.filters.http.router",
            "category": "envoy.filters.http",
            "type_descriptor": "",
            "disabled": False,
            "type_urls": ["envoy.extensions.x.Router"],
        }
    ]


def test_small_pages(view):
    assert json.loads(text(view, "/memory")) == {
        "allocated": "100",
        "heap_size": "200",
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": "300",
    }
    assert text(view, "/certs") == '{\n "certificates": []\n}\n'
    assert text(view, "/hot_restart_version") == "weft.1"
    assert text(view, "/init_dump") == "{}\n"
    assert ask(view, "/heap_dump").status == 501
    assert "share no locks" in text(view, "/contention")


def test_init_dump_names_what_is_not_ready(view):
    view.not_ready = [("listener http", ["rds r1"]), ("cluster manager", ["eds c"])]

    assert json.loads(text(view, "/init_dump?mask=listener")) == {
        "unready_targets_dumps": [{"name": "listener http", "target_names": ["rds r1"]}]
    }


def test_clusters_as_text(view, web):
    view.cluster_list = [web]

    assert text(view, "/clusters").splitlines() == [
        "web::observability_name::web",
        "web::default_priority::max_connections::7",
        "web::default_priority::max_pending_requests::1024",
        "web::default_priority::max_requests::1024",
        "web::default_priority::max_retries::3",
        "web::high_priority::max_connections::1024",
        "web::high_priority::max_pending_requests::1024",
        "web::high_priority::max_requests::1024",
        "web::high_priority::max_retries::9",
        "web::added_via_api::false",
        "web::127.0.0.1:18099::cx_active::1",
        "web::127.0.0.1:18099::cx_connect_fail::3",
        "web::127.0.0.1:18099::cx_total::3",
        "web::127.0.0.1:18099::rq_active::0",
        "web::127.0.0.1:18099::rq_error::3",
        "web::127.0.0.1:18099::rq_pending_active::0",
        "web::127.0.0.1:18099::rq_success::0",
        "web::127.0.0.1:18099::rq_timeout::0",
        "web::127.0.0.1:18099::rq_total::0",
        "web::127.0.0.1:18099::hostname::",
        "web::127.0.0.1:18099::health_flags::healthy",
        "web::127.0.0.1:18099::weight::3",
        "web::127.0.0.1:18099::region::a",
        "web::127.0.0.1:18099::zone::b",
        "web::127.0.0.1:18099::sub_zone::c",
        "web::127.0.0.1:18099::canary::false",
        "web::127.0.0.1:18099::priority::0",
        "web::127.0.0.1:18099::success_rate::-1",
        "web::127.0.0.1:18099::local_origin_success_rate::-1",
        "web::127.0.0.2:18099::cx_active::0",
        "web::127.0.0.2:18099::cx_connect_fail::0",
        "web::127.0.0.2:18099::cx_total::0",
        "web::127.0.0.2:18099::rq_active::0",
        "web::127.0.0.2:18099::rq_error::0",
        "web::127.0.0.2:18099::rq_pending_active::0",
        "web::127.0.0.2:18099::rq_success::0",
        "web::127.0.0.2:18099::rq_timeout::0",
        "web::127.0.0.2:18099::rq_total::0",
        "web::127.0.0.2:18099::hostname::h2",
        "web::127.0.0.2:18099::health_flags::/eds_status_draining",
        "web::127.0.0.2:18099::weight::1",
        "web::127.0.0.2:18099::region::",
        "web::127.0.0.2:18099::zone::",
        "web::127.0.0.2:18099::sub_zone::",
        "web::127.0.0.2:18099::canary::true",
        "web::127.0.0.2:18099::priority::1",
        "web::127.0.0.2:18099::success_rate::-1",
        "web::127.0.0.2:18099::local_origin_success_rate::-1",
    ]


def test_clusters_with_outlier_detection_and_eds(view, web):
    web.outlier = True
    web.success_rate_average = 99.5
    web.eds_service_name = "web-eds"
    web.observability_name = "alt"
    web.hosts = []
    view.cluster_list = [web]

    lines = text(view, "/clusters").splitlines()
    assert lines[:5] == [
        "web::observability_name::alt",
        "web::outlier::success_rate_average::99.5",
        "web::outlier::success_rate_ejection_threshold::-1",
        "web::outlier::local_origin_success_rate_average::-1",
        "web::outlier::local_origin_success_rate_ejection_threshold::-1",
    ]
    assert lines[-2:] == ["web::added_via_api::false", "web::eds_service_name::web-eds"]


def test_clusters_as_json(view, web):
    view.cluster_list = [web]

    body = text(view, "/clusters?format=json")
    assert body.startswith('{\n "cluster_statuses": [\n  {\n   "name": "web",\n   "host_statuses": [\n')
    first, second = json.loads(body)["cluster_statuses"][0]["host_statuses"]
    assert first == {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 18099}},
        "stats": [
            {"value": "3", "name": "cx_connect_fail"},
            {"value": "3", "name": "cx_total"},
            {"value": "3", "name": "rq_error"},
            {"name": "rq_success"},
            {"name": "rq_timeout"},
            {"name": "rq_total"},
            {"type": "GAUGE", "value": "1", "name": "cx_active"},
            {"type": "GAUGE", "name": "rq_active"},
            {"type": "GAUGE", "name": "rq_pending_active"},
        ],
        "health_status": {"eds_health_status": "HEALTHY"},
        "weight": 3,
        "locality": {"region": "a", "zone": "b", "sub_zone": "c"},
    }
    assert second["health_status"] == {"eds_health_status": "DRAINING"}
    assert (second["hostname"], second["priority"], second["locality"]) == ("h2", 1, {})
    assert json.loads(body)["cluster_statuses"][0]["circuit_breakers"]["thresholds"][1] == {
        "priority": "HIGH",
        "max_connections": 1024,
        "max_pending_requests": 1024,
        "max_requests": 1024,
        "max_retries": 9,
    }


def test_clusters_by_name(view, web):
    view.cluster_list = [web]

    assert text(view, "/clusters?filter=^x") == ""
    assert text(view, "/clusters?filter=e.$").startswith("web::")
    refused = ask(view, "/clusters?filter=(")
    assert (refused.status, refused.body) == (400, "Invalid re2 regex")


def test_listeners(view):
    view.listener_list = [
        ListenerStatus(name="main", addresses=["127.0.0.1:1", "127.0.0.1:2"]),
        ListenerStatus(name="six", addresses=["[::1]:3"]),
        ListenerStatus(name="unix", addresses=["/run/x.sock"]),
    ]

    assert (
        text(view, "/listeners") == "main::127.0.0.1:1\nmain::127.0.0.1:2\nsix::[::1]:3\nunix::/run/x.sock\n"
    )
    assert json.loads(text(view, "/listeners?format=json")) == {
        "listener_statuses": [
            {
                "name": "main",
                "local_address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
                "additional_local_addresses": [{"socket_address": {"address": "127.0.0.1", "port_value": 2}}],
            },
            {"name": "six", "local_address": {"socket_address": {"address": "::1", "port_value": 3}}},
            {"name": "unix", "local_address": {"pipe": {"path": "/run/x.sock"}}},
        ]
    }


def test_runtime(view):
    assert text(view, "/runtime") == (
        '{\n "layers": [\n  "base",\n  "adm"\n ],\n "entries": {\n'
        '  "a.b": {\n   "final_value": "true",\n   "layer_values": [\n    "",\n    "true"\n   ]\n  },\n'
        '  "n": {\n   "final_value": "1",\n   "layer_values": [\n    "1",\n    ""\n   ]\n  }\n }\n}\n'
    )


def test_runtime_modify(view):
    assert text(view, "/runtime_modify?a=1&b=x%20y&c=", "POST") == "OK\n"
    assert view.orders == [("runtime", {"a": "1", "b": "x y", "c": ""})]
    assert ask(view, "/runtime_modify", "POST").status == 400
    assert ask(view, "/runtime_modify", "POST", body=b"a=1", content_type="text/plain").status == 400
    view.modifiable = False
    refused = ask(view, "/runtime_modify?a=1", "POST")
    assert (refused.status, refused.body) == (503, "No admin layer specified")


ACTIVE = "active loggers:\n  admin: {}\n  http: {}\n  upstream: {}\n\n"


@pytest.mark.parametrize(
    ("query", "levels"),
    [
        ("", ("info", "info", "info")),
        ("?level=debug", ("debug", "debug", "debug")),
        ("?http=trace", ("info", "trace", "info")),
        ("?paths=http:off,admin:error", ("error", "off", "info")),
        ("?level=&paths=http:off", ("info", "off", "info")),
    ],
)
def test_log_levels_are_shown_and_changed(view, query, levels):
    assert text(view, "/logging" + query, "POST") == ACTIVE.format(*levels)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("?level=loud", "unknown logger level"),
        ("?nothing=info", "unknown logger name"),
        ("?level=info&http=debug", "invalid number of parameters"),
        ("?paths=http", "empty logger name or empty logger level"),
        ("?paths=http:debug,nothing:debug", "unknown logger name"),
        ("?group=http:debug", "group parameter requires fine-grain logging to be enabled"),
    ],
)
def test_a_wrong_log_level_changes_nothing(view, query, problem):
    answer = ask(view, "/logging" + query, "POST")

    assert answer.status == 400
    assert answer.body.startswith(
        f"error: {problem}\n\nusage: /logging?<name>=<level> (change single level)\n"
    )
    assert answer.body.endswith(ACTIVE.format("info", "info", "info"))


@pytest.mark.parametrize(
    ("target", "orders"),
    [
        ("/healthcheck/fail", [("healthcheck", True)]),
        ("/healthcheck/ok", [("healthcheck", False)]),
        ("/drain_listeners", [("drain", False, False, False)]),
        ("/drain_listeners?graceful&inboundonly&skip_exit", [("drain", True, True, True)]),
        ("/reset_counters", ["reset"]),
        ("/reopen_logs", ["reopen"]),
        ("/quitquitquit", ["quit"]),
        ("/reload", [("reload", False)]),
        ("/reload?dry_run", [("reload", True)]),
        ("/cpuprofiler?enable=n", []),
        ("/stats/recentlookups/clear", []),
    ],
)
def test_orders_reach_the_process(view, target, orders):
    assert text(view, target, "POST") == "OK\n"
    assert view.orders == orders


def test_an_order_that_failed_says_why(view):
    view.outcome = Outcome(ok=False, text="envoy.yaml:3:1: wrong")

    answer = ask(view, "/reload", "POST")
    assert (answer.status, answer.body) == (400, "envoy.yaml:3:1: wrong\n")


def test_profilers_are_honest(view):
    assert ask(view, "/cpuprofiler", "POST").status == 400
    assert ask(view, "/heapprofiler?enable=y", "POST").status == 501


def test_recent_lookups_can_be_switched(view):
    async def main():
        site = Site(view)
        before = await site.answer("GET", "/stats/recentlookups")
        await site.answer("POST", "/stats/recentlookups/enable")
        return before.body, (await site.answer("GET", "/stats/recentlookups")).body

    before, after = asyncio.run(main())
    assert (
        before == "Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\ntotal: 0\n"
    )
    assert after == "   Count Lookup\n\ntotal: 0\n"
