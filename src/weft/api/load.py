"""Loading a configuration: files and inline YAML to one validated message, or every problem at once.

The steps: text to nodes (:mod:`weft.api.document`), old names to new ones
(:mod:`weft.api.upgrade`), nodes to a message (:mod:`weft.api.convert`), inline YAML merged over the
file, and the rules of the schema (:mod:`weft.api.validate`).  What a message *means* is for the
settings of each part; they go on adding to ``Loaded.problems``, whose places are known.

A bootstrap is what a proxy starts from; :func:`load_message` loads a message of any other type.
"""

import gc
import re
from dataclasses import dataclass, field, replace
from typing import Any, Final

from google.protobuf.message import DecodeError, EncodeError

from weft.api.convert import MAX_DEPTH, Converter
from weft.api.document import LIST, MAP, DocumentError, Node
from weft.api.json_reader import parse_json, quick_json
from weft.api.paths import PART, Path, parent_path, path_text
from weft.api.problems import ConfigError, Problem, Problems
from weft.api.schema import find_type, is_map, message_class
from weft.api.unpack import bare_name
from weft.api.upgrade import upgrade_bootstrap
from weft.api.validate import Checker, features
from weft.api.yaml_reader import parse_yaml

BOOTSTRAP: Final = "envoy.config.bootstrap.v3.Bootstrap"

INLINE: Final = "--config-yaml"
"""The name of inline YAML in problems."""

ROUTES: Final = "envoy.config.route.v3.RouteConfiguration"
_ONLY_IN_ROUTES: Final = ("virtual_hosts", "virtualHosts", "vhds")

SHALLOW: Final = 30
"""Levels of nesting that protobuf carries whatever they are."""

ALLOW_DEPRECATED: Final = "envoy.features.enable_all_deprecated_features"

MAX_BYTES: Final = 256 << 20
"""Of one configuration file."""


@dataclass(slots=True)
class Loaded:
    """A bootstrap (or what was asked for) that can be used.  ``problems`` holds the warnings, and knows the places."""

    bootstrap: Any
    problems: Problems


def load_bootstrap(
    path: str | None, config_yaml: str = "", *, allow_unknown_fields: bool = False, keep_going: bool = False
) -> Loaded:
    """Load the file at ``path`` with ``config_yaml`` merged over it; either may be missing.

    Raises :class:`ConfigError` with every problem that was found.  With ``keep_going`` a bootstrap
    with problems is returned as well, what could not be read left out, for whoever wants to find
    what else is wrong.  ``allow_unknown_fields`` makes unknown fields warnings.
    """
    sources = []
    if path is not None:
        sources.append(_read(path))
    if config_yaml:
        sources.append(_Source(INLINE, "yaml", config_yaml))
    if not sources:
        raise ConfigError([Problem("", "neither a configuration file nor inline YAML was given")])
    loaded = _load(sources, allow_unknown_fields)
    if not keep_going:
        loaded.problems.raise_if_any()
    return loaded


def load_message(path: str, type_name: str, *, allow_deprecated: bool = False) -> tuple[Any, Problems]:
    """The file at ``path`` as a message of the type ``type_name``, and the warnings.

    Fields have the names of today: v2 is for bootstraps.  Raises :class:`ConfigError` with every
    problem that was found.  With ``allow_deprecated`` what is deprecated is taken without a word, even
    where Envoy no longer takes it by default.
    """
    loaded = _load(
        [_read(path)], type_name=type_name, runtime={ALLOW_DEPRECATED: True} if allow_deprecated else {}
    )
    if allow_deprecated:
        loaded.problems.items = [
            item for item in loaded.problems.items if not item.text.endswith(" is deprecated")
        ]
    loaded.problems.raise_if_any()
    return loaded.bootstrap, loaded.problems


def load_bootstrap_or_routes(path: str) -> Loaded:
    """Load a bootstrap, or a RouteConfiguration that stands by itself: told by the names at its top.

    Raises :class:`ConfigError` with every problem that was found.  ``bootstrap`` of what is returned is
    either message.
    """
    source = _read(path)
    root = source.parse(Problems(), False) if source.form in ("yaml", "json") else None
    routes = root is not None and any(root.get(name) is not None for name in _ONLY_IN_ROUTES)
    loaded = _load([source], type_name=ROUTES if routes else BOOTSTRAP)
    loaded.problems.raise_if_any()
    return loaded


def load_text(text: str, form: str = "yaml", name: str = "") -> Loaded:
    """Load a bootstrap from text (``yaml``, ``json`` or ``pb_text``)."""
    loaded = _load([_Source(name, form, text)])
    loaded.problems.raise_if_any()
    return loaded


