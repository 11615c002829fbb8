"""Matcher trees: every input, predicate and kind of tree, what Envoy refuses, and what is told of it."""

import pytest
from google.protobuf.json_format import ParseDict

from weft.api.problems import Where
from weft.api.schema import find_type, message_class, schema
from weft.http.headers import Headers
from weft.http.message import Request, Response
from weft.proxy.address import Address
from weft.proxy.matching.build import DEEPEST, actions_of, matcher_tree
from weft.proxy.matching.inputs import Subject
from weft.proxy.matching.trace import NO, UNDECIDED, YES
from weft.proxy.matching.tree import INCONCLUSIVE, explain
from weft.proxy.matching.vocabulary import HTTP_INPUTS, NETWORK_INPUTS, Grammar
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
from weft.proxy.runtime import Runtime

T = "type.googleapis.com/"
NETWORK = "envoy.extensions.matching.common_inputs.network.v3."
SSL = "envoy.extensions.matching.common_inputs.ssl.v3."
HTTP = "envoy.type.matcher.v3."
TESTS = "envoy.extensions.matching.input_matchers."
TEXT = "google.protobuf.StringValue"

TEXTS = Grammar(inputs=HTTP_INPUTS, actions={TEXT: lambda message, where: message.value})


def typed(type, **fields):
    return {"name": "x", "typed_config": {"@type": T + type, **fields}}


def header(name="x-a"):
    return typed(HTTP + "HttpRequestHeaderMatchInput", header_name=name)


def action(text, **fields):
    return {"action": typed(TEXT, value=text), **fields}


def single(input, **matcher):
    return {"single_predicate": {"input": input, **(matcher or {"value_match": {"exact": "1"}})}}


def entry(predicate, on_match):
    return {"predicate": predicate, "on_match": on_match}


def listed(*entries, **rest):
    return {"matcher_list": {"matchers": list(entries)}, **rest}


def exact(input, branches, **rest):
    return {"matcher_tree": {"input": input, "exact_match_map": {"map": branches}}, **rest}


def prefixed(input, branches, **rest):
    return {"matcher_tree": {"input": input, "prefix_match_map": {"map": branches}}, **rest}


def custom(input, type, **config):
    rest = {"on_no_match": config.pop("on_no_match")} if "on_no_match" in config else {}
    return {"matcher_tree": {"input": input, "custom_match": typed(type, **config)}, **rest}


def message_of(config, name="xds.type.matcher.v3.Matcher"):
    for text in str(config).split("'"):
        if text.startswith(T):
            find_type(text.removeprefix(T))
    return ParseDict(config, message_class(name)(), descriptor_pool=schema().pool)


def load(config, grammar=TEXTS):
    """(tree, problems)."""
    where = Where.nowhere()
    tree = matcher_tree(message_of(config), grammar, where.field("m"))
    return tree, [str(problem) for problem in where.problems.errors]


def tree_of(config, grammar=TEXTS):
    tree, problems = load(config, grammar)
    assert problems == []
    return tree


def subject_of(headers=(), path="/", *, runtime=None, remote="10.0.0.9", info=True):
    fields = Headers()
    for name, value in headers:
        fields.add(name, value)
    request = Request(b"GET", path.encode(), b"a.test", b"http", fields)
    connection = ConnectionInfo(1, 0.0, Address(remote, 4000), Address("10.0.0.1", 80))
    if not info:
        return Subject(connection, Runtime(runtime))
    stream = StreamInfo(connection, 0.0)
    stream.request = request
    return Subject(connection, Runtime(runtime), stream, request)


def find(config, *headers, **more):
    return tree_of(config).find(subject_of(headers, **more))


ONE, TWO, REST = action("one"), action("two"), action("rest")
A, B = header("x-a"), header("x-b")
IF_B = {"matcher": exact(B, {"yes": TWO})}


