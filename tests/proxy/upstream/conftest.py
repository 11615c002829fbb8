"""Clusters from plain fields, and a worker to run them in."""

import asyncio
from random import Random
from typing import Any

import pytest
from google.protobuf import json_format

from weft.api.problems import Problems
from weft.api.schema import find_type, message_class, schema
from weft.proxy.clock import Clock
from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadlines
from weft.proxy.observe.stats import Store
from weft.proxy.runtime import Runtime
from weft.proxy.upstream.directory import Clusters
from weft.proxy.upstream.settings import ClusterSettings, cluster_settings


def _load_types(fields: Any) -> None:
    if isinstance(fields, dict):
        if isinstance(fields.get("@type"), str):
            find_type(fields["@type"].rpartition("/")[2])
        for value in fields.values():
            _load_types(value)
    elif isinstance(fields, list):
        for value in fields:
            _load_types(value)


def endpoint(address: str, port: int = 80, **more: Any) -> dict[str, Any]:
    """An ``lb_endpoint``; a path is a Unix socket."""
    where = {"pipe": {"path": address}} if address.startswith("/") else None
    socket = {"socket_address": {"address": address, "port_value": port}}
    return {"endpoint": {"address": where or socket}, **more}


def locality(*endpoints: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
    return {"lb_endpoints": [endpoint(e) if isinstance(e, str) else e for e in endpoints], **more}


def cluster_fields(*localities: dict[str, Any], **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": "web", "connect_timeout": "1s"}
    policy = more.pop("policy", {})
    fields["load_assignment"] = {"cluster_name": "web", "endpoints": list(localities), "policy": policy}
    return {**fields, **more}


def parse(fields: dict[str, Any]) -> tuple[ClusterSettings, Problems]:
    _load_types(fields)
    problems = Problems()
    message = message_class("envoy.config.cluster.v3.Cluster")()
    json_format.ParseDict(fields, message, descriptor_pool=schema().pool)
    return cluster_settings(message, problems.where), problems


def settings(*localities: dict[str, Any], **more: Any) -> ClusterSettings:
    made, problems = parse(cluster_fields(*localities, **more))
    problems.raise_if_any()
    return made


def worker(
    clusters: Clusters, loop: asyncio.AbstractEventLoop | None = None, index: int = 0, seed: int = 0
) -> WorkerContext:
    """A context whose clusters have begun."""
    own = asyncio.get_running_loop() if loop is None else loop
    context = WorkerContext(
        loop=own,
        clock=Clock(own, wall=own.time),
        deadlines=Deadlines(own),
        random=Random(seed),
        stats=Store(),
        runtime=Runtime(),
        clusters=clusters,
        log_files=None,  # type: ignore[arg-type]  # nothing here logs
        index=index,
    )
    clusters.start(context)
    return context


class Kit:
    endpoint = staticmethod(endpoint)
    locality = staticmethod(locality)
    fields = staticmethod(cluster_fields)
    parse = staticmethod(parse)
    settings = staticmethod(settings)
    worker = staticmethod(worker)


@pytest.fixture
def kit() -> type[Kit]:
    return Kit
