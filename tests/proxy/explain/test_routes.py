"""Why this route, why not the others, and what would have made it another one."""

import pytest

from weft.proxy.explain.explanation import FAILED, NOT_REACHED, SHADOWED, TAKEN


def test_every_route_is_told_in_order(asked, to):
    routes = [to("api", {"path": "/api"}), to("v2", {"prefix": "/", "headers": [{"name": "x-v", "string_match": {"exact": "2"}}]}),
              to("all", {"prefix": "/"}), to("late", {"prefix": "/a"}), to("other", {"prefix": "/b"})]  # fmt: skip

    told = asked(routes, "http://a/a", headers={"x-v": "1"}).routes

    assert [(route.name, route.outcome) for route in told.tried] == [
        ("api", FAILED), ("v2", FAILED), ("all", TAKEN), ("late", SHADOWED), ("other", NOT_REACHED)
    ]  # fmt: skip
    assert (told.count, told.taken, told.left_out) == (5, 2, 0)
    path, header = told.tried[0].failed, told.tried[1].failed
    assert (path.kind, path.wanted, path.seen) == ("path", "path /api", ("/a",))
    assert (header.kind, header.wanted, header.seen) == ("header", "header x-v is '2'", ("1",))


PATHS = [
    pytest.param({"path": "/api"}, "/api/", "a trailing slash too many", "ask for /api,", id="slash-too-many"),
    pytest.param({"path": "/api/"}, "/api", "a trailing slash is missing", "ask for /api/,", id="slash-missing"),
    pytest.param({"prefix": "/api/"}, "/api", "a trailing slash is missing", "ask for /api/,", id="prefix-slash"),
    pytest.param({"path": "/api"}, "/API", "differs only in case", "case_sensitive: false", id="case"),
    pytest.param({"prefix": "/Api"}, "/api/x", "differs only in case", "case_sensitive: false", id="prefix-case"),
    pytest.param({"path": "/api"}, "/api/x", "below that path", "path_separated_prefix", id="below"),
    pytest.param({"path": "/a/b"}, "/a//b", "a slash is doubled", "merge_slashes", id="doubled"),
    pytest.param({"path": "/a/b"}, "/a/./b", "not in its normal form", "normalize_path", id="normal-form"),
    pytest.param({"path": "/a/b"}, "/a;x=1/b", "it has ;parameters", "ignore_path_parameters", id="parameters"),
    pytest.param({"path": "/a(b"}, "/a%28b", "%-escapes", "without escapes", id="escapes"),
    pytest.param({"safe_regex": {"regex": "/item/[0-9]+"}}, "/item/12/x", "ends at /item/12", "end the pattern in .*", id="regex-whole"),
    pytest.param({"safe_regex": {"regex": "/item/[a-z]+"}}, "/Item/AB", "differs only in case", "case", id="regex-case"),
]  # fmt: skip


@pytest.mark.parametrize(("match", "path", "hint", "remedy"), PATHS)
def test_a_small_difference_of_the_path(asked, to, match, path, hint, remedy):
    told = asked([to("r", match)], f"http://a{path}?q=1")

    assert not told.matched
    assert hint in told.routes.tried[0].failed.hint
    assert remedy in told.nearest.remedy


