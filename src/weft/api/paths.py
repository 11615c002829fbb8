"""Paths into a message: how the walks build them, how they are written, and how they are read.

In text: proto field names joined by dots, ``[3]`` for an element of a list, ``["key"]`` for an entry
of a map; what is inside of an ``Any`` follows the name of the field that holds it.
"""

import re
from typing import Any, Final

Path = tuple[Any, str] | None
"""A linked list from the inside out, cheap to lengthen: (parent, ``name`` or ``[3]`` or ``["key"]``)."""

PART: Final = re.compile(r'\.?([^.\[\]"]+)|\[(\d+)\]|\["(.*?)"\](?=[.\[]|$)', re.DOTALL)
"""One step of a written path: name, number or key."""


def path_text(path: Path) -> str:
    parts: list[str] = []
    while path is not None:
        path, part = path
        parts.append(part if part.startswith("[") else "." + part)
    return "".join(reversed(parts)).removeprefix(".")


def parent_path(path: str) -> str:
    """The written path without its last step."""
    end = 0
    for part in PART.finditer(path):
        end = part.start()
    return path[:end]
