"""A switch in the configuration that a runtime key may flip (``RuntimeFeatureFlag``)."""

from dataclasses import dataclass
from typing import Any, Final

from weft.api.values import wrapped
from weft.proxy.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    default: bool = True
    key: str = ""
    """Runtime key; empty for none."""

    def enabled(self, runtime: Runtime) -> bool:
        return runtime.boolean(self.key, self.default) if self.key else self.default


ALWAYS_ON: Final = Feature()


def feature(message: Any, field: str) -> Feature:
    """The flag in ``field``; on when it is not set."""
    if not message.HasField(field):
        return ALWAYS_ON
    flag = getattr(message, field)
    return Feature(default=wrapped(flag, "default_value", True), key=flag.runtime_key)
