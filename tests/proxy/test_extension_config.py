"""From a named, typed piece of configuration to a kind and its settings."""

import pytest

from weft.api.problems import Problems
from weft.api.schema import message_class
from weft.proxy.extension_config import resolve

ECHO = "envoy.extensions.filters.network.echo.v3.Echo"


def _filter(name="echo", type_name=ECHO, kind="envoy.config.listener.v3.Filter", **fields):
    message = message_class(kind)(name=name, **fields)
    if type_name:
        message.typed_config.type_url = f"type.googleapis.com/{type_name}"
    return message


def _resolve(category, message):
    problems = Problems()
    found = resolve(category, message, problems.where.field("filters").item(0))
    return found, [f"{problem.path}: {problem.text}" for problem in problems.items]


def test_the_type_decides_and_the_name_is_for_people():
    found, problems = _resolve("network_filter", _filter(name="whatever"))

    assert problems == []
    assert found is not None
    assert found[0].name == "envoy.filters.network.echo"


@pytest.mark.parametrize(
    ("category", "message", "problem"),
    [
        pytest.param("network_filter", _filter(type_name=""), "filters[0]: extension 'echo' has no typed_config, so it is not known what it is", id="no-type"),
        pytest.param(
            "network_filter",
            _filter("envoy.filters.network.ech", "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy"),
            "filters[0]: extension 'envoy.filters.network.ech' (type envoy.extensions.filters.network.redis_proxy.v3.RedisProxy) is not"
            " supported by this version of Weft; did you mean 'envoy.filters.network.echo'?",
            id="unknown",
        ),
        pytest.param(
            "http_filter",
            _filter("lua", "envoy.extensions.filters.http.lua.v3.Lua", "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter", is_optional=True),
            None,
            id="unknown-but-optional",
        ),
        pytest.param(
            "http_filter",
            _filter("lua", "", "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter", is_optional=True),
            None,
            id="no-type-but-optional",
        ),
    ],
)  # fmt: skip
def test_nothing_comes_of_it(category, message, problem):
    found, problems = _resolve(category, message)

    assert found is None
    assert problems == ([problem] if problem else [])


def test_discovery_is_named():
    message = _filter(type_name="")
    message.config_discovery.SetInParent()
    _, problems = _resolve("network_filter", message)

    assert problems == ["filters[0].config_discovery: not supported yet: extension configuration by discovery (ECDS)"]


def test_bytes_that_are_not_the_type():
    message = _filter()
    message.typed_config.value = b"\xff\xff"
    _, problems = _resolve("network_filter", message)

    assert len(problems) == 1
    assert problems[0].startswith("filters[0].typed_config: ")
