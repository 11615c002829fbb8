"""``filter_chain_matcher``: chains chosen by a matcher tree."""

import json

import pytest

from weft.api.load import load_bootstrap
from weft.api.problems import ConfigError
from weft.proxy.address import Address
from weft.proxy.assemble import server_settings
from weft.proxy.listener.filter_chain_tree import DEFAULT_CHAIN, NO_CHAIN, ChainTree
from weft.proxy.observe.stream_info import ConnectionInfo
from weft.proxy.runtime import Runtime
from weft.testing.proxy import proxy

T = "type.googleapis.com/"
NETWORK = "envoy.extensions.matching.common_inputs.network.v3."


def typed(type, **fields):
    return {"name": "x", "typed_config": {"@type": T + type, **fields}}


def name(chain, **fields):
    return {"action": typed("google.protobuf.StringValue", value=chain), **fields}


def exact(input, branches, **rest):
    return {"matcher_tree": {"input": typed(NETWORK + input), "exact_match_map": {"map": branches}}, **rest}


def answer(text, **fields):
    response = typed("envoy.extensions.filters.network.direct_response.v3.Config", response={"inline_string": text})
    return {"name": text, "filters": [response], **fields}


def echo(text):
    return {"name": text, "filters": [typed("envoy.extensions.filters.network.echo.v3.Echo")]}


def listener(matcher, *chains, **fields):
    address = {"socket_address": {"address": "10.0.0.1", "port_value": 80}}
    return {"name": "main", "address": address, "filter_chain_matcher": matcher, "filter_chains": list(chains), **fields}


def bootstrap(*listeners):
    return json.dumps({"static_resources": {"listeners": list(listeners)}})


def load(*listeners):
    """(settings, warnings)."""
    loaded = load_bootstrap(None, bootstrap(*listeners))
    settings = server_settings(loaded.bootstrap, loaded.problems.where).listeners
    loaded.problems.raise_if_any()
    return settings, [str(problem) for problem in loaded.problems.items]


BY_SOURCE = exact("SourceIPInput", {"10.0.0.7": name("near"), "10.0.0.8": name("lost")})


@pytest.mark.parametrize(("ip", "number"), [("10.0.0.7", 1), ("10.0.0.8", NO_CHAIN), ("10.0.0.9", DEFAULT_CHAIN)])
def test_what_is_found(ip, number):
    (settings,), _ = load(listener(BY_SOURCE, answer("far"), answer("near")))
    chooser = ChainTree(settings.chain_tree, tuple(chain.name for chain in settings.filter_chains), Runtime())
    assert chooser.find(ConnectionInfo(1, 0.0, Address(ip, 4000), Address("10.0.0.1", 80))) == number
    assert chooser.catch_all < 0


async def test_the_chain_that_is_named_carries():
    tree = exact("SourceIPInput", {"10.0.0.7": name("near")}, on_no_match=name("far"))
    async with proxy(bootstrap(listener(tree, answer("far"), answer("near")))) as it:
        near = await it.connect("main", local=("10.0.0.7", 5000))
        far = await it.connect("main", local=("10.0.0.8", 5000))
        assert await near.read_all() == b"near"
        assert await far.read_all() == b"far"
        near.close()
        far.close()


async def test_no_decision_means_the_default_and_an_unknown_name_means_none():
    async with proxy(bootstrap(listener(BY_SOURCE, answer("near"), default_filter_chain=answer("default")))) as it:
        rest = await it.connect("main", local=("10.0.0.9", 5000))
        lost = await it.connect("main", local=("10.0.0.8", 5000))
        assert await rest.read_all() == b"default"
        assert await lost.read_all() == b""
        assert it.stat("listener.10.0.0.1_80.no_filter_chain_match") == 1
        rest.close()
        lost.close()


async def test_a_default_alone_does_not_take_what_is_sent_elsewhere():
    async with proxy(bootstrap(listener({"on_no_match": name("gone")}, default_filter_chain=answer("default")))) as it:
        client = await it.connect("main")
        assert await client.read_all() == b""
        client.close()