# -- trees -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "headers", "found"), [
    ({}, [], None),
    ({"on_no_match": REST}, [], "rest"),
    (exact(A, {"1": ONE, "": TWO}, on_no_match=REST), [("x-a", "1")], "one"),
    (exact(A, {"1": ONE, "": TWO}, on_no_match=REST), [("x-a", "")], "two"),
    (exact(A, {"1": ONE, "": TWO}, on_no_match=REST), [], "rest"),
    (exact(A, {"1": ONE}), [("x-a", "2")], None),
    (exact(A, {"1": IF_B}, on_no_match=REST), [("x-a", "1")], "rest"),
    (exact(A, {"1": IF_B}, on_no_match=REST), [("x-a", "1"), ("x-b", "yes")], "two"),
    (prefixed(A, {"a": ONE, "ab": IF_B}, on_no_match=REST), [("x-a", "abc"), ("x-b", "yes")], "two"),
    (prefixed(A, {"a": ONE, "ab": IF_B}, on_no_match=REST), [("x-a", "abc")], "one"),
    (prefixed(A, {"ab": IF_B}, on_no_match=REST), [("x-a", "abc")], "rest"),
    (prefixed(A, {"": ONE, "ab": TWO}), [("x-a", "")], "one"),
    (prefixed(A, {"": ONE}, on_no_match=REST), [], "rest"),
    (listed(entry(single(A), ONE), entry(single(B), TWO)), [("x-a", "1"), ("x-b", "1")], "one"),
    (listed(entry(single(A), IF_B), entry(single(A), ONE)), [("x-a", "1")], "one"),
    (listed(entry(single(A), ONE), on_no_match=REST), [("x-a", "2")], "rest"),
])  # fmt: skip
def test_what_a_tree_finds(config, headers, found):
    assert find(config, *headers) == found


@pytest.mark.parametrize(("predicate", "headers", "holds"), [
    (single(A, value_match={"prefix": "AB", "ignore_case": True}), [("x-a", "abc")], True),
    (single(A, value_match={"safe_regex": {"google_re2": {}, "regex": "[0-9]+"}}), [("x-a", "12")], True),
    (single(A, value_match={"safe_regex": {"google_re2": {}, "regex": "[0-9]+"}}), [("x-a", "12x")], False),
    (single(A, value_match={"contains": ","}), [("x-a", "1"), ("x-a", "2")], True),
    ({"not_matcher": single(A)}, [], True),
    ({"not_matcher": single(A)}, [("x-a", "1")], False),
    ({"and_matcher": {"predicate": [single(A), single(B)]}}, [("x-a", "1"), ("x-b", "1")], True),
    ({"and_matcher": {"predicate": [single(A), single(B)]}}, [("x-a", "1")], False),
    ({"or_matcher": {"predicate": [single(A), single(B)]}}, [("x-b", "1")], True),
    ({"or_matcher": {"predicate": [single(A), single(B)]}}, [], False),
])  # fmt: skip
def test_predicates(predicate, headers, holds):
    assert find(listed(entry(predicate, ONE)), *headers) == ("one" if holds else None)


