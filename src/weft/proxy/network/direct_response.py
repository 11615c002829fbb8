"""Answers every connection with the same bytes and closes it (``envoy.filters.network.direct_response``)."""

import os
from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.proxy.context import WorkerContext
from weft.proxy.extensions import NetworkFilterKind
from weft.proxy.network.connection import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectResponseSettings:
    body: bytes = b""


def direct_response_settings(message: Any, where: Where) -> DirectResponseSettings:
    if not message.HasField("response"):
        return DirectResponseSettings()
    return DirectResponseSettings(body=_read(message.response, where.field("response")))


def _read(source: Any, where: Where) -> bytes:
    """The bytes that an ``envoy.config.core.v3.DataSource`` stands for, as they are now."""
    kind = source.WhichOneof("specifier")
    if kind == "inline_string":
        text: str = source.inline_string
        return text.encode()
    if kind == "inline_bytes":
        return bytes(source.inline_bytes)
    if kind == "environment_variable":
        value = os.environ.get(source.environment_variable)
        if value is None:
            where.field("environment_variable").problem(
                f"environment variable doesn't exist: {source.environment_variable}"
            )
        return (value or "").encode()
    if kind == "filename":
        try:
            with open(source.filename, "rb") as file:
                return file.read()
        except OSError as error:
            where.field("filename").problem(f"cannot read '{source.filename}': {error.strerror}")
        return b""
    where.problem("one of filename, inline_bytes, inline_string, environment_variable is required")
    return b""


class DirectResponse:
    """The terminal."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def take(self, connection: Connection, data: bytes) -> None:
        protocol = Answered(connection)
        transport = connection.transport
        transport.set_protocol(protocol)  # type: ignore[arg-type]  # duck-typed, for mypyc
        connection.info.bytes_received += len(data)
        connection.info.bytes_sent += len(self._body)
        if self._body:
            transport.write(self._body)
        connection.end("")


class Answered:
    """The protocol until the answer is flushed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def data_received(self, data: bytes) -> None:
        self._connection.info.bytes_received += len(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.closed()

    def pause_writing(self) -> None:
        """There is nothing more to write."""

    def resume_writing(self) -> None:
        """There is nothing more to write."""


def _build(settings: DirectResponseSettings, context: WorkerContext) -> DirectResponse:
    return DirectResponse(settings.body)


DIRECT_RESPONSE: Final = NetworkFilterKind(
    name="envoy.filters.network.direct_response",
    type="envoy.extensions.filters.network.direct_response.v3.Config",
    settings=direct_response_settings,
    build=_build,
    terminal=True,
)
