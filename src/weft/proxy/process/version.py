"""Which Weft this is, where Envoy says which Envoy."""

import os
import sys

from weft import __version__


def version() -> str:
    """In the shape of Envoy's: revision/version/state/build/TLS library."""
    return f"weft/{__version__}/Clean/RELEASE/OpenSSL"


def version_number() -> int:
    """``server.version``: two decimal digits each for minor and patch, in front of them major."""
    major, minor, patch = (int(part) for part in __version__.split(".")[:3])
    return major * 10_000 + minor * 100 + patch


def command_line() -> str:
    """For logs."""
    return " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