RANGES = custom(
    A,
    "xds.type.matcher.v3.IPMatcher",
    range_matchers=[
        {"ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}], "on_match": action("eight")},
        {"ranges": [{"address_prefix": "10.1.0.0", "prefix_len": 16}], "on_match": IF_B},
        {"ranges": [{"address_prefix": "10.1.0.0", "prefix_len": 12}], "on_match": action("twelve"), "exclusive": True},
        {"ranges": [{"address_prefix": "10.1.0.0", "prefix_len": 16}], "on_match": action("second"), "exclusive": True},
        {"ranges": [{"address_prefix": "2001:db8::", "prefix_len": 32}], "on_match": action("six")},
    ],
    on_no_match=REST,
)


@pytest.mark.parametrize(("ip", "found"), [
    ("10.200.0.1", "eight"), ("10.2.0.1", "twelve"), ("2001:db8::1", "six"), ("2001:db9::1", "rest"),
    ("::ffff:10.2.0.1", "rest"), ("11.0.0.1", "rest"), ("10.1", "rest"), ("", "rest"), ("10.2.0.1 ", "rest"),
])  # fmt: skip
def test_ranges(ip, found):
    assert find(RANGES, ("x-a", ip)) == found


def test_an_exclusive_range_is_only_the_first():
    assert find(RANGES, ("x-a", "10.1.0.1"), ("x-b", "yes")) == "two"
    assert find(RANGES, ("x-a", "10.1.0.1")) == "eight"


DOMAINS = custom(
    A,
    "xds.type.matcher.v3.ServerNameMatcher",
    domain_matchers=[
        {"domains": ["a.test", "*.b.a.test"], "on_match": ONE},
        {"domains": ["*.a.test"], "on_match": TWO},
        {"domains": ["c.a.test"], "on_match": IF_B},
        {"domains": ["*"], "on_match": {"matcher": exact(B, {"any": action("any")})}},
    ],
    on_no_match=REST,
)


@pytest.mark.parametrize(("name", "found"), [
    ("a.test", "one"), ("x.a.test", "two"), ("x.y.a.test", "two"), ("x.b.a.test", "one"), ("c.a.test", "two"),
    ("A.test", "rest"), ("other", "rest"), ("", "rest"), (".a.test", "two"),
])  # fmt: skip
def test_domains(name, found):
    assert find(DOMAINS, ("x-a", name)) == found


def test_the_domain_of_everything_comes_last():
    assert find(DOMAINS, ("x-a", "other"), ("x-b", "any")) == "any"
    assert find(DOMAINS, ("x-a", ""), ("x-b", "any")) == "rest"


def test_keep_matching_goes_on_and_is_told():
    config = listed(
        entry(single(A), action("kept", keep_matching=True)),
        entry(single(A), {"matcher": {"on_no_match": action("nested")}, "keep_matching": True}),
        entry(single(A), ONE),
        on_no_match=REST,
    )
    found, trace = explain(tree_of(config), subject_of([("x-a", "1")]))
    assert (found, trace.skipped) == ("one", ["kept", "nested"])
    assert find({"on_no_match": action("kept", keep_matching=True)}) is None


# -- what is not known yet -------------------------------------------------------------------------

LATER = typed(HTTP + "HttpResponseHeaderMatchInput", header_name="x-a")


@pytest.mark.parametrize(("config", "headers", "found"), [
    (exact(LATER, {"1": ONE}, on_no_match=REST), [], INCONCLUSIVE),
    (listed(entry(single(LATER), ONE), on_no_match=REST), [], INCONCLUSIVE),
    (listed(entry({"not_matcher": single(LATER)}, ONE), on_no_match=REST), [], INCONCLUSIVE),
    (listed(entry(single(A), ONE), entry(single(LATER), TWO)), [("x-a", "1")], "one"),
    (listed(entry({"or_matcher": {"predicate": [single(LATER), single(A)]}}, ONE)), [("x-a", "1")], "one"),
    (listed(entry({"or_matcher": {"predicate": [single(LATER), single(A)]}}, ONE), on_no_match=REST), [], INCONCLUSIVE),
    (listed(entry({"and_matcher": {"predicate": [single(A), single(LATER)]}}, ONE), on_no_match=REST), [], "rest"),
    (listed(entry({"and_matcher": {"predicate": [single(LATER), single(A)]}}, ONE), on_no_match=REST), [], INCONCLUSIVE),
    (listed(entry(single(A), {"matcher": exact(LATER, {})}), on_no_match=REST), [("x-a", "1")], INCONCLUSIVE),
    (prefixed(A, {"a": {"matcher": exact(LATER, {"1": ONE})}, "": TWO}), [("x-a", "a")], INCONCLUSIVE),
])  # fmt: skip
def test_what_is_not_known_leaves_it_undecided(config, headers, found):
    assert find(config, *headers) is found or find(config, *headers) == found


def test_responses_and_trailers_are_known_later():
    subject = subject_of()
    ask = lambda input, value: tree_of(exact(input, {value: ONE}, on_no_match=REST)).find(subject)  # noqa: E731
    status = typed(HTTP + "HttpResponseStatusCodeMatchInput")
    family = typed(HTTP + "HttpResponseStatusCodeClassMatchInput")
    local = typed(HTTP + "HttpResponseLocalReplyMatchInput")
    request_trailer = typed(HTTP + "HttpRequestTrailerMatchInput", header_name="x-a")
    response_trailer = typed(HTTP + "HttpResponseTrailerMatchInput", header_name="x-a")
    for input in (status, family, local, request_trailer, response_trailer):
        assert ask(input, "x") is INCONCLUSIVE

    headers = Headers.of([(b"x-a", b"1")])
    subject.info.response = Response(404, b"", headers)
    subject.info.request_trailers = subject.info.response_trailers = headers
    assert ask(LATER, "1") == ask(status, "404") == ask(family, "4xx") == ask(local, "true") == "one"
    assert ask(request_trailer, "1") == ask(response_trailer, "1") == "one"
    subject.info.details = "via_upstream"
    assert ask(local, "false") == "one"


# -- inputs ----------------------------------------------------------------------------------------


def value_of(input, subject, grammar=TEXTS):
    """What the input has, found by a tree that takes everything."""
    _, trace = explain(tree_of(exact(input, {"x": ONE}), grammar), subject)
    return trace.steps[0].seen


@pytest.mark.parametrize(("input", "seen"), [
    ("DestinationIPInput", "10.0.0.1"), ("DestinationPortInput", "80"), ("SourceIPInput", "10.0.0.9"),
    ("SourcePortInput", "4000"), ("DirectSourceIPInput", "10.0.0.9"), ("SourceTypeInput", None),
    ("ServerNameInput", None), ("TransportProtocolInput", None), ("ApplicationProtocolInput", None),
    ("NetworkNamespaceInput", None),
])  # fmt: skip
def test_inputs_of_connections(input, seen):
    grammar = Grammar(inputs=NETWORK_INPUTS, actions=TEXTS.actions)
    assert value_of(typed(NETWORK + input), subject_of(info=False), grammar) == seen


def test_inputs_that_listener_filters_fill():
    grammar = Grammar(inputs=NETWORK_INPUTS, actions=TEXTS.actions)
    subject = subject_of(info=False, remote="127.0.0.5")
    connection = subject.connection
    connection.server_name, connection.transport_protocol = "a.test", "tls"
    connection.application_protocols = ["h2", "http/1.1"]
    connection.filter_state = {"k": "v"}
    read = lambda type, **fields: value_of(typed(NETWORK + type, **fields), subject, grammar)  # noqa: E731
    assert read("SourceTypeInput") == "local"
    assert read("ServerNameInput") == "a.test"
    assert read("TransportProtocolInput") == "tls"
    assert read("ApplicationProtocolInput") == "'h2','http/1.1'"
    assert read("FilterStateInput", key="k") == "v"
    assert read("FilterStateInput", key="other") is None


def test_unix_sockets_have_no_addresses():
    subject = subject_of(info=False)
    subject.connection.local = subject.connection.remote = Address(path="/run/x")
    for input in ("DestinationIPInput", "DestinationPortInput", "SourceIPInput", "SourcePortInput"):
        assert value_of(typed(NETWORK + input), subject) is None
    assert value_of(typed(NETWORK + "SourceTypeInput"), subject) == "local"


def test_the_source_of_an_exchange_is_the_client_that_is_told():
    subject = subject_of()
    subject.info.remote = Address("192.0.2.7", 0)
    read = lambda type: value_of(typed(NETWORK + type), subject)  # noqa: E731
    assert (read("SourceIPInput"), read("SourcePortInput")) == ("192.0.2.7", "0")
    assert read("DirectSourceIPInput") == "10.0.0.9"


@pytest.mark.parametrize(("path", "seen"), [
    ("/?q=a", "a"), ("/?x=1&q=2&q=3", "2"), ("/?q", ""), ("/?q=", ""), ("/?%71=a%20b", "a b"), ("/?q=a+b", "a+b"),
    ("/?x=1", None), ("/", None), ("/?q=%zz", "%zz"),
])  # fmt: skip
def test_query_parameters_are_decoded(path, seen):
    query = typed(HTTP + "HttpRequestQueryParamMatchInput", query_param="q")
    assert value_of(query, subject_of(path=path)) == seen


@pytest.mark.parametrize(("name", "seen"), [
    (":path", "/p?q"), (":method", "GET"), (":authority", "a.test"), ("host", "a.test"), ("X-A", "1,2"),
    ("cookie", "a=1,b=2"), ("x-none", None),
])  # fmt: skip
def test_request_headers(name, seen):
    headers = [("x-a", "1"), ("x-a", "2"), ("cookie", "a=1"), ("cookie", "b=2")]
    assert value_of(header(name), subject_of(headers, "/p?q")) == seen


def test_certificates_are_not_there():
    for name in ("UriSanInput", "DnsSanInput", "SubjectInput"):
        assert value_of(typed(SSL + name), subject_of()) is None


def test_the_environment_is_read_once(monkeypatch):
    monkeypatch.setenv("WEFT_TEST_X", "1")
    config = exact(typed("envoy.extensions.matching.common_inputs.environment_variable.v3.Config", name="WEFT_TEST_X"), {"1": ONE})
    tree = tree_of(config)
    monkeypatch.delenv("WEFT_TEST_X")
    assert tree.find(subject_of()) == "one"
    assert find(config) is None


# -- matchers of values ----------------------------------------------------------------------------


def custom_match(input, type, **config):
    return listed(entry(single(input, custom_match=typed(TESTS + type, **config)), ONE))


def test_addresses_in_ranges():
    config = custom_match(A, "ip.v3.Ip", cidr_ranges=[{"address_prefix": "10.0.0.0", "prefix_len": 8}, {"address_prefix": "::1", "prefix_len": 128}])
    assert [find(config, ("x-a", ip)) for ip in ("10.1.1.1", "::1", "11.1.1.1", "x", "")] == ["one", "one", None, None, None]
    assert find(config) is None


def test_shares_follow_the_value_and_the_runtime():
    share = {"default_value": {"numerator": 50}, "runtime_key": "k"}
    config = custom_match(A, "runtime_fraction.v3.RuntimeFraction", runtime_fraction=share, seed=3)
    verdicts = [find(config, ("x-a", f"v{i}")) for i in range(200)]
    assert verdicts == [find(config, ("x-a", f"v{i}")) for i in range(200)]
    assert 60 < verdicts.count("one") < 140
    assert all(find(config, ("x-a", f"v{i}"), runtime={"k": 100}) == "one" for i in range(20))
    assert find(config, runtime={"k": 100}) is None


def test_consistent_hashing():
    config = custom_match(A, "consistent_hashing.v3.ConsistentHashing", threshold=50, modulo=100, seed=7)
    assert 60 < [find(config, ("x-a", f"v{i}")) for i in range(200)].count("one") < 140
    assert find(custom_match(A, "consistent_hashing.v3.ConsistentHashing", threshold=0, modulo=5), ("x-a", "")) == "one"
    assert find(custom_match(A, "consistent_hashing.v3.ConsistentHashing", threshold=5, modulo=5), ("x-a", "1")) is None


METADATA = typed(NETWORK + "DynamicMetadataInput", filter="f", path=[{"key": "a"}, {"key": "b"}])


@pytest.mark.parametrize(("metadata", "config", "found"), [
    ({"f": {"a": {"b": "x"}}}, {"value": {"string_match": {"exact": "x"}}}, "one"),
    ({"f": {"a": {"b": "y"}}}, {"value": {"string_match": {"exact": "x"}}}, None),
    ({"f": {"a": {"b": "y"}}}, {"value": {"string_match": {"exact": "x"}}, "invert": True}, "one"),
    ({"f": {"a": "b"}}, {"value": {"present_match": True}}, None),
    (None, {"value": {"present_match": True}, "invert": True}, "one"),
    ({"f": {"a": {"b": 3.0}}}, {"value": {"double_match": {"exact": 3}}}, "one"),
])  # fmt: skip
def test_metadata(metadata, config, found):
    subject = subject_of()
    subject.info.dynamic_metadata = metadata
    assert tree_of(custom_match(METADATA, "metadata.v3.Metadata", **config)).find(subject) == found


def test_metadata_is_not_text_and_text_is_not_metadata():
    subject = subject_of([("x-a", "1")])
    subject.info.dynamic_metadata = {"f": {"a": {"b": "1"}}}
    assert tree_of(listed(entry(single(METADATA), ONE))).find(subject) is None
    assert tree_of(exact(METADATA, {"1": ONE}, on_no_match=REST)).find(subject) == "rest"
    invert = custom_match(A, "metadata.v3.Metadata", value={"present_match": True}, invert=True)
    assert tree_of(invert).find(subject) is None


# -- problems --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "problem"), [
    (exact(typed(HTTP + "StringMatcher"), {"1": ONE}), f"m.matcher_tree.input: Didn't find a registered implementation for 'x' with type URL: '{HTTP}StringMatcher'"),
    (exact({"name": "nameless"}, {"1": ONE}), "m.matcher_tree.input: the input 'nameless' has no typed_config"),
    (exact(A, {"1": {"action": typed("envoy.config.core.v3.Node")}}), 'm.matcher_tree.exact_match_map.map["1"].action: Didn\'t find a registered'),
    (exact(A, {"1": {}}), 'm.matcher_tree.exact_match_map.map["1"]: one of matcher, action is required'),
    (exact(typed("xds.type.matcher.v3.HttpAttributesCelMatchInput"), {"1": ONE}), "m.matcher_tree.input: not supported: CEL expressions"),
    (listed(entry(single(A, custom_match=typed("xds.type.matcher.v3.CelMatcher")), ONE)), "custom_match: not supported: CEL expressions (the matcher 'x' of type xds.type.matcher.v3.CelMatcher)"),
    (listed(entry(single(A, custom_match=typed("envoy.config.core.v3.Node")), ONE)), "m.matcher_list.matchers[0].predicate.single_predicate.custom_match: Didn't find"),
    (listed(entry(single(A, value_match={"custom": typed("envoy.config.core.v3.Node")}), ONE)), "value_match.custom: not supported yet: custom string matchers"),
    (listed(entry(single(A, value_match={"safe_regex": {"google_re2": {}, "regex": "("}}), ONE)), "safe_regex.regex: missing )"),
    (listed(entry(single(A, value_match={"safe_regex": {"google_re2": {}, "regex": "a"}, "ignore_case": True}), ONE)), "ignore_case has no effect for safe_regex."),
    (listed(entry({}, ONE)), "m.matcher_list.matchers[0].predicate: one of single_predicate"),
    (listed(entry({"single_predicate": {"input": A}}, ONE)), "one of value_match, custom_match is required"),
    ({"matcher_tree": {"input": A}}, "m.matcher_tree: one of exact_match_map"),
    (custom(A, "envoy.config.core.v3.Node"), "m.matcher_tree.custom_match: Didn't find"),
    (custom(A, "xds.type.matcher.v3.IPMatcher", range_matchers=[{"ranges": [{"address_prefix": "10.0"}], "on_match": ONE}]), "range_matchers[0].ranges[0]: malformed IP address: 10.0"),
    (custom(A, "xds.type.matcher.v3.IPMatcher", range_matchers=[{"ranges": [{"address_prefix": "10.0.0.0"}]}]), "range_matchers[0].on_match: one of matcher, action is required"),
    (custom(A, "xds.type.matcher.v3.ServerNameMatcher", domain_matchers=[{"domains": ["a", "a"], "on_match": ONE}]), "domains[1]: Duplicate domain in ServerNameMatcher: a"),
    (custom(A, "xds.type.matcher.v3.ServerNameMatcher", domain_matchers=[{"domains": [""], "on_match": ONE}]), "Empty domain in ServerNameMatcher"),
    (custom(A, "xds.type.matcher.v3.ServerNameMatcher", domain_matchers=[{"domains": ["a.*"], "on_match": ONE}]), "Invalid wildcard domain format: a.*. Only '*' and '*.domain' patterns"),
    (custom(A, "xds.type.matcher.v3.ServerNameMatcher", domain_matchers=[{"domains": ["*.a.*"], "on_match": ONE}]), "Invalid wildcard domain format: *.a.*. Multiple wildcards"),
    (custom_match(A, "consistent_hashing.v3.ConsistentHashing", threshold=5, modulo=3), "threshold cannot be greater than modulo: 5 > 3"),
    (custom_match(A, "consistent_hashing.v3.ConsistentHashing"), "modulo: value must be greater than 0"),
])  # fmt: skip
def test_problems_say_where(config, problem):
    _, problems = load(config)

    assert len(problems) == 1
    assert problem in problems[0]


