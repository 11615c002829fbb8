"""The body of a request, kept to be sent again when the first try leads elsewhere."""

from typing import Final

UNLIMITED: Final = 1 << 62


class KeptBody:
    """What has arrived, until it is more than ``limit`` bytes: then nothing is kept."""

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.size: int = 0
        self.overflowed: bool = False
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> bool:
        """False when this is too much; once is enough."""
        if self.overflowed or not data:
            return True
        self.size += len(data)
        if self.size > self.limit:
            self.overflowed = True
            self._pieces = []
            return False
        self._pieces.append(data)
        return True

    def whole(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
