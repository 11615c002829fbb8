"""From the connection manager's message to settings: what is taken, what is refused, and where."""

import pytest
import yaml

from weft.api.load import load_bootstrap
from weft.api.problems import ConfigError
from weft.proxy.assemble import server_settings
from weft.proxy.http.settings import UpgradeSettings
from weft.proxy.process.options import Options
from weft.testing.bootstraps import bootstrap, listener

MANAGER = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config"
ROUTER = {
    "name": "router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}


def manager(**fields):
    """(settings, problems) of a connection manager with these fields."""
    web = listener()
    web["filter_chains"][0]["filters"][0]["typed_config"].update(fields)
    try:
        loaded = load_bootstrap(None, bootstrap(web))
        settings = server_settings(loaded.bootstrap, loaded.problems.where, Options())
    except ConfigError as error:
        return None, {(problem.path, problem.text) for problem in error.problems}
    problems = {(problem.path, problem.text) for problem in loaded.problems.items}
    return settings.listeners[0].filter_chains[0].filters[0].settings, problems


@pytest.mark.parametrize(("fields", "attribute", "value"), [
    pytest.param({}, "stream_idle_timeout", 300.0, id="stream-idle-default"),
    pytest.param({"stream_idle_timeout": "0s"}, "stream_idle_timeout", 0.0, id="stream-idle-off"),
    pytest.param({}, "idle_timeout", 3600.0, id="idle-default"),
    pytest.param({"common_http_protocol_options": {"idle_timeout": "0.5s"}}, "idle_timeout", 0.5, id="idle"),
    pytest.param({}, "delayed_close_timeout", 1.0, id="delayed-close-default"),
    pytest.param({}, "drain_timeout", 5.0, id="drain-default"),
    pytest.param({}, "server_name", b"envoy", id="server-default"),
    pytest.param({"server_name": "gate"}, "server_name", b"gate", id="server"),
    pytest.param({}, "generate_request_id", True, id="request-id-default"),
    pytest.param({"use_remote_address": True}, "use_remote_address", True, id="edge"),
    pytest.param({"path_with_escaped_slashes_action": "REJECT_REQUEST"}, "escaped_slashes", 1, id="slashes-reject"),
    pytest.param({"path_with_escaped_slashes_action": "KEEP_UNCHANGED"}, "escaped_slashes", 0, id="slashes-keep"),
    pytest.param({"upgrade_configs": [{"upgrade_type": "WebSocket"}]}, "upgrades", {b"websocket": UpgradeSettings(enabled=True)}, id="upgrade"),
    pytest.param(
        {"http_protocol_options": {"allow_absolute_url": False}}, "allow_absolute_url", False, id="absolute-off"
    ),
])  # fmt: skip
def test_what_becomes_of_a_field(fields, attribute, value):
    settings, problems = manager(**fields)

    assert problems == set()
    assert getattr(settings, attribute) == value


def test_limits_of_heads():
    settings, _ = manager(max_request_headers_kb=16, common_http_protocol_options={"max_headers_count": 7})

    assert (settings.options.max_head, settings.options.max_fields) == (16 * 1024, 7)


@pytest.mark.parametrize(("fields", "place", "text"), [
    pytest.param(
        {"codec_type": "HTTP2"}, ".codec_type",
        "not supported yet: only HTTP1 and AUTO (which is HTTP/1 here)", id="http2",
    ),
    pytest.param(
        {"tracing": {}}, ".tracing", "not supported yet: tracing of the HTTP connection manager", id="tracing"
    ),
    pytest.param(
        {"http_filters": [ROUTER, ROUTER]}, ".http_filters[0]",
        "Error: terminal filter named router of type envoy.filters.http.router must be the last filter in a http filter chain.",
        id="router-not-last",
    ),
    pytest.param(
        {"strip_any_host_port": True, "strip_matching_host_port": True}, "",
        "strip_matching_host_port and strip_any_host_port exclude each other", id="both-strips",
    ),
    pytest.param(
        {"upgrade_configs": [{"upgrade_type": "a"}, {"upgrade_type": "A"}]}, ".upgrade_configs[1]",
        "Error: multiple upgrade configs with the same name: 'A'", id="upgrade-twice",
    ),
    pytest.param(
        {"upgrade_configs": [{"upgrade_type": "CONNECT-UDP"}]}, ".upgrade_configs[0].upgrade_type",
        "not supported yet: CONNECT-UDP", id="connect-udp",
    ),
    pytest.param(
        {"upgrade_configs": [{"upgrade_type": "a", "filters": [ROUTER, ROUTER]}]}, ".upgrade_configs[0].filters[0]",
        "Error: terminal filter named router of type envoy.filters.http.router must be the last filter in a http upgrade filter chain.",
        id="router-of-an-upgrade-not-last",
    ),
    pytest.param(
        {"http2_protocol_options": {"max_header_field_size_kb": 128}},
        ".http2_protocol_options.max_header_field_size_kb",
        "max_header_field_size_kb must not exceed max_request_headers_kb", id="field-larger-than-head",
    ),
])  # fmt: skip
def test_what_is_refused_and_where(fields, place, text):
    _, problems = manager(**fields)

    assert (MANAGER + place, text) in problems


def test_what_has_no_effect_is_told():
    _, problems = manager(stream_flush_timeout="5s")

    assert problems == {
        (f"{MANAGER}.stream_flush_timeout", "read, but without effect in this version of Weft")
    }


def test_a_problem_has_its_line():
    text = yaml.safe_dump(yaml.safe_load(bootstrap(listener(tracing_typo=1))))
    with pytest.raises(ConfigError) as raised:
        load_bootstrap(None, text)

    line = next(i for i, row in enumerate(text.splitlines(), 1) if "tracing_typo" in row)
    assert [problem.line for problem in raised.value.problems] == [line]