def test_a_grammar_may_allow_less():
    grammar = Grammar(inputs=HTTP_INPUTS, actions=TEXTS.actions, only_inputs=frozenset([HTTP + "HttpRequestHeaderMatchInput"]), only_inputs_text="Only headers", keep_matching=False)
    query = typed(HTTP + "HttpRequestQueryParamMatchInput", query_param="q")
    _, problems = load(exact(query, {"1": action("x", keep_matching=True)}), grammar)

    assert problems == [
        f"m.matcher_tree.input: Only headers, saw {T}{HTTP}HttpRequestQueryParamMatchInput",
        'm.matcher_tree.exact_match_map.map["1"].keep_matching: keep_matching is not supported in this context',
    ]


def deep_tree(levels):
    config = {"on_no_match": ONE}
    for _ in range(levels - 1):
        config = {"on_no_match": {"matcher": config}}
    return config


def test_depth_has_a_limit():
    message = message_of({})
    at = message
    for _ in range(3000):
        at = at.on_no_match.matcher
    at.SetInParent()
    where = Where.nowhere()
    matcher_tree(message, TEXTS, where)

    assert [problem.text for problem in where.problems.errors] == [f"more than {DEEPEST} matchers and predicates in each other"]
    assert find(deep_tree(40)) == "one"