CONDITIONS = [
    pytest.param({"headers": [{"name": "x-v", "string_match": {"exact": "Two"}}]}, {"x-v": "two"}, "/", "only in case", "send x-v: Two, or set ignore_case: true", id="case"),
    pytest.param({"headers": [{"name": "x-v", "string_match": {"exact": "2"}}]}, {}, "/", "", "send x-v: 2", id="missing"),
    pytest.param({"headers": [{"name": "x-version", "string_match": {"exact": "2"}}]}, {"x-verson": "2"}, "/", "the request has x-verson: is that a slip?", "send x-version: 2", id="slip"),
    pytest.param({"headers": [{"name": "x-v", "present_match": True}]}, {}, "/", "", "send header x-v", id="present"),
    pytest.param({"headers": [{"name": "x-v", "present_match": False}]}, {"x-v": "1"}, "/", "", "leave out header x-v", id="absent"),
    pytest.param({"headers": [{"name": "x-v", "string_match": {"exact": "1"}, "invert_match": True}]}, {"x-v": "1"}, "/", "", "it wants that not (header x-v is '1')", id="invert"),
    pytest.param({"headers": [{"name": "x-v", "string_match": {"exact": "1"}}]}, {"x-v": '"1"'}, "/", "quotes", "send x-v: 1", id="quotes"),
    pytest.param({"headers": [{"name": "x-v", "string_match": {"safe_regex": {"regex": "v[0-9]"}}}]}, {"x-v": "v12"}, "/", "a part of it", "", id="regex-part"),
    pytest.param({"headers": [{"name": "x-v", "string_match": {"safe_regex": {"regex": "v[0-9]"}}}]}, {"x-v": "V1"}, "/", "only in case", "", id="regex-case"),
    pytest.param({"headers": [{"name": ":method", "string_match": {"exact": "POST"}}]}, {}, "/", "", "use the method POST", id="method"),
    pytest.param({"query_parameters": [{"name": "debug", "string_match": {"exact": "on"}}]}, {}, "/?debgu=on", "the request has debgu", "it wants that query parameter debug is 'on'", id="query-slip"),
    pytest.param({"query_parameters": [{"name": "q", "string_match": {"exact": "a b"}}]}, {}, "/?q=a%20b", "%-escapes", "", id="query-escape"),
    pytest.param({"cookies": [{"name": "user", "string_match": {"prefix": "Beta"}}]}, {"cookie": "user=beta1"}, "/", "only in case", "", id="cookie"),
    pytest.param({"grpc": {}}, {"content-type": "text/plain"}, "/", "", "send content-type: application/grpc", id="grpc"),
    pytest.param({"runtime_fraction": {"default_value": {"numerator": 0}}}, {}, "/", "chance", "luck", id="share"),
    pytest.param({"tls_context": {"presented": True}}, {}, "/", "", "client certificate", id="tls"),
    pytest.param({"dynamic_metadata": [{"filter": "ns", "path": [{"key": "k"}], "value": {"string_match": {"exact": "v"}}}]}, {}, "/", "", "metadata ns:k is 'v'", id="metadata"),
    pytest.param({"filter_state": [{"key": "k", "string_match": {"exact": "v"}}]}, {}, "/", "", "filter state k is 'v'", id="filter-state"),
]  # fmt: skip


@pytest.mark.parametrize(("match", "headers", "path", "hint", "remedy"), CONDITIONS)
def test_a_condition_that_fails(asked, to, match, headers, path, hint, remedy):
    told = asked([to("r", {"prefix": "/", **match})], f"http://a{path}", headers=headers)

    failed = told.routes.tried[0].failed
    assert not told.matched
    assert hint in failed.hint
    assert remedy in told.nearest.remedy
    assert failed.kind != "condition"


def test_several_values_of_a_header(asked, to):
    routes = [to("r", {"prefix": "/", "headers": [{"name": "x-v", "string_match": {"exact": "1"}}]})]

    told = asked(routes, "http://a/", headers={"x-v": ["2", "3"]})

    assert told.routes.tried[0].failed.seen == ("2", "3")


def test_a_share_by_runtime(asked, to):
    match = {"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 100}, "runtime_key": "k"}}

    told = asked([to("r", match)], "http://a/", random=160, runtime={"k": "50"})

    assert told.routes.tried[0].failed.seen == ("60, and runtime says 50 of 100",)


def test_the_nearest_miss_is_the_one_with_the_smallest_difference(asked, to):
    header = {"name": "x-v", "string_match": {"exact": "2"}}
    query = {"name": "q", "present_match": True}
    routes = [to("far", {"prefix": "/else"}), to("two", {"prefix": "/api", "headers": [header], "query_parameters": [query]}),
              to("one", {"prefix": "/api", "headers": [header]}), to("all", {"prefix": "/"})]  # fmt: skip

    told = asked(routes, "http://a/api")

    assert (told.nearest.name, len(told.nearest.failures)) == ("one", 1)
    assert told.routes.taken == 3


def test_nothing_is_near(asked, to):
    assert asked([to("r", {"prefix": "/something"})], "http://a/else").nearest is None


def test_a_long_list_is_told_in_part(asked, to):
    routes = [to(f"r{i}", {"prefix": f"/service/{i:04}/"}) for i in range(1000)]
    routes += [to("by-header", {"prefix": "/", "headers": [{"name": "x", "present_match": True}]}), to("all", {"prefix": "/"})]

    told = asked(routes, "http://a/service/0500")
    every = asked(routes, "http://a/service/0500", all=True).routes

    shown = [route.name for route in told.routes.tried]
    assert len(shown) <= 20
    assert {"r500", "by-header", "all"} <= set(shown)
    assert (told.nearest.name, told.routes.taken) == ("r500", 1001)
    assert (told.routes.count, told.routes.left_out) == (1002, 1002 - len(shown))
    assert (len(every.tried), every.left_out) == (1002, 0)
