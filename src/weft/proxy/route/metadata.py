"""``envoy.config.core.v3.Metadata`` as plain values, for logs, matchers and balancers."""

from typing import Any


def plain_metadata(message: Any) -> dict[str, Any]:
    """Namespace -> JSON-like value."""
    return {name: plain_struct(struct) for name, struct in message.filter_metadata.items()}


def plain_struct(struct: Any) -> dict[str, Any]:
    return {name: plain_value(value) for name, value in struct.fields.items()}


def plain_value(value: Any) -> Any:
    """A ``google.protobuf.Value``: None, bool, float, str, list or dict."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return plain_struct(value.struct_value)
    if kind == "list_value":
        return [plain_value(item) for item in value.list_value.values]
    if kind is None or kind == "null_value":
        return None
    return getattr(value, kind)
