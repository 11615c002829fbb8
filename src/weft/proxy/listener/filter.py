"""What a listener filter is: it looks at a connection before anybody knows what it carries.

Filters run in order on a connection that has no filter chain yet.  They may find out more about it
(its true ends, its protocol), which they write into the :class:`ConnectionInfo`, or refuse it.  Bytes
are only looked at: what a filter does not take away, the next filter and the filter chain see again.
"""

from typing import Any, Final

from weft.proxy.observe.stream_info import ConnectionInfo

CONTINUE: Final = 0
WAIT: Final = 1
"""More bytes are needed."""
CLOSE: Final = 2
"""The connection is refused; the filter has counted why."""


class Accepted:
    """A connection as listener filters see it."""

    def __init__(self, info: ConnectionInfo, transport: Any) -> None:
        self.info = info
        self.transport = transport
        """Filters read socket options from it, nothing else."""
        self.buffer: bytes = b""
        """Received and not taken."""
        self.traffic_direction: str = ""


class ListenerFilter:
    """Subclass and override.  One object per connection, or one for all if it keeps no state."""

    def on_accept(self, accepted: Accepted) -> int:
        """CONTINUE, WAIT (for bytes) or CLOSE."""
        return CONTINUE

    def on_data(self, accepted: Accepted) -> int:
        """After WAIT, with everything received so far in ``accepted.buffer``."""
        return CONTINUE
