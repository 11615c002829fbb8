"""Which streams are logged."""

from random import Random

import pytest
from google.protobuf import struct_pb2
from google.protobuf.json_format import ParseDict

from weft.api.convert import from_struct
from weft.api.problems import Where
from weft.proxy.observe import flags
from weft.proxy.observe.log_filter import log_filter
from weft.proxy.runtime import Runtime


def built(value):
    where = Where.nowhere()
    message = from_struct(
        ParseDict(value, struct_pb2.Struct()), "envoy.config.accesslog.v3.AccessLogFilter", where
    )
    filter = log_filter(message, where)
    return filter, [f"{item.path}: {item.text}" for item in where.problems.items]


def status(op, value, key=""):
    return {
        "status_code_filter": {
            "comparison": {"op": op, "value": {"default_value": value, "runtime_key": key}}
        }
    }


def duration(op, value):
    return {
        "duration_filter": {"comparison": {"op": op, "value": {"default_value": value, "runtime_key": "k"}}}
    }


def metadata(path, match, **more):
    path = [{"key": key} for key in path]
    matcher = {"filter": "f", "path": path, "value": {"string_match": {"exact": match}}}
    return {"metadata_filter": {"matcher": matcher, **more}}


YES, NO = status("GE", 200), status("GE", 500)


@pytest.mark.parametrize(("value", "passes"), [
    (status("EQ", 200), True), (status("EQ", 201), False),
    (status("GE", 200), True), (status("GE", 201), False),
    (status("LE", 200), True), (status("LE", 199), False),
    (status("NE", 200), False), (status("NE", 201), True),
    (status("GE", 500, "logs.from"), True),
    (duration("GE", 301), True), (duration("GE", 302), False), (duration("LE", 301), True),
    ({"not_health_check_filter": {}}, True),
    ({"traceable_filter": {}}, False),
    ({"and_filter": {"filters": [YES, YES]}}, True), ({"and_filter": {"filters": [YES, NO]}}, False),
    ({"or_filter": {"filters": [NO, YES]}}, True), ({"or_filter": {"filters": [NO, NO]}}, False),
    ({"and_filter": {"filters": [YES, {"or_filter": {"filters": [NO, YES]}}]}}, True),
    ({"header_filter": {"header": {"name": "user-agent", "string_match": {"prefix": "curl/"}}}}, True),
    ({"header_filter": {"header": {"name": ":method", "string_match": {"exact": "POST"}}}}, False),
    ({"header_filter": {"header": {"name": "x-kind", "present_match": True}}}, False),
    ({"response_flag_filter": {}}, True), ({"response_flag_filter": {"flags": ["UF"]}}, True),
    ({"response_flag_filter": {"flags": ["UO", "NR"]}}, False),
    ({"grpc_status_filter": {"statuses": ["NOT_FOUND"]}}, True), ({"grpc_status_filter": {"statuses": ["OK"]}}, False),
    ({"grpc_status_filter": {"statuses": ["NOT_FOUND"], "exclude": True}}, False),
    (metadata(["text"], "a\nb"), True), (metadata(["text"], "x"), False),
    (metadata(["none-such"], "x"), True), (metadata(["none-such"], "x", match_if_key_not_found=False), False),
    ({"metadata_filter": {"match_if_key_not_found": False}}, False), ({"metadata_filter": {}}, True),
    ({"log_type_filter": {"types": ["DownstreamEnd"]}}, True), ({"log_type_filter": {"types": ["DownstreamStart"]}}, False),
    ({"log_type_filter": {"types": ["DownstreamStart"], "exclude": True}}, True),
])  # fmt: skip
def test_verdicts(info, clock, value, passes):
    info.flags = flags.UPSTREAM_CONNECTION_FAILURE
    info.response.headers.add("grpc-status", "5")
    filter, problems = built(value)

    assert problems == []
    assert filter.passes(info, clock, Runtime({"logs.from": 100}), Random(1)) is passes


@pytest.mark.parametrize(("value", "passes"), [
    (status("EQ", 0), True),
    ({"response_flag_filter": {}}, False),
    ({"header_filter": {"header": {"name": "x", "present_match": False}}}, True),
    ({"grpc_status_filter": {"statuses": ["UNKNOWN"]}}, True),
    ({"log_type_filter": {"types": ["NotSet"]}}, True),
])  # fmt: skip
def test_connections_without_requests(bare, clock, value, passes):
    filter, _ = built(value)

    assert filter.passes(bare, clock, Runtime(), Random(1)) is passes


def test_a_share_is_decided_by_the_request_id(info, clock):
    share = {"percent_sampled": {"numerator": 50}, "runtime_key": "share"}
    filter, _ = built({"runtime_filter": share})
    chance = Random(1)
    passed = {}
    for number in range(200):
        info.request.headers.set("x-request-id", f"{number:08x}-2222-4333-8444-555555555555")
        passed[number] = [filter.passes(info, clock, Runtime(), chance) for _ in range(2)]

    assert passed == {number: [number % 100 < 50] * 2 for number in range(200)}
    assert filter.passes(info, clock, Runtime({"share": 100}), chance)
    assert not filter.passes(info, clock, Runtime({"share": 0}), chance)


def test_a_share_without_ids_is_left_to_chance(info, bare, clock):
    independent, _ = built(
        {
            "runtime_filter": {
                "percent_sampled": {"numerator": 50},
                "runtime_key": "k",
                "use_independent_randomness": True,
            }
        }
    )
    chance = Random(1)

    seen = {independent.passes(info, clock, Runtime(), chance) for _ in range(100)}
    seen_bare = {independent.passes(bare, clock, Runtime(), chance) for _ in range(100)}

    assert seen == seen_bare == {True, False}


@pytest.mark.parametrize(("value", "problem"), [
    ({}, ": an access log filter without a kind"),
    ({"extension_filter": {"name": "x"}}, ": not supported yet: access log filter extension_filter"),
    ({"or_filter": {"filters": [YES, {}]}}, "or_filter.filters[1]: an access log filter without a kind"),
    ({"response_flag_filter": {"flags": ["UF", "ZZ"]}}, "response_flag_filter.flags[1]: unknown response flag 'ZZ'"),
])  # fmt: skip
def test_what_is_refused(value, problem):
    _, problems = built(value)

    assert problems == [problem]
