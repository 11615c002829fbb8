"""Random matcher trees against a reference that reads the configuration the slow and obvious way."""

import ipaddress

from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.api.problems import Where
from weft.api.schema import find_type, message_class, schema
from weft.http.headers import Headers
from weft.http.message import Request
from weft.proxy.address import NOWHERE
from weft.proxy.matching.build import matcher_tree
from weft.proxy.matching.inputs import Subject
from weft.proxy.matching.tree import INCONCLUSIVE, explain
from weft.proxy.matching.vocabulary import HTTP_INPUTS, Grammar
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
from weft.proxy.runtime import Runtime

T = "type.googleapis.com/"
HTTP = T + "envoy.type.matcher.v3."
TEXT = "google.protobuf.StringValue"
GRAMMAR = Grammar(inputs=HTTP_INPUTS, actions={TEXT: lambda message, where: message.value})
VALUES = ["", "a", "ab", "abc", "b", "a.b", "x.a.b", "10.0.0.1", "10.1.2.3", "11.0.0.1"]
LATER = object()
"""Neither yes nor no; and no outcome."""

for name in ("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", TEXT, "xds.type.matcher.v3.IPMatcher", "xds.type.matcher.v3.ServerNameMatcher"):
    find_type(name)


# -- any configuration -----------------------------------------------------------------------------

