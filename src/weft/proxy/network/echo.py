"""Sends back what it receives (``envoy.filters.network.echo``)."""

from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.proxy.context import WorkerContext
from weft.proxy.extensions import NetworkFilterKind
from weft.proxy.network.connection import Connection


@dataclass(frozen=True, slots=True)
class EchoSettings:
    """No settings."""


def echo_settings(message: Any, where: Where) -> EchoSettings:
    return EchoSettings()


class Echo:
    """The terminal."""

    def take(self, connection: Connection, data: bytes) -> None:
        protocol = EchoConnection(connection)
        connection.transport.set_protocol(protocol)  # type: ignore[arg-type]  # duck-typed, for mypyc
        if data:
            protocol.data_received(data)


class EchoConnection:
    """The protocol of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transport = connection.transport

    def data_received(self, data: bytes) -> None:
        info = self._connection.info
        info.bytes_received += len(data)
        info.bytes_sent += len(data)
        self._transport.write(data)

    def eof_received(self) -> bool:
        # False closes the transport once everything is written.
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.closed()

    def pause_writing(self) -> None:
        # A peer that does not read its echo may not send more.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()


def _build(settings: EchoSettings, context: WorkerContext) -> Echo:
    return Echo()


ECHO: Final = NetworkFilterKind(
    name="envoy.filters.network.echo",
    type="envoy.extensions.filters.network.echo.v3.Echo",
    settings=echo_settings,
    build=_build,
    terminal=True,
)
