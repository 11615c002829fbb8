"""However the bytes are cut, the same happens: every exchange of the differential suites, in memory.

Played once with everything delivered whole and once cut; what clients and upstreams see is equal,
but for what follows from the cuts themselves.
"""

import zlib
from pathlib import Path

import pytest

from weft.testing import VirtualLoop, run
from weft.testing.network import byte_by_byte, random_pieces, whole
from weft.testing.suites import load_exchange, load_suites, play_in_memory

SUITES = load_suites(Path(__file__).parent.parent / "differential")
CASES = [
    (suite, name)
    for suite, content in SUITES.items()
    if content.get("cut", True)
    for name in content["exchanges"]
]

EARLY = "the answer overtakes the body, so the connection closes"
LATE = "the head has gone upstream when the mistake shows"
CUT_DEPENDENT = {
    "http1/upstream resets in a chunked body": "reads chunks raw",
    "http1/upstream closes in a chunked body": "reads chunks raw",
    "http1/upstream breaks its chunks": "reads chunks raw",
    "http1/connect refused": EARLY,
    "http1/the answer comes before the body is sent": EARLY,
    "http1/expect 100-continue goes through and is refused": EARLY,
    "http1/the answer comes early and the body goes on": EARLY,
    "http1/connect is refused": EARLY,
    "http1/an upgrade that is not configured": EARLY,
    "mirroring/a body in chunks": "reads chunks raw",
    "mirroring/a host that refuses, with a body": EARLY,
    "connect/posted in chunks": "reads chunks raw",
    "connect/posted, the upstream ends": "reads chunks raw",
    "connect/posted with a length": "how the answer is chunked",
    "routes/no route": EARLY,
    "routes/direct responses": EARLY,
    "smuggling/a chunk size that is none": LATE,
    "smuggling/a chunk size with a sign": LATE,
    "smuggling/a chunk size in 0x": LATE,
    "smuggling/a chunk size beyond numbers": LATE,
    "smuggling/a chunk longer than its size": LATE,
    "smuggling/a chunk that ends in LF": LATE,
    "smuggling/a trailer with a blank in its name": LATE,
    "smuggling/an extension with a lone CR": LATE,
    "smuggling/a chunk size line that ends in LF": LATE,
}
"""What legitimately depends on what arrives together, and why."""


def same_for_all_cuts(observation):
    """Without what depends on whether the request had arrived whole when it was answered."""
    kept = []
    for line in observation:
        if line.endswith("connection: close"):
            continue
        kept.append(line.replace("then reset", "then eof").removesuffix(" reset"))
    return kept


def observe(suite, name, chunks, seed):
    exchange = load_exchange(SUITES[suite], name)
    return run(lambda: play_in_memory(SUITES[suite], exchange, chunks), loop=VirtualLoop(seed))


@pytest.mark.parametrize(("suite", "name"), [pytest.param(*case, id="/".join(case)) for case in CASES])
def test_cutting_changes_nothing(suite, name):
    case = f"{suite}/{name}"
    if case in CUT_DEPENDENT:
        pytest.skip(CUT_DEPENDENT[case])
    seed = zlib.crc32(case.encode())
    expected = same_for_all_cuts(observe(suite, name, whole, seed))

    assert same_for_all_cuts(observe(suite, name, random_pieces, seed)) == expected
    if "megabyte" not in name:
        assert same_for_all_cuts(observe(suite, name, byte_by_byte, seed)) == expected


def test_exceptions_name_exchanges():
    assert {tuple(case.split("/", 1)) for case in CUT_DEPENDENT} <= set(CASES)
