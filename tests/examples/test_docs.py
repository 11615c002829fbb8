"""What the documentation shows is true: its examples are loaded, its commands run, its links lead somewhere.

A fenced block says what it is after its language: ``yaml file=NAME`` is a file of the page (``console`` blocks
run beside it), ``yaml KIND`` a piece of a bootstrap that is put where it belongs (see ``_PLACES``) and
loaded, ``python file=NAME`` a module of the page.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from weft.api.load import load_bootstrap
from weft.proxy.assemble import server_settings
from weft.proxy.process.options import Options
from weft.testing import run
from weft.testing.peer import Upstream
from weft.testing.proxy import proxy
from weft.testing.transcript import read_message

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
ENVOY = os.environ.get("WEFT_ENVOY") or str(ROOT / "tests" / ".oracle" / "bin" / "envoy")
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)
_TYPE = "type.googleapis.com/envoy.extensions.filters."


def blocks(page):
    """(language, the words after it, text, line), in order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        yield found[1], found[2].split(), found[3], text.count("\n", 0, found.start()) + 1


def named(page, language):
    """The files of a page."""
    out = {}
    for found, words, text, _ in blocks(page):
        for word in words:
            if found == language and word.startswith("file="):
                out[word.removeprefix("file=")] = text
    return out


# -- pieces of a bootstrap ------------------------------------------------------------------------


def _hcm(fields):
    answer = {
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "one"}}],
    }
    router = {"name": "router", "typed_config": {"@type": _TYPE + "http.router.v3.Router"}}
    return {
        "@type": _TYPE + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "docs",
        "route_config": {"virtual_hosts": [answer]},
        "http_filters": [router],
        **fields,
    }


def _listener(fields):
    chain = {"filters": [{"name": "http", "typed_config": _hcm({})}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 10000}}
    return {"listeners": [{"name": "docs", "address": address, "filter_chains": [chain], **fields}]}


def _chain(filters):
    return _listener({"filter_chains": [{"filters": filters}]})


def _with_hcm(fields):
    return _chain([{"name": "http", "typed_config": _hcm(fields)}])


def _hosts(*hosts):
    return _with_hcm({"route_config": {"virtual_hosts": list(hosts)}})


_PLACES = {
    "listener": _listener,
    "listener_filters": lambda filters: _listener({"listener_filters": filters}),
    "network_filters": _chain,
    "http": _with_hcm,
    "virtual_hosts": lambda hosts: _hosts(*hosts),
    "routes": lambda routes: _hosts({"name": "docs", "domains": ["*"], "routes": routes}),
    "access_log": lambda logs: _with_hcm({"access_log": logs}),
    "clusters": lambda clusters: {"clusters": clusters},
    "bootstrap": lambda bootstrap: bootstrap,
}
_OTHERS = ("suite",)
"""YAML that is no configuration."""


def _whole(kind, piece):
    if kind == "bootstrap":
        return piece
    static = _PLACES[kind](piece)
    given = static.setdefault("clusters", [])
    names = {cluster["name"] for cluster in given}
    static["clusters"] = given + [{"name": name} for name in ("one", "two") if name not in names]
    return {"static_resources": static}


PIECES = [
    pytest.param(words[0], text, id=f"{page.stem}-{line}")
    for page in PAGES
    for language, words, text, line in blocks(page)
    if language == "yaml" and words and words[0] in _PLACES
]


@pytest.mark.parametrize(("kind", "text"), PIECES)
def test_a_piece_of_configuration_loads(kind, text):
    loaded = load_bootstrap(None, yaml.safe_dump(_whole(kind, yaml.safe_load(text))))
    server_settings(loaded.bootstrap, loaded.problems.where, Options())

    told = [
        str(problem)
        for problem in loaded.problems.items
        if not (problem.warning and problem.text.endswith("in this version of Weft"))
    ]
    assert told == []


