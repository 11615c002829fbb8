"""Suites of exchanges: files that configure a proxy and script what happens at both its ends.

A suite is a YAML file::

    about: what it covers
    listener: the listener that clients connect to by default
    http:
      NAME: fields of its connection manager; "listener" has fields of the listener, "filters" what comes before
    tcp:
      NAME: {filters: [...], listener: {...}}
    clusters: [...]
    bootstrap: more of the bootstrap
    cut: false where it does not matter how bytes are cut (what a request says is looked at, not how it comes)
    exchanges:
      name of the exchange: |
        C> GET / HTTP/1.1|host: a||
        ...

``${u}`` stands for the port of upstream U (see :mod:`weft.testing.transcript`), ``${refused}`` and
``${silent}`` for ports that refuse and that never answer, ``${log}`` for the file of the access log.

They are played by :mod:`weft.testing.pair` in Envoy and in Weft, and by :func:`play_in_memory` on a
:class:`~weft.testing.loop.VirtualLoop`.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from weft.testing.loop import VirtualLoop
from weft.testing.network import Chunks, Link
from weft.testing.peer import Upstream
from weft.testing.proxy import proxy
from weft.testing.transcript import Exchange, Stage, play

UPSTREAMS = "UVW"


def load_suites(folder: Path) -> dict[str, dict[str, Any]]:
    """Suites by name, from the files in ``suites/``; the anchors of ``parts.yaml`` are known in each."""
    parts = (folder / "parts.yaml").read_text()
    suites = {}
    for path in sorted(folder.glob("suites/*.yaml")):
        suite = yaml.safe_load(parts + path.read_text())
        suite["config"] = bootstrap(suite)
        suites[path.stem] = suite
    return suites


def bootstrap(suite: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a suite: a listener for each entry of ``http`` and of ``tcp``."""
    parts = suite["parts"]
    listeners = []
    for kind in ("http", "tcp"):
        for name, content in suite.get(kind, {}).items():
            content = dict(content)
            listener = {
                "name": name,
                "stat_prefix": name,
                "address": parts["address"],
                **content.pop("listener", {}),
            }
            filters = content.pop("filters", [])
            if kind == "http":
                http = {**parts["hcm"], "stat_prefix": name, **content}
                filters = [*filters, {"name": "http", "typed_config": http}]
            listener.setdefault("filter_chains", [{"filters": filters}])
            # Asked for any port, the kernel may give one that another proxy shares (SO_REUSEPORT).
            listener.setdefault("enable_reuse_port", False)
            listeners.append(listener)
    resources = {"listeners": listeners, "clusters": suite["clusters"]}
    return {
        "admin": {"address": parts["address"]},
        "static_resources": resources,
        **suite.get("bootstrap", {}),
    }


def load_exchange(suite: dict[str, Any], name: str) -> Exchange:
    lines = [line.strip() for line in suite["exchanges"][name].splitlines()]
    return Exchange(
        name=name,
        script=[line for line in lines if line and not line.startswith("#")],
        listener=suite["listener"],
    )


def filled(config: Any, known: Mapping[str, str]) -> str:
    """The text of a configuration, with the ports and files of a run filled in."""
    text = re.sub(r"\$\{(\w+)\}", lambda match: known[match[1]], json.dumps(config))
    return re.sub(r'"port_value": "(\d+)"', r'"port_value": \1', text)


async def play_in_memory(suite: Mapping[str, Any], exchange: Exchange, chunks: Chunks) -> list[str]:
    """Play one exchange against a worker of its own on the running (virtual) loop; the observation."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.network.link = Link(chunks=chunks)
    upstreams = {name: await Upstream.listen("127.0.0.1") for name in UPSTREAMS}
    known = {name.lower(): str(upstream.port) for name, upstream in upstreams.items()}
    silent = loop.network.next_port()
    loop.network.silent.add(("127.0.0.1", silent))
    known |= {"refused": str(loop.network.next_port()), "silent": str(silent), "log": "/dev/null"}
    async with proxy(filled(_only_used(suite["config"], exchange), known)) as running:
        listeners = {one.name: running.address(one.name) for one in running.worker.listeners.all()}
        seen = await play(exchange, Stage(listeners, upstreams))
        await asyncio.sleep(1)
        if running.connections:
            seen.append(f"{running.connections} downstream connections are left")
    for upstream in upstreams.values():
        upstream.close()
    return seen


def _only_used(config: Mapping[str, Any], exchange: Exchange) -> dict[str, Any]:
    """The configuration with the listeners of one exchange: it starts sooner."""
    used = {exchange.listener, *re.findall(r" open (\w+)", "\n".join(exchange.script))}
    resources = dict(config["static_resources"])
    resources["listeners"] = [one for one in resources["listeners"] if one["name"] in used]
    return {**config, "static_resources": resources}
