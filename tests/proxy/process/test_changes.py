"""What differs between two configurations, how it travels, and what a worker tells of its counts."""

import json

import pytest

from weft.api.load import load_text
from weft.proxy.assemble import server_settings
from weft.proxy.observe.stats import COUNTER, StatGroup, Store, decode, rows
from weft.proxy.process.changes import NOTHING, changes
from weft.proxy.process.flush import Flush, overlay
from weft.proxy.process.messages import Update, decode_update, encode_update

ECHO = {
    "name": "echo",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"},
}


def _listener(name, port=0, chain="a"):
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"name": chain, "filters": [ECHO]}],
    }


def _cluster(name, timeout="1s"):
    return {"name": name, "connect_timeout": timeout, "load_assignment": {"cluster_name": name}}


def _settings(listeners=(), clusters=(), **rest):
    config = {"static_resources": {"listeners": list(listeners), "clusters": list(clusters)}, **rest}
    loaded = load_text(json.dumps(config))
    settings = server_settings(loaded.bootstrap, loaded.problems.where)
    loaded.problems.raise_if_any()
    return settings


A = ([_listener("x"), _listener("y")], [_cluster("c"), _cluster("d")])


@pytest.mark.parametrize(
    ("after", "told"),
    [
        pytest.param(A, "nothing changed", id="the-same"),
        pytest.param((A[0][::-1], A[1][::-1]), "nothing changed", id="only-moved"),
        pytest.param(([*A[0], _listener("z")], A[1]), "listeners added: z", id="added"),
        pytest.param((A[0][:1], A[1]), "listeners removed: y", id="removed"),
        pytest.param(([_listener("x", chain="b"), A[0][1]], A[1]), "listeners changed: x", id="changed"),
        pytest.param((A[0], [_cluster("c", "2s"), A[1][1]]), "clusters changed: c", id="cluster-changed"),
        pytest.param((A[0], [A[1][0], _cluster("e")]), "clusters added: e; clusters removed: d", id="cluster-swapped"),
    ],
)
def test_changes(after, told):
    difference = changes(_settings(*A), _settings(*after))

    assert str(difference) == told
    assert bool(difference) == (told != "nothing changed")
    assert (difference == NOTHING) == (told == "nothing changed")


def test_what_takes_a_restart_is_told():
    difference = changes(_settings(*A), _settings(*A, node={"id": "other"}))

    assert difference.rest
    assert "only a restart" in str(difference)


def test_runtime_is_taken_without_a_restart():
    layers = {"layers": [{"name": "a", "static_layer": {"x": 1}}]}
    difference = changes(_settings(*A), _settings(*A, layered_runtime=layers))

    assert (difference.runtime, difference.rest) == (True, False)


@pytest.mark.parametrize(
    "update",
    [
        Update(),
        Update(clusters=(b"one", b""), listeners=(b"\x00" * 1000,), gone_listeners=("a",), gone_clusters=("b", "c"), slots={"x": 7}),
    ],
)  # fmt: skip
def test_an_update_survives_the_way(update):
    assert decode_update(encode_update(update)) == update


class _Group(StatGroup):
    STATS = rows("hits", gauges=("active",))

    def __init__(self):
        self.hits = 0
        self.active = 0


def test_only_changed_prefixes_are_told():
    store = Store()
    groups = {f"p{i}.": _Group() for i in range(120)}
    for prefix, group in groups.items():
        store.register(prefix, group)
    flush = Flush(store)

    def told():
        flush.begin()
        counters = {}
        while not flush.done:
            part = flush.step()
            if part:
                counters.update(decode(part).counters)
        return counters

    assert len(told()) == 120
    assert told() == {}
    groups["p7."].hits += 3
    groups["p110."].hits += 4
    assert told() == {"p7.hits": 3, "p110.hits": 4}


def test_groups_of_one_prefix_are_told_as_their_sum():
    store = Store()
    first, second = _Group(), _Group()
    store.register("p.", first)
    store.register("p.", second)
    flush = Flush(store)
    first.hits, second.hits = 1, 10
    known = Store().snapshot()
    for hits in (2, 3):
        first.hits = hits
        flush.begin()
        overlay(known, decode(flush.step()))

    assert known.counters == {"p.hits": 13}
    assert known.gauges == {}
    assert _Group.STATS[0][2] == COUNTER
