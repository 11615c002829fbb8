"""Filters that want to see a connection's bytes, between the socket and the terminal.

Most filters decide when a connection is new and are out of the way after that.  For the others the
terminal is given a :class:`FilteredTransport` in place of the transport: what the terminal sets as
protocol is kept here, and bytes pass the filters on their way to it.
"""

import asyncio
from typing import Any

from weft.proxy.network.connection import Connection, NetworkFilter


def sees_data(filter: NetworkFilter) -> bool:
    """Whether the filter's class has an ``on_data`` of its own."""
    return type(filter).on_data is not NetworkFilter.on_data


class FilteredTransport(asyncio.Transport):
    """The transport that a terminal sees, and the protocol that the real one sees."""

    def __init__(self, connection: Connection, filters: list[NetworkFilter]) -> None:
        super().__init__()
        self._connection = connection
        self._inner: Any = connection.transport
        self._filters = filters
        self._protocol: Any = None

    # -- as protocol ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        for filter in self._filters:
            passed = filter.on_data(self._connection, data, False)
            if passed is None:
                self._connection.close()
                return
            data = passed
        if data:
            self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        for filter in self._filters:
            rest = filter.on_data(self._connection, b"", True)
            if rest is None:
                self._connection.close()
                return False
            if rest:
                self._protocol.data_received(rest)
        keep: bool | None = self._protocol.eof_received()
        return keep

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    # -- as transport --------------------------------------------------------------------------

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._inner.set_protocol(self)

    def get_protocol(self) -> Any:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        # Whoever asks for the socket would go round the filters.
        return default if name == "socket" else self._inner.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return bool(self._inner.is_closing())

    def close(self) -> None:
        self._inner.close()

    def abort(self) -> None:
        self._inner.abort()

    def is_reading(self) -> bool:
        return bool(self._inner.is_reading())

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()

    def write(self, data: Any) -> None:
        self._inner.write(data)

    def writelines(self, list_of_data: Any) -> None:
        self._inner.writelines(list_of_data)

    def write_eof(self) -> None:
        self._inner.write_eof()

    def can_write_eof(self) -> bool:
        return bool(self._inner.can_write_eof())

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._inner.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        limits: tuple[int, int] = self._inner.get_write_buffer_limits()
        return limits

    def get_write_buffer_size(self) -> int:
        size: int = self._inner.get_write_buffer_size()
        return size
