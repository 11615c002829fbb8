"""Header rules: what routes add to, overwrite in and remove from headers.

One :class:`HeaderEdits` per place that has rules (weighted cluster, route, virtual host, table);
:class:`HeaderRules` is their chain, in the order in which they apply.  Within one place, as in
Envoy, removals come first, then every new value is computed from what the headers were, then
overwrites and at last additions are written.
"""

import re
from typing import Any, Final

from weft.api.problems import Where
from weft.http.headers import Field, Headers
from weft.http.joined import JOINED_IN_REQUESTS, JOINED_IN_RESPONSES
from weft.proxy.clock import Clock
from weft.proxy.observe.formatter import Format, compile_format
from weft.proxy.observe.stream_info import StreamInfo

APPEND: Final = 0
ADD_IF_ABSENT: Final = 1
OVERWRITE_OR_ADD: Final = 2
OVERWRITE: Final = 3
"""Numbers of ``HeaderValueOption.HeaderAppendAction``."""

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_ACTIONS: Final = ("append", "add if absent", "overwrite or add", "overwrite if there")


class Edit:
    """One header to set.  ``field`` is ready when the value has no commands, else ``format`` is."""

    __slots__ = ("action", "field", "format", "keep_empty", "name")

    def __init__(
        self, name: bytes, action: int, field: Field | None, format: Format | None, keep_empty: bool
    ) -> None:
        self.name: bytes = name
        self.action: int = action
        self.field: Field | None = field
        self.format: Format | None = format
        self.keep_empty: bool = keep_empty

    def made(self, info: StreamInfo, clock: Clock) -> Field | None:
        """The field with its value; None when there is nothing to set."""
        field = self.field
        if field is not None:
            return field
        format = self.format
        if format is None:
            return None
        value = format.bytes(info, clock)
        if not value and not self.keep_empty:
            return None
        if _CONTROL.search(value) is not None:
            # Metadata and filter state may hold anything; a header may not (CVE-2023-27493).
            value = _CONTROL.sub(b"_", value)
        return Field(self.name, value)

    def describe(self) -> str:
        return f"{_ACTIONS[self.action]} {self.name.decode('latin-1')}"


class HeaderEdits:
    """The rules of one place."""

    __slots__ = ("_joined", "_plain_additions", "_plain_overwrites", "_simple", "edits", "removals")

    def __init__(self, removals: tuple[bytes, ...], edits: tuple[Edit, ...], *, request: bool) -> None:
        self.removals: tuple[bytes, ...] = removals
        self.edits: tuple[Edit, ...] = edits
        self._joined: frozenset[bytes] = JOINED_IN_REQUESTS if request else JOINED_IN_RESPONSES
        additions: list[Field] = []
        overwrites: list[Field] = []
        simple = True
        for edit in edits:
            if edit.field is None or edit.action in (ADD_IF_ABSENT, OVERWRITE):
                simple = False
            elif edit.action == APPEND:
                additions.append(edit.field)
            else:
                overwrites.append(edit.field)
        self._simple: bool = simple
        """Every value is known and no action depends on what is there."""
        self._plain_additions: tuple[Field, ...] = tuple(additions)
        self._plain_overwrites: tuple[Field, ...] = tuple(overwrites)

    def apply(self, headers: Headers, info: StreamInfo, clock: Clock) -> None:
        for name in self.removals:
            headers.drop(name)
        if self._simple:
            for field in self._plain_overwrites:
                headers.drop(field.name)
                headers.append(field)
            for field in self._plain_additions:
                if field.name in self._joined:
                    append_joined(headers, field)
                else:
                    headers.append(field)
            return
        additions: list[Field] = []
        overwrites: list[Field] = []
        for edit in self.edits:
            made = edit.made(info, clock)
            if made is None:
                continue
            action = edit.action
            if action == APPEND:
                additions.append(made)
            elif action == OVERWRITE_OR_ADD:
                overwrites.append(made)
            else:
                there = headers.find(edit.name) is not None
                if action == ADD_IF_ABSENT and not there:
                    additions.append(made)
                elif action == OVERWRITE and there:
                    overwrites.append(made)
        for field in overwrites:
            headers.drop(field.name)
            headers.append(field)
        for field in additions:
            if field.name in self._joined:
                append_joined(headers, field)
            else:
                headers.append(field)


