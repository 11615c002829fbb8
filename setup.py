"""Building the package: the configuration schema, and the hot modules compiled.

Everything else about the package is in ``pyproject.toml``.  ``WEFT_COMPILE=0`` gives a pure build;
unset or ``1`` compiles the modules of :data:`COMPILED` with mypyc.  Editable installs are never
compiled unless ``WEFT_COMPILE=1`` says so, because a compiled module hides the edits of its source.
"""

import os
import pathlib
import sys

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE / "src"
SCHEMA = SOURCE / "weft" / "api" / "schema.bin"

COMPILED = [
    "weft/api/*.py",
    "weft/http/headers.py",
    "weft/http/joined.py",
    "weft/http/message.py",
    "weft/http/path.py",
    "weft/codec/*.py",
    "weft/proxy/address.py",
    "weft/proxy/clock.py",
    "weft/proxy/deadlines.py",
    "weft/proxy/runtime.py",
    "weft/proxy/matchers.py",
    "weft/proxy/matching/inputs.py",
    "weft/proxy/matching/predicates.py",
    "weft/proxy/matching/trace.py",
    "weft/proxy/matching/tree.py",
    "weft/proxy/prefixes.py",
    "weft/proxy/regex.py",
    "weft/proxy/value_matchers.py",
    "weft/proxy/observe/stats.py",
    "weft/proxy/observe/histogram.py",
    "weft/proxy/observe/stream_info.py",
    "weft/proxy/observe/flags.py",
    "weft/proxy/worker_counts.py",
    "weft/proxy/listener/accept.py",
    "weft/proxy/listener/chain.py",
    "weft/proxy/listener/filter.py",
    "weft/proxy/listener/filter_chain_match.py",
    "weft/proxy/listener/filter_chain_tree.py",
    "weft/proxy/listener/http_inspector.py",
    "weft/proxy/listener/listener.py",
    "weft/proxy/listener/original_dst.py",
    "weft/proxy/listener/proxy_protocol.py",
    "weft/proxy/listener/stats.py",
    "weft/proxy/network/connection.py",
    "weft/proxy/network/echo.py",
    "weft/proxy/network/splice.py",
    "weft/proxy/network/stats.py",
    "weft/proxy/network/tcp_proxy.py",
    "weft/proxy/http/*.py",
    "weft/proxy/route/*.py",
    "weft/proxy/upstream/*.py",
]
"""What every request runs through, compiled together so that calls between modules are direct."""

INTERPRETED = {
    "weft/api/__init__.py",
    "weft/codec/__init__.py",
    "weft/proxy/http/__init__.py",
    "weft/proxy/route/__init__.py",
    "weft/proxy/upstream/__init__.py",
}
"""Matched above, and left out: packages without code, and modules that mypyc refuses."""


def compiled_modules() -> list[str]:
    found = {path.relative_to(SOURCE).as_posix() for pattern in COMPILED for path in SOURCE.glob(pattern)}
    return [f"src/{name}" for name in sorted(found - INTERPRETED)]


MYPY_OPTIONS = [
    # `make check` is where types are judged; here they only have to be known.
    "--config-file=",
    "--python-version=3.11",
    "--ignore-missing-imports",
    "--no-warn-unused-ignores",
]


def wants_compiling() -> bool:
    """The build tools also run this file to ask for names and versions: not then."""
    asked = os.environ.get("WEFT_COMPILE", "")
    commands = {"bdist_wheel", "build", "build_ext", "install"} | ({"editable_wheel"} if asked == "1" else set())
    return asked != "0" and bool(commands & set(sys.argv))


class BuildWithSchema(build_py):
    """Makes the schema first, so that it is found among the package data."""

    def run(self) -> None:
        sys.path.insert(0, str(HERE / "tools"))
        import build_schema

        if build_schema.is_stale(SCHEMA):
            build_schema.build(SCHEMA)
        super().run()


def extensions() -> list:
    if not wants_compiling():
        return []
    from mypyc.build import mypycify

    os.environ.setdefault("MYPYPATH", str(SOURCE))
    return mypycify(MYPY_OPTIONS + compiled_modules(), opt_level=os.environ.get("WEFT_OPT_LEVEL", "3"), group_name="weft")


setup(cmdclass={"build_py": BuildWithSchema}, ext_modules=extensions())