inputs = st.sampled_from([
    {"@type": HTTP + "HttpRequestHeaderMatchInput", "header_name": "x-a"},
    {"@type": HTTP + "HttpRequestHeaderMatchInput", "header_name": "x-b"},
    {"@type": HTTP + "HttpRequestHeaderMatchInput", "header_name": "x-none"},
    {"@type": HTTP + "HttpResponseHeaderMatchInput", "header_name": "x-a"},
]).map(lambda config: {"name": "i", "typed_config": config})  # fmt: skip
strings = st.builds(
    lambda kind, text, any_case: {kind: text, "ignore_case": any_case},
    st.sampled_from(["exact", "prefix", "suffix", "contains"]),
    st.sampled_from(["a", "B", "ab", "10."]),
    st.booleans(),
)
predicates = st.recursive(
    st.builds(lambda input, test: {"single_predicate": {"input": input, "value_match": test}}, inputs, strings),
    lambda inner: st.one_of(
        inner.map(lambda one: {"not_matcher": one}),
        st.builds(lambda kind, many: {kind: {"predicate": many}}, st.sampled_from(["and_matcher", "or_matcher"]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=4,
)
actions = st.builds(
    lambda text, keep: {"action": {"name": "a", "typed_config": {"@type": T + TEXT, "value": text}}, "keep_matching": keep},
    st.sampled_from(["one", "two", "three"]),
    st.integers(0, 4).map(lambda number: number == 0),
)
networks = st.sampled_from(["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.1.0.0/16", "10.1.2.3/32", "11.0.0.0/8"]).map(
    lambda text: {"address_prefix": text.split("/")[0], "prefix_len": int(text.split("/")[1])}
)
domains = st.lists(st.sampled_from(["*", "*.b", "*.a.b", "a.b", "x.a.b", "ab"]), min_size=1, max_size=4, unique=True)


def trees(branches):
    keys = st.dictionaries(st.sampled_from(VALUES), branches, min_size=1, max_size=4)
    maps = st.builds(lambda kind, map: {kind: {"map": map}}, st.sampled_from(["exact_match_map", "prefix_match_map"]), keys)
    ranges = st.lists(
        st.builds(
            lambda networks, on_match, exclusive: {"ranges": networks, "on_match": on_match, "exclusive": exclusive},
            st.lists(networks, min_size=1, max_size=2), branches, st.booleans(),
        ),
        min_size=1, max_size=4,
    ).map(lambda entries: custom("IPMatcher", range_matchers=entries))  # fmt: skip
    names = st.builds(
        lambda names, on_matches: custom(
            "ServerNameMatcher",
            domain_matchers=[{"domains": [one], "on_match": on_match} for one, on_match in zip(names, on_matches, strict=False)],
        ),
        domains, st.lists(branches, min_size=4, max_size=4),
    )  # fmt: skip
    lists = st.lists(st.builds(lambda p, o: {"predicate": p, "on_match": o}, predicates, branches), min_size=1, max_size=3)
    whole = st.one_of(
        lists.map(lambda entries: {"matcher_list": {"matchers": entries}}),
        st.builds(lambda input, kind: {"matcher_tree": {"input": input, **kind}}, inputs, st.one_of(maps, ranges, names)),
        st.just({}),
    )
    return st.builds(lambda tree, rest: {**tree, **({"on_no_match": rest} if rest else {})}, whole, st.none() | branches)


def custom(type, **config):
    return {"custom_match": {"name": "c", "typed_config": {"@type": T + "xds.type.matcher.v3." + type, **config}}}


branches = st.recursive(
    actions, lambda inner: st.builds(lambda tree, on: {**on, "matcher": tree}, trees(inner), st.just({})), max_leaves=8
)


# -- the reference ---------------------------------------------------------------------------------


def value_of(input, headers):
    config = input["typed_config"]
    return LATER if "Response" in config["@type"] else headers.get(config["header_name"])


def holds(predicate, headers):
    (kind, inner), = predicate.items()
    if kind == "not_matcher":
        verdict = holds(inner, headers)
        return verdict if verdict is LATER else not verdict
    if kind == "single_predicate":
        value = value_of(inner["input"], headers)
        if value is None or value is LATER:
            return value or False
        test = inner["value_match"]
        (operator, wanted), = ((k, v) for k, v in test.items() if k != "ignore_case")
        if test["ignore_case"]:
            value, wanted = value.lower(), wanted.lower()
        return {"exact": value == wanted, "prefix": value.startswith(wanted), "suffix": value.endswith(wanted), "contains": wanted in value}[operator]
    verdicts = [holds(one, headers) for one in inner["predicate"]]
    if kind == "and_matcher":
        return next((verdict for verdict in verdicts if verdict is not True), True)
    return True if True in verdicts else LATER if LATER in verdicts else False


def candidates(tree, value):
    """The branches of a map that fit a value, the most specific first."""
    kind = next(name for name in tree if name != "input")
    if kind.endswith("_map"):
        map = tree[kind]["map"]
        if kind == "exact_match_map":
            return [map[value]] if value in map else []
        return [map[value[:size]] for size in range(len(value), -1, -1) if value[:size] in map]
    config = tree[kind]["typed_config"]
    if "domain_matchers" in config:
        by_name = {one["domains"][0]: one["on_match"] for one in config["domain_matchers"]}
        labels = value.split(".")
        names = [value, *("*." + ".".join(labels[i:]) for i in range(1, len(labels))), "*"] if value else []
        return [by_name[name] for name in names if name in by_name]
    try:
        ip = ipaddress.ip_address(value)
    except ValueError:
        return []
    fitting = []
    for number, entry in enumerate(config["range_matchers"]):
        for size in {net["prefix_len"] for net in entry["ranges"] if ip in ipaddress.ip_network(f"{net['address_prefix']}/{net['prefix_len']}")}:
            fitting.append((-size, number, entry))
    fitting.sort(key=lambda one: one[:2])
    return [entry["on_match"] for i, (_, _, entry) in enumerate(fitting) if i == 0 or not entry["exclusive"]]


def outcome(on_match, headers):
    found = search(on_match["matcher"], headers) if "matcher" in on_match else on_match["action"]["typed_config"]["value"]
    return None if on_match.get("keep_matching") and found is not LATER else found


def search(matcher, headers):
    tries = []
    if "matcher_list" in matcher:
        for entry in matcher["matcher_list"]["matchers"]:
            verdict = holds(entry["predicate"], headers)
            if verdict is LATER:
                tries.append(LATER)
            elif verdict:
                tries.append(entry["on_match"])
    elif "matcher_tree" in matcher:
        value = value_of(matcher["matcher_tree"]["input"], headers)
        if value is LATER:
            tries.append(LATER)
        elif value is not None:
            tries.extend(candidates(matcher["matcher_tree"], value))
    if "on_no_match" in matcher:
        tries.append(matcher["on_no_match"])
    for one in tries:
        found = LATER if one is LATER else outcome(one, headers)
        if found is not None:
            return found
    return None


@settings(max_examples=400, deadline=None)
@given(
    trees(branches),
    st.lists(st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.sampled_from(VALUES)), min_size=1, max_size=6),
)
def test_trees_find_what_the_reference_finds(config, requests):
    where = Where.nowhere()
    message = ParseDict(config, message_class("xds.type.matcher.v3.Matcher")(), descriptor_pool=schema().pool)
    tree = matcher_tree(message, GRAMMAR, where)
    assert where.problems.items == []
    for headers in requests:
        request = Request(b"GET", b"/", b"a", b"http", Headers.of([(k.encode(), v.encode()) for k, v in headers.items()]))
        connection = ConnectionInfo(1, 0.0, NOWHERE, NOWHERE)
        subject = Subject(connection, Runtime(), StreamInfo(connection, 0.0), request)

        wanted = search(config, headers)

        assert tree.find(subject) == (INCONCLUSIVE if wanted is LATER else wanted)
        assert explain(tree, subject)[0] == (None if wanted is LATER else wanted)
