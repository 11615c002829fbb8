"""The bootstrap's runtime says how large a pattern may be, before any pattern is read."""

import pytest
from google.protobuf.json_format import ParseDict

from weft.api.problems import Where
from weft.api.schema import message_class
from weft.proxy.assemble import server_settings
from weft.proxy.regex import REGEX_LIMITS


@pytest.mark.parametrize(("runtime", "limit"), [
    (None, 100),
    ({"layers": [{"name": "s", "static_layer": {"re2": {"max_program_size": {"error_level": 32768}}}}]}, 32768),
    ({"layers": [{"name": "s", "static_layer": {"re2.max_program_size.error_level": 7}}]}, 7),
])  # fmt: skip
def test_the_limit(runtime, limit, monkeypatch):
    monkeypatch.setattr(REGEX_LIMITS, "max_program_size", 1)
    bootstrap = message_class("envoy.config.bootstrap.v3.Bootstrap")()
    if runtime is not None:
        ParseDict({"layered_runtime": runtime}, bootstrap)

    server_settings(bootstrap, Where.nowhere())

    assert REGEX_LIMITS.max_program_size == limit