def test_predicates_have_the_same_limit():
    message = message_of(listed(entry({}, ONE)))
    at = message.matcher_list.matchers[0].predicate
    for _ in range(3000):
        at = at.not_matcher
    at.SetInParent()
    where = Where.nowhere()
    matcher_tree(message, TEXTS, where)

    assert [problem.text for problem in where.problems.errors] == [f"more than {DEEPEST} matchers and predicates in each other"]


def test_actions_are_found_without_building_anything():
    config = listed(
        entry(single(A), ONE),
        entry(single(A), {"matcher": prefixed(A, {"b": TWO, "a": {"matcher": RANGES}})}),
        on_no_match={"matcher": DOMAINS},
    )
    found = [
        (action.typed_config.value[2:].decode(), place.path)
        for action, place in actions_of(message_of(config), Where.nowhere().field("m"))
    ]

    assert [text for text, _ in found] == ["one", "eight", "two", "twelve", "second", "six", "rest", "two", "one", "two", "two", "any", "rest"]
    assert found[1][1] == (
        'm.matcher_list.matchers[1].on_match.matcher.matcher_tree.prefix_match_map.map["a"].matcher'
        ".matcher_tree.custom_match.typed_config.range_matchers[0].on_match.action"
    )


# -- explaining ------------------------------------------------------------------------------------


