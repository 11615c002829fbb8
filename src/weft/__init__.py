"""Weft: a service mesh in Python.

``weft.proxy`` carries the traffic, ``weft.api`` knows the configuration schema, ``weft.codec``
turns bytes into events, ``weft.http`` is HTTP as meaning.  ``docs/life-of-a-request.md`` walks
through the house.
"""

__version__ = "0.1.0"
