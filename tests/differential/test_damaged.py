"""Damaged requests in Envoy and in Weft: neither forwards what the other refuses, and both forward the same.

``WEFT_DAMAGED`` sets how many there are (it is 300 in the suite, thousands when somebody hunts), and
``WEFT_DAMAGED_SEED`` where they begin.
"""

import asyncio
import os
import re
from pathlib import Path
from random import Random

import pytest

from weft.testing.damage import damage, sent_by
from weft.testing.peer import Client, Waited
from weft.testing.suites import bootstrap, load_suites
from weft.testing.transcript import normal, read_message, shown

SUITES = load_suites(Path(__file__).parent)
REQUESTS = sent_by("C", SUITES)
PARTS = next(iter(SUITES.values()))["parts"]
SUITE = {
    "parts": PARTS,
    "http": {
        "strict": {"codec_type": "HTTP1"},
        "lenient": {
            "codec_type": "HTTP1",
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
            "http_protocol_options": {
                "accept_http_10": True,
                "allow_chunked_length": True,
                "enable_trailers": True,
            },
        },
    },
    "clusters": PARTS["clusters"],
}
SUITE["config"] = bootstrap(SUITE)
for listener in SUITE["config"]["static_resources"]["listeners"]:
    listener["filter_chains"][0]["filters"][0]["typed_config"].pop("access_log")

STRICTER = {
    "a host field that is repeated, or no RFC 3986 authority (security S10)": rb"(?i)(^|\n)host:",
    "a lone CR where Envoy takes none or a blank (security S11)": rb"\r[^\n]",
}
"""Why Weft may refuse what Envoy forwards: a reason, and what the request then has."""


def accepted(data, envoy, weft):
    """Whether two different outcomes are as they should be.  Forwarding what Envoy refuses never is."""
    # What was answered alike before the mistake is no difference.
    same = min(envoy[0], weft[0], key=len)
    if envoy[0].startswith(same) and weft[0].startswith(same):
        envoy, weft = (envoy[0][len(same) :], envoy[1]), (weft[0][len(same) :], weft[1])
    sent_on = [" 200 OK" in text for text, _ in (envoy, weft)]
    stricter = weft[0].startswith("HTTP/1.1 400 ") and any(
        re.search(what, data) for what in STRICTER.values()
    )
    if not sent_on[1] and stricter:
        return True
    if sent_on == [False, False]:
        # Of several mistakes either may be named, and sooner or later: what cannot become a request may be
        # refused before its head ends.
        refused = [
            re.match(r"HTTP/1\.[01] (400|426|431) ", text) and state == "closed"
            for text, state in (envoy, weft)
        ]
        waits = [outcome == ("", "open") for outcome in (envoy, weft)]
        return all(refused[i] or (waits[i] and refused[1 - i]) for i in (0, 1))
    return False


async def echo(peer):
    """An upstream that tells in its response what it was sent."""
    while True:
        try:
            message = await read_message(peer, request=True)
        except (Waited, ValueError):
            peer.close()
            return
        told = [message.start.decode("latin-1"), message.framing, shown(message.body)]
        told += [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in message.headers]
        told += [f"trailer {name!r}: {value!r}" for name, value in message.trailers]
        body = b"" if message.start.startswith(b"HEAD ") else "\n".join(told).encode("latin-1")
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


async def outcome(side, listener, data):
    """What a client is told within a short time, and whether the connection is still open."""
    client = await Client.connect(*side.stage.listeners[listener], within=2)
    client.send(data)
    quiet = 0
    while not client.ended and quiet < 6:
        before = client.total
        await asyncio.sleep(0.03)
        quiet = 0 if client.total != before else quiet + 1
    client.close()
    text = normal(client.take().decode("latin-1").replace("\r\ndate: ", "\r\n  date: "))
    return text, "closed" if client.ended else "open"


async def all_outcomes(side, cases):
    tasks = set()
    upstream = side.upstreams["U"]

    async def answer():
        while True:
            peer = await upstream.accept(within=1000)
            peer.within = 1000
            tasks.add(asyncio.create_task(echo(peer)))

    answering = asyncio.create_task(answer())
    limit = asyncio.Semaphore(24)

    async def one(listener, data):
        async with limit:
            return await outcome(side, listener, data)

    try:
        return await asyncio.gather(*(one(*case) for case in cases))
    finally:
        answering.cancel()
        upstream.forget()
        for task in tasks:
            task.cancel()
        await asyncio.gather(answering, *tasks, return_exceptions=True)


@pytest.mark.xdist_group("differential")
def test_damaged_requests(pairs):
    pairs.begin(SUITE)
    count = int(os.environ.get("WEFT_DAMAGED", "300"))
    random = Random(int(os.environ.get("WEFT_DAMAGED_SEED", "1")))
    cases = [
        (random.choice(["strict", "lenient"]), damage(random.choice(REQUESTS), REQUESTS, random))
        for _ in range(count)
    ]

    async def both():
        return await asyncio.gather(*(all_outcomes(side, cases) for side in pairs.pair.sides))

    envoy, weft = pairs.runner.run(both())

    differ = [
        f"{case}\n  envoy: {expected}\n  weft:  {got}"
        for case, expected, got in zip(cases, envoy, weft, strict=True)
        if expected != got and not accepted(case[1], expected, got)
    ]
    if differ:
        pytest.fail(f"{len(differ)} of {count} differ:\n" + "\n".join(differ[:50]), pytrace=False)