def test_an_explanation_says_what_was_asked_and_seen():
    config = listed(
        entry({"and_matcher": {"predicate": [single(A), single(B)]}}, ONE),
        entry({"not_matcher": single(A, value_match={"prefix": "z"})}, {"matcher": prefixed(B, {"a": ONE, "b": TWO})}),
        entry(single(LATER), TWO),
    )
    found, trace = explain(tree_of(config), subject_of([("x-a", "1"), ("x-b", "c")]))

    assert found is None
    assert [(step.depth, step.question, step.seen, step.verdict) for step in trace.steps] == [
        (0, "request header x-a is '1'", "1", YES),
        (0, "request header x-b is '1'", "c", NO),
        (0, "request header x-a starts with 'z'", "1", NO),
        (1, "request header x-b starts with one of 'a', 'b'", "c", NO),
        (0, "response header x-a is '1'", None, UNDECIDED),
    ]
    assert trace.steps[3].describe() == "  request header x-b starts with one of 'a', 'b': no, it is 'c'"
    assert trace.steps[4].describe() == "response header x-a is '1': undecided, it is absent"


def test_long_values_and_many_keys_are_shortened():
    _, trace = explain(tree_of(exact(A, {str(i): ONE for i in range(9)})), subject_of([("x-a", "v" * 500)]))

    assert trace.steps[0].question == "request header x-a is one of '0', '1', '2', '3', '4' (and 4 more)"
    assert len(trace.steps[0].seen) == 203


@pytest.mark.parametrize(("config", "text"), [
    (RANGES, "request header x-a is in one of '10.0.0.0/8', '10.1.0.0/16', '10.0.0.0/12', '2001:db8::/32'"),
    ({"on_no_match": ONE}, "always"),
    (listed(entry({"or_matcher": {"predicate": [single(A), {"not_matcher": single(B)}]}}, ONE)), "(request header x-a is '1' or not (request header x-b is '1'))"),
    (custom_match(A, "ip.v3.Ip", cidr_ranges=[{"address_prefix": "10.0.0.0", "prefix_len": 8}]), "request header x-a is in 10.0.0.0/8"),
    (custom_match(A, "consistent_hashing.v3.ConsistentHashing", threshold=1, modulo=2), "request header x-a has a hash of at least 1 modulo 2"),
    (custom_match(A, "runtime_fraction.v3.RuntimeFraction", runtime_fraction={"default_value": {"numerator": 5}, "runtime_key": "k"}), "request header x-a is among 5 of 100 values (runtime k)"),
    (custom_match(METADATA, "metadata.v3.Metadata", value={"present_match": True}, invert=True), "not (metadata f:a:b is present)"),
])  # fmt: skip
def test_descriptions(config, text):
    assert tree_of(config).describe() == text