async def test_a_changed_matcher_keeps_sockets_and_unchanged_chains(loop):
    before = exact("SourcePortInput", {"1": name("one"), "2": name("two")})
    after = exact("SourcePortInput", {"1": name("three"), "3": name("one")})
    async with proxy(bootstrap(listener(before, echo("one"), echo("two")))) as it:
        listeners = it.worker.listeners
        listeners.drain_time = 30.0
        kept = await it.connect("main", local=("10.9.9.9", 1))
        dropped = await it.connect("main", local=("10.9.9.9", 2), within=60)
        for client in (kept, dropped):
            client.send(b"x")
            await client.read(1)
        running = listeners.get("main")

        (changed,), _ = load(listener(after, echo("one"), answer("three")))
        assert await listeners.apply(changed) is running

        assert it.stat("listener_manager.listener_in_place_updated") == 1
        assert it.stat("listener_manager.total_filter_chains_draining") == 1
        moved = await it.connect("main", local=("10.9.9.8", 1))
        assert await moved.read_all() == b"three"
        refused = await it.connect("main", local=("10.9.9.8", 2))
        assert await refused.closed() == "eof"
        begun = loop.time()
        assert await dropped.closed() == "eof"
        assert loop.time() - begun == pytest.approx(30.0, abs=0.1)
        kept.send(b"y")
        assert await kept.read(1) == b"y"
        for client in (kept, dropped, moved, refused):
            client.close()


async def test_criteria_and_a_matcher_may_take_turns():
    criteria = listener(None, echo("one"))
    del criteria["filter_chain_matcher"]
    async with proxy(bootstrap(criteria)) as it:
        client = await it.connect("main")
        client.send(b"x")
        assert await client.read(1) == b"x"
        (changed,), _ = load(listener(exact("SourcePortInput", {"7": name("one")}), echo("one")))
        await it.worker.listeners.apply(changed)
        taken = await it.connect("main", local=("10.9.9.9", 7))
        refused = await it.connect("main", local=("10.9.9.9", 8))
        assert await refused.closed() == "eof"
        for one in (client, taken):
            one.send(b"y")
            assert await one.read(1) == b"y"
        for one in (client, taken, refused):
            one.close()


ALWAYS = {"on_no_match": name("one")}


@pytest.mark.parametrize(("message", "path", "text"), [
    (listener(ALWAYS, answer("one"), {"filters": []}), "filter_chains[1].name", '"name" field is required when using a listener matcher'),
    (listener(ALWAYS, answer("one"), answer("one")), "filter_chains[1].name", "\"name\" field is duplicated with value 'one'"),
    (listener(ALWAYS, answer("one", filter_chain_match={"address_suffix": "x"})), "filter_chains[0].filter_chain_match", "not implemented"),
    (listener(ALWAYS), "", "no filter chains specified"),
    (
        listener({"matcher_tree": {"input": typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name="x"), "exact_match_map": {"map": {"a": name("one")}}}}, answer("one")),
        "filter_chain_matcher.matcher_tree.input", "Didn't find a registered implementation",
    ),
    (
        listener({"on_no_match": {"action": typed("envoy.config.route.v3.Route", match={"prefix": "/"}, non_forwarding_action={})}}, answer("one")),
        "filter_chain_matcher.on_no_match.action", "Didn't find a registered implementation",
    ),
])  # fmt: skip
def test_refused_as_by_envoy(message, path, text):
    with pytest.raises(ConfigError) as refused:
        load(message)

    (problem,) = refused.value.problems
    assert text in problem.text
    assert problem.path == "static_resources.listeners[0]" + (f".{path}" if path else "")
    assert problem.line > 0


def test_what_has_no_effect_is_told():
    branch = name("lost", keep_matching=True)
    _, warnings = load(listener(
        exact("SourcePortInput", {"1": branch}), answer("one", filter_chain_match={"server_names": ["part*ial"]})
    ))  # fmt: skip

    assert [text.partition("static_resources.listeners[0].")[2] for text in warnings] == [
        "filter_chains[0].filter_chain_match: the criteria of a chain are ignored where the listener has a filter_chain_matcher",
        'filter_chain_matcher.matcher_tree.exact_match_map.map["1"].action.typed_config: '
        "there is no filter chain named 'lost': connections that get here are closed",
    ]
