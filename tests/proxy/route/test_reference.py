"""Random tables against a reference that does everything the slow and obvious way."""

import string

from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.api.problems import Where
from weft.api.schema import message_class
from weft.http.path import without_query
from weft.proxy.matchers import cookie_matcher, header_matcher
from weft.proxy.route.domains import Domains
from weft.proxy.route.match import PathMatch
from weft.proxy.route.path_index import PathIndex
from weft.proxy.runtime import Runtime

TEXT = st.text(alphabet="/abA", min_size=1, max_size=4).map(lambda text: "/" + text.lstrip("/"))
VALUE = st.sampled_from(["", "a", "b", "ab", "A"])


def strings(draw):
    kind = draw(st.sampled_from(["exact", "prefix", "suffix", "contains"]))
    return {kind: draw(st.sampled_from(["a", "b", "ab"])), "ignore_case": draw(st.booleans())}


@st.composite
def matches(draw):
    kind = draw(st.sampled_from(["prefix", "prefix", "path", "path_separated_prefix", "safe_regex"]))
    text = draw(TEXT)
    match = {kind: {"regex": text + "*"} if kind == "safe_regex" else text}
    if draw(st.booleans()):
        match["case_sensitive"] = draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        header = {"name": draw(st.sampled_from(["x-a", "x-b"]))}
        if draw(st.booleans()):
            header["string_match"] = strings(draw)
        header["invert_match"] = draw(st.booleans())
        header["treat_missing_header_as_empty"] = draw(st.booleans())
        match["headers"] = [header]
    if draw(st.integers(0, 3)) == 0:
        parameter = {"name": draw(st.sampled_from(["a", "b"]))}
        if draw(st.booleans()):
            parameter["string_match"] = strings(draw)
        match["query_parameters"] = [parameter]
    return match


def string_holds(matcher, value):
    (kind, wanted), *_ = ((k, v) for k, v in matcher.items() if k != "ignore_case")
    if matcher["ignore_case"]:
        value, wanted = value.lower(), wanted.lower()
    return {
        "exact": value == wanted, "prefix": value.startswith(wanted), "suffix": value.endswith(wanted), "contains": wanted in value,
    }[kind]  # fmt: skip


def header_holds(header, fields):
    values = [value for name, value in fields if name == header["name"]]
    if not values and header["treat_missing_header_as_empty"]:
        values = [""]
    if "string_match" not in header:
        return bool(values) != header["invert_match"]
    if not values:
        return False
    return any(string_holds(header["string_match"], value) for value in values) != header["invert_match"]


def query_holds(parameter, path):
    _, _, query = path.partition("?")
    values = [part.partition("=")[2] for part in query.split("&") if part.partition("=")[0] == parameter["name"]]
    if "?" not in path or not values:
        return False
    return "string_match" not in parameter or string_holds(parameter["string_match"], values[0])


def path_holds(match, path):
    path = without_query(path.encode()).decode()
    fold = match.get("case_sensitive") is False and "safe_regex" not in match
    if "safe_regex" in match:
        base = match["safe_regex"]["regex"][:-1]
        return path.startswith(base[:-1]) and set(path[len(base) - 1 :]) <= {base[-1]}
    kind = next(k for k in ("prefix", "path", "path_separated_prefix") if k in match)
    text = match[kind]
    if fold:
        text, path = text.lower(), path.lower()
    if kind == "prefix":
        return path.startswith(text)
    if kind == "path":
        return path == text
    return path == text or path.startswith(text + "/")


def holds(match, path, fields):
    return (
        path_holds(match, path)
        and all(header_holds(header, fields) for header in match.get("headers", ()))
        and all(query_holds(parameter, path) for parameter in match.get("query_parameters", ()))
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(matches(), min_size=1, max_size=30),
    st.lists(
        st.tuples(
            TEXT,
            st.sampled_from(["", "?", "?a", "?a=ab", "?b=1&a=A", "?a=b&a=a"]),
            st.lists(st.tuples(st.sampled_from(["x-a", "x-b"]), VALUE), max_size=3),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_the_same_route_as_the_slow_way(data_routes, data_requests):
    table, request_of, info_of = parts(data_routes)
    for path, query, fields in data_requests:
        request = request_of(path + query, fields)
        wanted = next((i for i, match in enumerate(data_routes) if holds(match, path + query, fields)), None)

        found = table.find(request, info_of(), 0, Runtime())

        assert (None if found is None else int(found.name)) == wanted, (path, query, fields)


def parts(matches):
    """Hypothesis does not go well with function-scoped fixtures, so the parts are made here."""
    from weft.http.headers import Headers
    from weft.http.message import Request
    from weft.proxy.address import NOWHERE
    from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
    from weft.proxy.route.table import route_table

    routes = [{"name": str(i), "match": match, "direct_response": {"status": 200}} for i, match in enumerate(matches)]
    config = {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]}
    where = Where.nowhere()
    table = route_table(ParseDict(config, message_class("envoy.config.route.v3.RouteConfiguration")()), where)
    assert where.problems.items == []

    def request_of(path, fields):
        return Request(b"GET", path.encode(), b"h", b"http", Headers.of([(n.encode(), v.encode()) for n, v in fields]))

    return table, request_of, lambda: StreamInfo(ConnectionInfo(1, 0.0, NOWHERE, NOWHERE), 0.0)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.text(string.ascii_lowercase[:2] + "/", max_size=4), st.booleans()), max_size=40),
    st.binary(max_size=8) | st.text("ab/?", max_size=6).map(str.encode),
)
def test_the_index_misses_nothing(texts, path):
    matches = [PathMatch(kind, text.encode(), ignore_case=fold) for kind, text, fold in texts if kind != 3]
    candidates = PathIndex(matches).candidates(path)

    assert candidates == sorted(set(candidates))
    assert {i for i, match in enumerate(matches) if match.matches(path, b"GET")} <= set(candidates)