@dataclass(slots=True)
class _Source:
    """One text (or bytes), and what became of it."""

    name: str
    form: str
    text: str = ""
    data: bytes = b""
    root: Node | None = field(default=None, repr=False)

    def parse(self, problems: Problems, old_names: bool) -> Node | None:
        """The tree, with old names replaced if there may be any; problems of the text itself are raised."""
        try:
            root = parse_json(self.text) if self.form == "json" else parse_yaml(self.text)
        except DocumentError as error:
            raise ConfigError([Problem("", error.text, self.name, error.line, error.column)]) from None
        if root is None or root.kind not in (MAP, LIST):
            line, column = (root.line, root.column) if root is not None else (0, 0)
            what = "nothing in it" if root is None else f"expected a mapping, not {root.describe()}"
            raise ConfigError([Problem("", what, self.name, line, column)])
        if not old_names:
            return root

        def report(path: Path, node: Node, text: str, warning: bool) -> None:
            problems.items.append(Problem(path_text(path), text, self.name, node.line, node.column, warning))

        return upgrade_bootstrap(root, report)


def _read(path: str) -> _Source:
    """The form is told by the end of the name; anything unknown is JSON, as with Envoy."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem("", f"cannot be read: {error.strerror}", path)]) from None
    except ValueError as error:  # a NUL in the name
        raise ConfigError([Problem("", f"cannot be read: {error}", path)]) from None
    if len(data) > MAX_BYTES:
        raise ConfigError([Problem("", f"larger than {MAX_BYTES >> 20} MiB", path)])
    lower = path.lower()
    if lower.endswith(".pb"):
        return _Source(path, "pb", data=data)
    form = "json"
    for ending, known in ((".pb_text", "pb_text"), (".yaml", "yaml"), (".yml", "yaml")):
        if lower.endswith(ending):
            form = known
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise ConfigError([Problem("", "not UTF-8", path, line, column)]) from None
    return _Source(path, form, text.removeprefix("\ufeff") if form == "yaml" else text)


def _load(
    sources: list[_Source],
    allow_unknown_fields: bool = False,
    type_name: str = BOOTSTRAP,
    runtime: dict[str, bool] | None = None,
) -> Loaded:
    """``runtime`` has boolean keys that the message itself does not give."""
    problems = Problems()
    places = Places(sources, type_name == BOOTSTRAP)
    # A tree of nodes is many small objects and no garbage: collecting while it grows is half the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        bootstrap = _convert_all(sources, problems, type_name)
        if allow_unknown_fields:
            problems.items = [_excused(item) for item in problems.items]
        checked = Problems(locate=places.locate)
        keys = features(bootstrap) if type_name == BOOTSTRAP else {}
        Checker(checked, {**keys, **(runtime or {})}).check(bootstrap)
        problems.items += _without_echoes(checked.items, problems.errors)
    finally:
        if collecting:
            gc.enable()
        places.forget()
    problems.items.sort(key=lambda item: (places.rank(item.file), item.line, item.column))
    problems.locate = places.locate
    return Loaded(bootstrap, problems)


def _without_echoes(checked: list[Problem], unread: list[Problem]) -> list[Problem]:
    """What the rules say, less what follows from values that could not be read.

    Such a value is missing now; that it, or all of a oneof or a list it belongs to, is missing is
    no second problem.  Nor is a required field missing beside a name that may be meant for it.
    """
    hidden = {item.path for item in unread}
    hidden |= {parent_path(path) for path in hidden}
    misnamed = {parent_path(item.path) for item in unread if item.text.startswith("unknown field ")}
    return [item for item in checked if item.path not in hidden and parent_path(item.path) not in misnamed]


def _excused(problem: Problem) -> Problem:
    """An unknown field as a warning; anything else as it is."""
    unknown = problem.text.startswith(("unknown field ", "fields of unknown number "))
    return replace(problem, warning=True) if unknown else problem


def _convert_all(sources: list[_Source], problems: Problems, type_name: str) -> Any:
    bootstrap: Any = None
    broken: list[Problem] = []
    for source in sources:
        message = message_class(type_name)()
        try:
            if source.form == "pb":
                _from_binary(source, message, problems)
            elif source.form == "pb_text":
                _from_text(source, message, problems)
            else:
                _from_nodes(source, message, problems)
        except ConfigError as error:
            broken += error.problems
            continue
        if bootstrap is None:
            bootstrap = message
        else:
            bootstrap.MergeFrom(message)
    if broken:
        raise ConfigError(broken + problems.errors)
    return bootstrap


_NAMES_V3: Final = re.compile(r'"@type"\s*:\s*"[^"]*\.v3')


def _quickly(source: _Source, message: Any) -> bool:
    """Fill ``message`` without minding places; false, and nothing filled, when there is anything to tell."""
    if source.form != "json":
        return False
    if message.DESCRIPTOR.full_name == BOOTSTRAP and _NAMES_V3.search(source.text) is None:
        return False  # the names may be old
    root = quick_json(source.text)
    if root is None or root.kind != MAP:
        return False
    told: list[str] = []

    def report(path: Path, node: Node, text: str, warning: bool) -> None:
        told.append(text)

    converter = Converter(report)
    converter.fill(message, root, None)
    if told or converter.deepest > SHALLOW:
        message.Clear()
        return False
    return True


def _from_nodes(source: _Source, message: Any, problems: Problems) -> None:
    if _quickly(source, message):
        return
    source.root = source.parse(problems, message.DESCRIPTOR.full_name == BOOTSTRAP)
    assert source.root is not None

    def report(path: Path, node: Node, text: str, warning: bool) -> None:
        problems.items.append(Problem(path_text(path), text, source.name, node.line, node.column, warning))

    converter = Converter(report)
    converter.fill(message, source.root, None)
    if converter.deepest > SHALLOW and not _travels(message):
        if converter.deepest <= MAX_DEPTH:
            text = "nested deeper than protobuf can carry (100 messages)"
            problems.items.append(Problem("", text, source.name, source.root.line, source.root.column))
        message.Clear()


def _travels(message: Any) -> bool:
    """Whether protobuf reads what it writes; a Struct nests three messages for each level."""
    try:
        message.FromString(message.SerializeToString())
    except (DecodeError, EncodeError):
        return False
    return True


def _from_text(source: _Source, message: Any, problems: Problems) -> None:
    from weft.api.textproto import parse_text

    for text, line, column, warning in parse_text(source.text, message):
        problems.items.append(Problem("", text, source.name, line, column, warning))


def _from_binary(source: _Source, message: Any, problems: Problems) -> None:
    try:
        message.MergeFromString(source.data)
    except DecodeError:
        raise ConfigError(
            [Problem("", f"not a binary {message.DESCRIPTOR.full_name}", source.name)]
        ) from None
    _unknown_fields(message, "", source.name, problems)


def _unknown_fields(message: Any, path: str, file: str, problems: Problems) -> None:
    from google.protobuf.unknown_fields import UnknownFieldSet

    numbers = sorted({unknown.field_number for unknown in iter(UnknownFieldSet(message))})
    if numbers:
        text = f"fields of unknown number in {message.DESCRIPTOR.full_name}: {', '.join(map(str, numbers))}"
        problems.items.append(Problem(path, text, file))
    if message.DESCRIPTOR.full_name == "google.protobuf.Any":
        descriptor = find_type(bare_name(message.type_url))
        if descriptor is not None:
            try:
                inner = message_class(descriptor.full_name).FromString(message.value)
            except DecodeError:
                return  # the rules will say so
            _unknown_fields(inner, path, file, problems)
        return
    for found, value in message.ListFields():
        if found.message_type is None:
            continue
        here = f"{path}.{found.name}" if path else found.name
        if is_map(found):
            if found.message_type.fields_by_name["value"].message_type is not None:
                for key in value:
                    _unknown_fields(value[key], f'{here}["{key}"]', file, problems)
        elif found.is_repeated:
            for number, item in enumerate(value):
                _unknown_fields(item, f"{here}[{number}]", file, problems)
        else:
            _unknown_fields(value, here, file, problems)


# -- places ----------------------------------------------------------------------------------------


class Places:
    """From a path to the file, line and column of the nearest thing that was written there.

    The trees are not kept (that of a large bootstrap takes more memory than all the rest): they are
    read again when somebody asks.
    """

    def __init__(self, sources: list[_Source], old_names: bool) -> None:
        self._sources = sources
        self._old_names = old_names

    def forget(self) -> None:
        for source in self._sources:
            source.root = None

    def rank(self, file: str) -> int:
        return next((number for number, source in enumerate(self._sources) if source.name == file), -1)

    def locate(self, path: str) -> tuple[str, int, int]:
        roots: list[tuple[_Source, Node]] = []
        for source in self._sources:
            if source.form not in ("yaml", "json"):
                continue
            if source.root is None:
                source.root = source.parse(Problems(), self._old_names)
            assert source.root is not None
            roots.append((source, source.root))
        if not roots:
            return self._sources[0].name, 0, 0
        here = roots
        for part in PART.finditer(path):
            name, number, key = part.groups()
            if number is not None:
                inner = _item(here, int(number))
            else:
                members = ((source, _member(node, name or key)) for source, node in here)
                inner = [(source, node) for source, node in members if node is not None]
            if not inner:
                break
            here = inner
        source, node = here[-1]
        return source.name, node.line, node.column


def _item(places: list[tuple[_Source, Node]], number: int) -> list[tuple[_Source, Node]]:
    """An element of a list that is the file's elements and then the inline ones."""
    for source, node in places:
        items = _flat(node) if node.kind == LIST else [node]
        if number < len(items):
            return [(source, items[number])]
        number -= len(items)
    return []


def _flat(node: Node) -> list[Node]:
    return [inner for item in node.items for inner in (_flat(item) if item.kind == LIST else [item])]


def _member(node: Node, name: str) -> Node | None:
    found = node.get(name)
    if found is None and "_" in name:
        first, *rest = name.split("_")
        found = node.get(first + "".join(part.capitalize() for part in rest))
    return found
