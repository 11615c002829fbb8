"""Damaged matcher configurations: each gives settings or problems with a place, nothing else.

The corpus are the matchers of the differential suites.  Damage is done to the messages, past the rules
of the schema, so that the code that compiles them sees what a control plane may send.
"""

import json
from pathlib import Path
from random import Random

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from weft.api.problems import Where
from weft.api.schema import find_type, message_class, schema
from weft.http.headers import Headers
from weft.http.message import Request
from weft.proxy.address import Address
from weft.proxy.assemble import check_clusters
from weft.proxy.listener.filter_chain_tree import chain_tree
from weft.proxy.matching.inputs import Subject
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
from weft.proxy.route.table import route_table
from weft.proxy.runtime import Runtime
from weft.testing.suites import filled, load_suites

SUITE = load_suites(Path(__file__).parent.parent / "differential")["matchers"]
KNOWN = dict.fromkeys(("u", "v", "w", "refused", "silent"), "80") | {"log": "/dev/null"}
LISTENERS = json.loads(filled(SUITE["config"], KNOWN))["static_resources"]["listeners"]
HCM = "http_connection_manager.v3.HttpConnectionManager"
ROUNDS = 250


def types_in(text):
    for part in text.split('"'):
        if part.startswith("type.googleapis.com/"):
            find_type(part.rpartition("/")[2])


def parsed(name, value):
    types_in(json.dumps(value))
    return ParseDict(value, message_class(name)(), descriptor_pool=schema().pool)


TABLES = [
    parsed("envoy.config.route.v3.RouteConfiguration", filter["typed_config"]["route_config"])
    for listener in LISTENERS
    for chain in listener["filter_chains"]
    for filter in chain["filters"]
    if filter["typed_config"]["@type"].endswith(HCM)
]
TREES = [
    parsed("xds.type.matcher.v3.Matcher", listener["filter_chain_matcher"])
    for listener in LISTENERS
    if "filter_chain_matcher" in listener
]


def damaged(message, random):
    """Another message of that type: bytes changed, cut or doubled; None when it cannot be read at all."""
    data = bytearray(message.SerializeToString())
    for _ in range(random.choice((1, 1, 2, 8))):
        if not data:
            return None
        at = random.randrange(len(data))
        kind = random.randrange(4)
        if kind == 0:
            data[at] = random.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << random.randrange(8)
        elif kind == 2:
            del data[at : at + random.randrange(1, 40)]
        else:
            data[at:at] = data[at : at + random.randrange(1, 40)]
    try:
        return type(message).FromString(bytes(data))
    except DecodeError:
        return None


def pruned(message, random):
    """The same message, with a field somewhere in it cleared."""
    copy = type(message)()
    copy.CopyFrom(message)
    at = copy
    while True:
        fields = [(field, value) for field, value in at.ListFields()]
        if not fields:
            return copy
        field, value = random.choice(fields)
        inner = None
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            inner = random.choice(value) if field.is_repeated else value
        if inner is None or random.random() < 0.2:
            at.ClearField(field.name)
            return copy
        at = inner


def subject_parts():
    connection = ConnectionInfo(1, 0.0, Address("10.0.0.9", 4000), Address("10.0.0.1", 80))
    request = Request(b"GET", b"/query?q=a", b"list", b"http", Headers.of([(b"x-a", b"a"), (b"x-b", b"10.1.2.3")]))
    return request, StreamInfo(connection, 0.0)


@pytest.mark.parametrize("change", [damaged, pruned])
def test_damaged_route_tables(change):
    random = Random(5)
    loaded = 0
    for _ in range(ROUNDS):
        message = change(random.choice(TABLES), random)
        if message is None:
            continue
        where = Where.nowhere().field("table")
        table = route_table(message, where)
        check_clusters(message, where, {"u", "v"})
        assert all(problem.path.startswith("table") and problem.text for problem in where.problems.items)
        if not where.problems.errors:
            loaded += 1
            request, info = subject_parts()
            for host in table.virtual_hosts:
                host.find(request, info, 0, Runtime())
                assert all(route.describe() for route in host.routes)
            table.clusters()
    assert 0 < loaded < ROUNDS


@pytest.mark.parametrize("change", [damaged, pruned])
def test_damaged_chain_matchers(change):
    random = Random(6)
    loaded = 0
    for _ in range(ROUNDS):
        message = change(random.choice(TREES), random)
        if message is None:
            continue
        where = Where.nowhere().field("tree")
        tree = chain_tree(message, frozenset(["one", "two"]), where)
        assert all(problem.path.startswith("tree") and problem.text for problem in where.problems.items)
        if not where.problems.errors:
            loaded += 1
            tree.find(Subject(subject_parts()[1].connection, Runtime()))
    assert 0 < loaded < ROUNDS
