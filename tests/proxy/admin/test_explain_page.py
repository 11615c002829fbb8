"""``POST /route/explain``."""

import asyncio
import json

import pytest

from weft.api.load import load_bootstrap
from weft.proxy.admin.site import Site
from weft.proxy.assemble import server_settings
from weft.proxy.explain.sources import sources_of

MANAGER = """
        - name: http
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: {name}
            route_config:
              name: {name}
              virtual_hosts: [{{name: v, domains: ["*"], routes: [{{match: {{prefix: /{name}}}, direct_response: {{status: 200}}}}]}}]
            http_filters:
            - name: router
              typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"""


def sources(*names):
    text = "static_resources:\n  listeners:\n"
    for number, name in enumerate(names):
        text += f"  - name: on-{name}\n    address: {{socket_address: {{address: 127.0.0.1, port_value: {9000 + number}}}}}\n"
        text += f"    filter_chains:\n      - filters:{MANAGER.format(name=name)}"
    loaded = load_bootstrap(None, text)
    settings = server_settings(loaded.bootstrap, loaded.problems.where)
    assert loaded.problems.errors == []
    return sources_of(settings, {})


def ask(view, body, target="/route/explain", method="POST"):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.run(Site(view).answer(method, target, raw))


def test_every_table_is_explained(view):
    view.sources = sources("a", "b")

    answer = ask(view, {"url": "http://h/a"})

    assert (answer.status, answer.content_type) == (200, "application/json")
    told = json.loads(answer.body)["explanations"]
    assert [(one["table"], one["listener"], one["matched"]) for one in told] == [("a", "on-a", True), ("b", "on-b", False)]


def test_one_is_chosen(view):
    view.sources = sources("a", "b")

    told = json.loads(ask(view, {"url": "http://h/a", "listener": "on-b"}).body)["explanations"]

    assert [one["table"] for one in told] == ["b"]


def test_as_text(view):
    view.sources = sources("a")

    answer = ask(view, {"url": "http://h/a"}, "/route/explain?format=text")

    assert answer.content_type.startswith("text/plain")
    assert answer.body.startswith("GET http://h/a  (table a, listener on-a)\n")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "body: empty; expected JSON such as "),
        (b"{", "body: not JSON: "),
        (b"\xff", "body: not JSON: "),
        (b"[" * 100_000, "body: not JSON: "),
        ({}, "authority: missing"),
        ({"url": "http://h/", "listner": "x"}, "listner: there is no such field"),
        ({"url": "http://h/", "listener": "on-c"}, "listener: no listener with a route table is named 'on-c'; did you mean 'on-a'?"),
    ],
)
def test_a_question_that_is_wrong(view, body, problem):
    view.sources = sources("a")

    answer = ask(view, body)

    assert answer.status == 400
    assert answer.body.startswith(problem)


def test_a_format_that_there_is_not(view):
    assert ask(view, {"url": "http://h/"}, "/route/explain?format=xml").status == 400


def test_it_needs_post(view):
    assert ask(view, {"url": "http://h/"}, method="GET").status == 405


def test_too_many_tables(view):
    view.sources = sources(*[f"t{i}" for i in range(51)])

    answer = ask(view, {"url": "http://h/"})

    assert (answer.status, answer.body) == (400, "listener: 51 tables would be explained: name a listener or a table\n")


def test_a_proxy_without_tables(view):
    assert ask(view, {"url": "http://h/"}).body.startswith("there is no route table")


def test_others_get_their_turn(view):
    """Ten thousand routes are explained in steps."""
    from dataclasses import replace

    view.sources = sources("a")
    table = view.sources.tables[0]
    host = table.settings.route_table.virtual_hosts[0]
    host.seal(host.routes * 10_000)
    view.sources = replace(view.sources, tables=(table,))

    async def turns():
        body = json.dumps({"url": "http://h/b", "all": True}).encode()
        task = asyncio.ensure_future(Site(view).answer("POST", "/route/explain", body))
        count = 0
        while not task.done():
            await asyncio.sleep(0)
            count += 1
        return count, await task

    count, answer = asyncio.run(turns())

    assert answer.status == 200
    assert count > 50
