"""Commands about metadata and filter state: what configuration and filters noted."""

from typing import Any, Final

from weft.proxy.clock import Clock
from weft.proxy.observe.commands import (
    LENGTH,
    REQUIRED,
    UNCHECKED,
    Command,
    FormatError,
    Operator,
    Plain,
    Table,
    printable,
)
from weft.proxy.observe.json_text import json_bytes
from weft.proxy.observe.stream_info import StreamInfo

DYNAMIC: Final = 0
CLUSTER: Final = 1
ROUTE: Final = 2
UPSTREAM_HOST: Final = 3
LISTENER: Final = 4
LISTENER_FILTER_CHAIN: Final = 5
VIRTUAL_HOST: Final = 6

_KINDS: Final = {
    "DYNAMIC": DYNAMIC,
    "CLUSTER": CLUSTER,
    "ROUTE": ROUTE,
    "UPSTREAM_HOST": UPSTREAM_HOST,
    "LISTENER": LISTENER,
    "LISTENER_FILTER_CHAIN": LISTENER_FILTER_CHAIN,
    "VIRTUAL_HOST": VIRTUAL_HOST,
}


def _metadata(info: StreamInfo, kind: int) -> Any:
    """Namespace -> plain value, or None."""
    if kind == DYNAMIC:
        return info.dynamic_metadata
    if kind == CLUSTER:
        return None if info.cluster is None else info.cluster.metadata
    if kind == ROUTE:
        return None if info.route is None else info.route.metadata
    if kind == UPSTREAM_HOST:
        return None if info.host is None else info.host.metadata
    if kind == LISTENER:
        return info.connection.listener_metadata
    if kind == VIRTUAL_HOST:
        return None if info.virtual_host is None else info.virtual_host.metadata
    return None


class _Metadata(Operator):
    def __init__(self, kind: int, path: str, length: int | None) -> None:
        self._kind = kind
        self._path = path.split(":")
        self._length = length

    def value(self, info: StreamInfo, clock: Clock) -> Plain:
        value = _metadata(info, self._kind)
        if value is None and self._kind == DYNAMIC:
            value = info.connection.dynamic_metadata
        for key in self._path:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value[: self._length] if isinstance(value, str) else value

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        value = self.value(info, clock)
        if value is None:
            return None
        raw = printable(value.encode()) if isinstance(value, str) else json_bytes(value)
        return raw[: self._length]


def _of_kind(kind: int) -> Any:
    def build(parameter: str, length: int | None) -> Operator:
        return _Metadata(kind, parameter, length)

    return build


def _metadata_command(parameter: str, length: int | None) -> Operator:
    name, _, path = parameter.partition(":")
    if name not in _KINDS:
        raise FormatError(f"{name} is not supported type of metadata")
    return _Metadata(_KINDS[name], path, length)


_PLAIN: Final = 0
_TYPED: Final = 1
_FIELD: Final = 2


class _FilterState(Operator):
    """An object that a filter left: as text, as JSON, or one field of it."""

    def __init__(self, key: str, style: int, field: str, length: int | None) -> None:
        self._key = key
        self._style = style
        self._field = field
        self._length = length

    def _object(self, info: StreamInfo) -> Any:
        found = info.state(self._key)
        if self._style == _FIELD:
            found = found.get(self._field) if isinstance(found, dict) else None
            return found if isinstance(found, str | int) else None
        return found

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        found = self._object(info)
        if found is None:
            return None
        if self._style == _TYPED or isinstance(found, dict | list):
            raw = json_bytes(found)
        else:
            raw = printable(str(found).encode())
        return raw[: self._length]

    def value(self, info: StreamInfo, clock: Clock) -> Plain:
        if self._style == _TYPED:
            return self._object(info)
        return self.raw(info, clock)


class _Missing(Operator):
    """Upstream filter state: nothing upstream leaves any yet."""

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return None


def _filter_state(parameter: str, length: int | None) -> Operator:
    key, _, rest = parameter.partition(":")
    kind, _, field = rest.partition(":")
    field = field.partition(":")[0]
    if not key:
        raise FormatError("Invalid filter state configuration, key cannot be empty.")
    styles = {"": _TYPED, "TYPED": _TYPED, "PLAIN": _PLAIN, "FIELD": _FIELD}
    if kind not in styles:
        raise FormatError("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.")
    if (kind == "FIELD") != bool(field):
        raise FormatError("Invalid filter state serialize type, FIELD should be used with the field name.")
    return _FilterState(key, styles[kind], field, length)


def _upstream_filter_state(parameter: str, length: int | None) -> Operator:
    _filter_state(parameter, length)
    return _Missing()


TABLE: Final[Table] = {
    "METADATA": Command(UNCHECKED, _metadata_command),
    "DYNAMIC_METADATA": Command(REQUIRED | LENGTH, _of_kind(DYNAMIC)),
    "CLUSTER_METADATA": Command(REQUIRED, _of_kind(CLUSTER)),
    "UPSTREAM_METADATA": Command(REQUIRED, _of_kind(UPSTREAM_HOST)),
    "FILTER_STATE": Command(UNCHECKED, _filter_state),
    "UPSTREAM_FILTER_STATE": Command(UNCHECKED, _upstream_filter_state),
}