class HeaderRules:
    """The rules of several places, one after another: a later one sees what an earlier one did."""

    __slots__ = ("places",)

    def __init__(self, places: tuple[HeaderEdits, ...]) -> None:
        self.places: tuple[HeaderEdits, ...] = places

    def apply(self, headers: Headers, info: StreamInfo, clock: Clock) -> None:
        for place in self.places:
            place.apply(headers, info, clock)


def append_joined(headers: Headers, field: Field) -> None:
    """Add to the field of that name, which messages have at most one of; new when there is none."""
    fields = headers.fields
    for i in range(len(fields)):
        if fields[i].name == field.name:
            value = fields[i].value
            if not value:
                fields[i] = field
            elif field.value:
                fields[i] = Field(field.name, value + b"," + field.value)
            return
    headers.append(field)


def chain(*places: HeaderEdits | None) -> HeaderRules | None:
    """The places that have rules, in that order; None when none has."""
    kept = tuple([place for place in places if place is not None])
    return HeaderRules(kept) if kept else None


# -- from configuration ----------------------------------------------------------------------------


def header_edits(message: Any, side: str, where: Where) -> HeaderEdits | None:
    """From ``request_headers_to_add`` and ``_to_remove`` (side ``request``, or ``response``)."""
    added = getattr(message, f"{side}_headers_to_add")
    removed = getattr(message, f"{side}_headers_to_remove")
    if not added and not removed:
        return None
    removals: list[bytes] = []
    place = where.field(f"{side}_headers_to_remove")
    for i, name in enumerate(removed):
        lower = name.lower().encode()
        if not may_be_edited(lower):
            place.item(i).problem(":-prefixed or host headers may not be removed")
            continue
        removals.append(lower)
    place = where.field(f"{side}_headers_to_add")
    edits = [
        edit for i, option in enumerate(added) if (edit := header_edit(option, place.item(i))) is not None
    ]
    return HeaderEdits(tuple(removals), tuple(edits), request=side == "request")


def header_edit(option: Any, where: Where) -> Edit | None:
    """From an ``envoy.config.core.v3.HeaderValueOption``; None when it never sets anything."""
    name = option.header.key.lower().encode()
    if not may_be_edited(name):
        where.field("header").field("key").problem(":-prefixed or host headers may not be modified")
        return None
    action: int = option.append_action
    if option.HasField("append"):
        if action != APPEND:
            where.problem("Both append and append_action are set and it's not allowed")
        action = APPEND if option.append.value else OVERWRITE_OR_ADD
    keep_empty: bool = option.keep_empty_value
    place = where.field("header").field("value")
    text: str = option.header.value
    if option.header.raw_value:
        where.field("header").field("raw_value").warn("without effect here, in Envoy as well: give a value")
    if "%" not in text:
        if not text and not keep_empty:
            return None
        return Edit(name, action, Field(name, text.encode()), None, keep_empty)
    format = compile_format(modern(text), place, omit_empty=True)
    if format.literal is not None:
        return Edit(name, action, Field(name, format.literal), None, keep_empty)
    return Edit(name, action, None, format, keep_empty)


def may_be_edited(name: bytes) -> bool:
    """Pseudo-headers and ``host`` have options of their own (rewrites)."""
    return not name.startswith(b":") and name != b"host"


# Header values once had a grammar of their own; these two spellings are still read (our own
# patterns, and only ever run on configuration).
_METADATA: Final = re.compile(r"%(UPSTREAM|DYNAMIC)_METADATA\(\s*\[(.*?)\]\s*\)%")
_STATE: Final = re.compile(r"%PER_REQUEST_STATE\((.*?)\)%")
_QUOTED: Final = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')


def modern(text: str) -> str:
    """``%DYNAMIC_METADATA(["ns", "key"])%`` and ``%PER_REQUEST_STATE(x)%`` as formatters write them."""
    if "_METADATA(" in text:
        text = _METADATA.sub(_modern_metadata, text)
    if "%PER_REQUEST_STATE(" in text:
        text = _STATE.sub(r"%FILTER_STATE(\1:PLAIN)%", text)
    return text


def _modern_metadata(match: re.Match[str]) -> str:
    keys = _QUOTED.findall(match.group(2))
    if not keys:
        return match.group()
    return f"%{match.group(1)}_METADATA({':'.join(keys)})%"