@pytest.mark.parametrize(("kind", "text"), PIECES)
def test_a_piece_of_configuration_is_good_for_envoy(kind, text, tmp_path):
    if not Path(ENVOY).exists():
        pytest.skip(f"no Envoy to compare with: nothing at {ENVOY}, and WEFT_ENVOY does not name one")
    path = tmp_path / "piece.yaml"
    path.write_text(yaml.safe_dump(_whole(kind, yaml.safe_load(text))))
    command = [ENVOY, "--mode", "validate", "--disable-hot-restart", "-l", "error", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_every_yaml_block_says_what_it_is():
    silent = [
        f"{page.relative_to(ROOT)}:{line}"
        for page in PAGES
        for language, words, _, line in blocks(page)
        if language == "yaml"
        and not (words and (words[0] in (*_PLACES, *_OTHERS) or words[0].startswith("file=")))
    ]

    assert silent == []


# -- commands --------------------------------------------------------------------------------------


def _commands(text):
    """(arguments of weft, what it prints)"""
    for part in text.split("$ weft ")[1:]:
        line, _, printed = part.partition("\n")
        yield shlex.split(line), printed


@pytest.mark.parametrize(
    ("page", "arguments", "printed"),
    [
        pytest.param(page, arguments, printed, id=f"{page.stem}-{line}-{' '.join(arguments)[:40]}")
        for page in PAGES
        for language, _, text, line in blocks(page)
        if language == "console"
        for arguments, printed in _commands(text)
    ],
)
def test_a_command_prints_what_is_shown(page, arguments, printed, tmp_path):
    for name, text in named(page, "yaml").items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "weft", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    assert done.stdout == printed


# -- links -----------------------------------------------------------------------------------------


def _anchors(page):
    """As code hosts make them of headings."""
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.M):
        yield re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or anchor in _anchors(there), target


def test_the_index_has_every_page():
    index = (DOCS / "README.md").read_text()
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}

    assert {name for name in pages if f"({name})" not in index} == set()


# -- the filter of one's own -----------------------------------------------------------------------


@pytest.fixture
def filter_page(tmp_path, monkeypatch):
    """The package of docs/filters.md, as if it were installed; its configuration."""
    files = named(DOCS / "filters.md", "python")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    project = next(text for language, words, text, _ in blocks(DOCS / "filters.md") if language == "toml")
    _install(project, tmp_path / "weft_greeter-1.0.dist-info")
    monkeypatch.syspath_prepend(str(tmp_path))
    return named(DOCS / "filters.md", "yaml")["greeter.yaml"]


def _install(project, where):
    """What an installer leaves of entry points."""
    import tomllib

    metadata = tomllib.loads(project)["project"]
    where.mkdir()
    (where / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {metadata['name']}\nVersion: 1.0\n")
    lines = []
    for group, entries in metadata["entry-points"].items():
        lines.append(f"[{group}]")
        lines += [f"{name} = {place}" for name, place in entries.items()]
    (where / "entry_points.txt").write_text("\n".join(lines))


async def _exchange(running, upstream, head, forwarded=True):
    """(the request that arrived upstream, the answer)"""
    client = await running.connect("main")
    before = len(upstream.peers)
    client.send(head)
    request = None
    if forwarded:
        await upstream.until(lambda: len(upstream.peers) > before, "the request")
        request = await read_message(upstream.peers[-1], request=True)
        upstream.peers[-1].send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        upstream.peers[-1].close()
    answer = await read_message(client, request=False)
    client.close()
    return request, answer


def test_a_filter_of_ones_own(filter_page):
    async def play():
        async with await Upstream.listen("127.0.0.1", 10001) as upstream, proxy(filter_page) as running:
            stranger = await _exchange(running, upstream, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", False)
            friend = await _exchange(
                running, upstream, b"GET / HTTP/1.1\r\nhost: a\r\nauthorization: me\r\n\r\n"
            )
            short = await _exchange(
                running, upstream, b"GET /short HTTP/1.1\r\nhost: a\r\nauthorization: me\r\n\r\n"
            )
            off = await _exchange(running, upstream, b"GET /open HTTP/1.1\r\nhost: a\r\n\r\n")
            stats = running.stats()
        return stranger, friend, short, off, stats

    (_, refusal), (request, answer), (short, _), (off, plain), stats = run(play)
    assert (refusal.status, refusal.body) == (401, b"who are you?\n")
    assert (b"x-greeting", b"good day, me") in request.headers
    assert (b"x-greeted", b"yes") in answer.headers
    assert (b"x-greeting", b"hi, me") in short.headers
    assert not any(name == b"x-greeting" for name, _ in off.headers)
    assert not any(name == b"x-greeted" for name, _ in plain.headers)
    assert stats["http.main.greeter.greeted"] == 2
    assert stats["http.main.greeter.refused"] == 1


def test_its_configuration_is_checked(filter_page):
    loaded = load_bootstrap(None, filter_page.replace("greeting: hi", "greetings: hi"))
    server_settings(loaded.bootstrap, loaded.problems.where, Options())

    assert [problem.text for problem in loaded.problems.errors] == ["unknown field 'greetings'"]


def test_the_test_of_the_page(filter_page):
    """Runs what the page shows as its test."""
    import importlib

    module = importlib.import_module("test_greeter")
    for name in dir(module):
        if name.startswith("test_"):
            getattr(module, name)()
