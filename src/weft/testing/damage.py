"""Damaged messages: bytes that were right once, for fuzzers of every kind."""

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from weft.testing.transcript import unescape

TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1", b"HTTP/1.0",
    b"transfer-encoding: chunked\r\n", b"content-length: 5\r\n", b"Content-Length: 00005\r\n", b"host: x\r\n",
    b"connection: close\r\n", b"connection: upgrade\r\nupgrade: websocket\r\n", b"expect: 100-continue\r\n",
    b"x" * 5000, b"a: b\r\n" * 120, b"\xff", b"%00", b"//", b"ffffffffffffffff", b"-1", b" chunked", b"GET / HTTP/1.1\r\n",
]  # fmt: skip


def sent_by(who: str, suites: Mapping[str, Any]) -> list[bytes]:
    """Everything that the scripts let ``who`` (``C``, ``U``) send first: a corpus."""
    found: set[bytes] = set()
    for suite in suites.values():
        for script in suite["exchanges"].values():
            match = re.search(rf"^\s*{who}> (.*)$", script, re.MULTILINE)
            if match:
                found.add(unescape(match[1]))
    return sorted(data for data in found if len(data) < 20_000)


def damage(whole: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    """``whole`` with none to several mistakes in it."""
    data = bytearray(whole)
    for _ in range(random.choice([0, 1, 1, 1, 2, 3, 6])):
        at = random.randrange(len(data) + 1)
        kind = random.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = random.randrange(256)
        elif kind == 1:
            del data[at : at + random.choice([1, 2, 10, 100])]
        elif kind == 2:
            data[at:at] = random.choice(TOKENS)
        elif kind == 3:
            data[at:at] = data[at : at + random.randrange(1, 40)]
        elif kind == 4:
            data[at:] = random.choice(corpus)[at:]
        else:
            del data[at:]
    return bytes(data)