HOST = st.text(alphabet="ab.-A", min_size=1, max_size=6)
DOMAIN = st.one_of(HOST, HOST.map(lambda text: "*" + text), HOST.map(lambda text: text + "*"), st.just("*"))


def best(domains, host):
    """As the documentation has it: exact, then the longest suffix, then the longest prefix, then any."""
    host = host.lower()
    lower = [domain.lower() for domain in domains]
    exact = [domain for domain in lower if "*" not in domain and domain == host]
    suffixes = [d for d in lower if d.startswith("*") and d != "*" and host.endswith(d[1:]) and len(host) >= len(d)]
    prefixes = [d for d in lower if d.endswith("*") and d != "*" and host.startswith(d[:-1]) and len(host) >= len(d)]
    for found in (exact, sorted(suffixes, key=len)[-1:], sorted(prefixes, key=len)[-1:]):
        if found:
            return found[0]
    return "*" if "*" in lower else None


@given(st.lists(DOMAIN, max_size=12, unique_by=str.lower), st.lists(HOST, min_size=1, max_size=6))
def test_the_domain_that_the_documentation_says(domains, hosts):
    table = Domains()
    assert all(table.add(domain.encode(), domain.lower()) for domain in domains)

    for host in hosts:
        assert table.find(host.encode()) == best(domains, host), host


@given(st.lists(DOMAIN, min_size=1, max_size=8))
def test_a_domain_may_stand_once(domains):
    table = Domains()
    seen = set()
    for domain in domains:
        assert table.add(domain.encode(), domain) is (domain.lower() not in seen)
        seen.add(domain.lower())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(matches(), min_size=12, max_size=40),
    st.lists(st.text(alphabet="/abA", min_size=1, max_size=6).map(lambda text: "/" + text), min_size=1, max_size=10),
)
def test_with_the_index_and_without_it(routes, paths):
    table, request_of, info_of = parts(routes)
    (host,) = table.virtual_hosts
    assert host._index is not None

    for path in paths:
        request = request_of(path, [("x-a", "ab")])
        found = table.find(request, info_of(), 0, Runtime())

        tried = (r for r in host.routes if r.match.matches(path.encode(), request, info_of(), 0, Runtime()))
        assert found is next(tried, None), path


def message(kind, **fields):
    return ParseDict(fields, message_class(f"envoy.config.route.v3.{kind}")())


def request_with(*fields):
    _, request_of, _ = parts([{"prefix": "/"}])
    return request_of("/", fields)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "A"]), st.sampled_from(["", "a", "b", '"a"'])), max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_cookies(pairs, invert, one_header):
    matcher = cookie_matcher(
        message("CookieMatcher", name="a", string_match={"exact": "a"}, invert_match=invert), Where.nowhere()
    )
    texts = [f"{name}={value}" for name, value in pairs]
    fields = [("cookie", "; ".join(texts))] if one_header and texts else [("cookie", text) for text in texts]

    values = [value.strip('"') for name, value in pairs if name == "a"]
    wanted = (bool(values) and values[0] == "a") != invert
    assert matcher.matches(request_with(*fields).headers) is wanted


@settings(deadline=None)
@given(st.one_of(st.integers(-12, 12).map(str), st.sampled_from(["", "x", "1.5", "+3", "0x1", " 2"])), st.booleans())
def test_numbers(value, invert):
    matcher = header_matcher(
        message("HeaderMatcher", name="n", range_match={"start": -10, "end": 10}, invert_match=invert), Where.nowhere()
    )

    try:
        inside = -10 <= int(value) < 10
    except ValueError:
        inside = False
    assert matcher.matches(request_with(("n", value))) is (inside != invert)
