"""Explanations of tables written as dicts."""

import asyncio
from dataclasses import replace

import pytest
from google.protobuf.json_format import ParseDict

from weft.api.problems import Where
from weft.api.schema import find_type, message_class, schema
from weft.proxy.explain.explain import explain
from weft.proxy.explain.question import question
from weft.proxy.explain.tables import Sources, Table, bare
from weft.proxy.http.settings import hcm_settings
from weft.proxy.route.table import route_table
from weft.steps import at_once

HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_TYPE = "type.googleapis.com/envoy.extensions.filters.http."


def table_of(config):
    """A RouteConfiguration; a list is the routes of one virtual host for every name."""
    if isinstance(config, list):
        config = {"name": "t", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": config}]}
    where = Where.nowhere()
    find_type("envoy.config.route.v3.FilterConfig")
    find_type("envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute")
    message = ParseDict(config, message_class("envoy.config.route.v3.RouteConfiguration")(), descriptor_pool=schema().pool)
    table = route_table(message, where)
    assert [str(problem) for problem in where.problems.errors] == []
    return table


def manager_of(config, routes, **more):
    """A table in a connection manager with options."""
    where = Where.nowhere()
    filters = config.pop("http_filters", [])
    for one in filters:
        find_type(one["typed_config"]["@type"].rpartition("/")[2])
    find_type("envoy.extensions.filters.http.router.v3.Router")
    router = {"name": "router", "typed_config": {"@type": _TYPE + "router.v3.Router"}}
    message = ParseDict(
        {"stat_prefix": "t", "http_filters": [*filters, router], **config}, message_class(HCM)(), descriptor_pool=schema().pool
    )
    settings = hcm_settings(message, where)
    assert [str(problem) for problem in where.problems.errors] == []
    return Table(settings=replace(settings, route_table=table_of(routes)), **more)


@pytest.fixture
def asked():
    """``asked(config, "http://host/path", headers=...)``: the explanation."""

    def ask(config, url, *, sources=None, **more):
        loop = asyncio.new_event_loop()
        try:
            table = config if isinstance(config, Table) else bare(table_of(config))
            return at_once(explain(table, question({"url": url, **more}), sources or Sources(tables=()), loop))
        finally:
            loop.close()

    return ask


@pytest.fixture
def managed():
    return manager_of


@pytest.fixture
def tables():
    return table_of



@pytest.fixture
def to():
    """A route: ``to("name", {"prefix": "/"}, ...)``."""

    def build(name, match, **more):
        action = {} if {"redirect", "direct_response", "non_forwarding_action"} & set(more) else {"route": {"cluster": name or "c"}}
        return {"name": name, "match": match, **action, **more}

    return build
