"""Explanations as text, and as the JSON that is documented.

What whole pages look like stands in docs/explain.md and docs/how-weft-routes.md, which the tests run.
"""

import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from weft.proxy.explain import explanation
from weft.proxy.explain.explanation import as_json, restored
from weft.proxy.explain.question import question
from weft.proxy.explain.text import render

PAGE = (Path(__file__).parents[3] / "docs" / "explain.md").read_text()


def test_a_page_in_full(asked, to):
    action = {
        "cluster_header": "x-to", "timeout": "0s", "idle_timeout": "60s", "priority": "HIGH", "auto_host_rewrite": True,
        "max_stream_duration": {"max_stream_duration": "90s"}, "hash_policy": [{"header": {"header_name": "x-user"}}],
        "retry_policy": {"retry_on": "retriable-status-codes", "retriable_status_codes": [418], "per_try_timeout": "0.5s"},
        "request_mirror_policies": [{"cluster": "m"}],
    }  # fmt: skip
    remove = {"request_headers_to_remove": ["x-old"], "response_headers_to_remove": ["x-out"]}
    cluster = {"name": "all", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]}
    host = {"name": "v", "domains": ["*"], "virtual_clusters": [cluster], "routes": [to("r", {"prefix": "/"}, route=action, **remove)]}

    told = asked({"name": "t", "virtual_hosts": [host]}, "http://a/x", headers={"x-to": "c", "x-old": "1"})

    assert render([told]) == """\
GET http://a/x  (table t)

virtual hosts for a
  ✓ v  *  any name

routes of v (1 route)
  ✓ #0 r  prefix /  forward to header x-to

plan
  forward (route r)
  cluster          c (named by header x-to)
  path             /x
  host             a, or the host name of the upstream host
  timeout          none, idle 60 s
  at most          90 s
  priority         high
  retry policy     retriable-status-codes (418), 1 times, 0.5 s each
  hash of          header x-user
  mirrored to      m, as a-shadow
  request header   x-old removed
  request header   x-envoy-expected-rq-timeout-ms: 500
  virtual cluster  all
  response header  x-out removed
"""


def test_admission_and_failures_of_all_kinds(asked, managed, to):
    header = {"name": "x-v", "string_match": {"exact": "1"}}
    routes = [to("", {"prefix": "/b", "headers": [header]}), to("", {"prefix": "/", "runtime_fraction": {"default_value": {}}})]
    told = asked(
        managed({"normalize_path": True}, routes), "http://a/c/../b", headers=[["x-v", "2"], ["x-v", "3"], ["x-envoy-internal", "true"]]
    )

    text = render([told])

    assert "admission\n  path normalized: /c/../b -> /b\n  header x-envoy-internal: removed, it was true\n" in text
    assert "header x-v is '1': they are '2', '3'" in text
    assert "0 of 100 requests: the random number is 0; chance" in text


def test_what_is_left_out(asked, to):
    hosts = [{"name": f"h{i}", "domains": [f"{i}.test"]} for i in range(30)]
    many = {"virtual_hosts": [*hosts, {"name": "all", "domains": ["*"], "routes": [to("", {"prefix": f"/{i}/"}) for i in range(30)]}]}

    text = render([asked(many, "http://unknown/x")])

    assert "    30 others have no domain that fits (--all shows them)\n" in text
    assert "    30 others do not fit by their path, or were not reached (--all shows them)\n" in text


def test_several_are_apart(asked, to):
    told = asked([to("r", {"prefix": "/"})], "http://a/")

    assert render([told, told]) == render([told]) + "\n" + render([told])


def test_colour(asked, to):
    told = asked([to("no", {"prefix": "/no"}), to("yes", {"prefix": "/"})], "http://a/")

    text = render([told], colour=True)

    assert "\033[32m✓\033[0m" in text
    assert "\033[31m✗\033[0m" in text
    assert re.sub("\033\\[[0-9]+m", "", text) == render([told])


@pytest.mark.parametrize("colour", [True, False])
def test_a_request_does_not_steer_the_terminal(asked, to, colour):
    header = {"name": "x-v", "string_match": {"exact": "1"}}
    evil = "\x1b]0;title\x07\u202e"
    routes = [to("r\x1b[2J", {"prefix": "/", "headers": [header]})]

    text = render([asked(routes, "http://a/", headers={"x-v": evil})], colour=colour)

    assert "\x1b]" not in text
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert "\u202e" not in text


# -- the documented JSON ---------------------------------------------------------------------------


def test_every_field_is_documented():
    kinds = [kind for kind in vars(explanation).values() if is_dataclass(kind)]
    documented = set(re.findall(r"`([a-z_.]+)`", PAGE))
    names = {field.name for kind in kinds for field in fields(kind)}

    assert len(kinds) > 15
    assert names - {name.rpartition(".")[2] for name in documented} == set()


def test_the_documented_question_can_be_asked():
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)

    assert question(json.loads(block)).line == "GET http://shop.example.com/cart"


def test_there_and_back(asked, to):
    told = asked([to("r", {"prefix": "/x"})], "http://a/")
    value = json.loads(as_json([told]))["explanations"][0]

    assert restored(value) == told
    assert restored({**value, "of a newer version": 1}) == told


@pytest.mark.parametrize("value", [None, [], {}, {"matched": 1, "asked": "", "table": "", "plan": {"action": ""}}])
def test_what_is_no_explanation(value):
    with pytest.raises(ValueError, match="not an explanation"):
        restored(value)
