"""Bytes to events and back.  Sans-I/O: nothing here knows a socket or a clock.

A codec raises :class:`~weft.codec.errors.PeerError` and nothing else; fuzzers hold it to that.
"""
