"""Log files of one process: appended in batches, and never at the price of the event loop.

Lines gather in memory and go out when 64 KiB are together or an interval has passed.  Every write
begins and ends at a line, on a descriptor opened for appending, so several workers may share one
file.  A regular file is written at once (the page cache takes it); a pipe or terminal that takes
no more is tried again later, its lines waiting in a bounded buffer, and what does not fit is
dropped and counted.

Statistics are Envoy's ``filesystem.*``.
"""

import os
import select
import stat
from typing import ClassVar, Final

from weft.proxy.deadlines import NEVER, Deadline, Deadlines
from weft.proxy.observe.stats import StatGroup, Store, rows

FLUSH_SIZE: Final = 64 * 1024
"""Bytes that are written without waiting for the interval; Envoy's ``--file-flush-min-size-kb``."""
FLUSH_INTERVAL: Final = 1.0
"""Seconds a line may wait.  Envoy waits 10 s; a second costs nothing and helps whoever looks on."""
STREAM_INTERVAL: Final = 0.1
"""The same for stdout and stderr, which somebody may be reading as it comes."""
RETRY_INTERVAL: Final = 0.01
"""Seconds until a full pipe is tried again."""
BUFFER_LIMIT: Final = 1024 * 1024
"""Bytes that may wait for a full pipe; lines beyond are dropped."""
ATOMIC: Final = 4096
"""PIPE_BUF of Linux: a pipe takes that much whole or not at all."""
CLOSE_PATIENCE: Final = 0.5
"""Seconds that closing waits for a pipe that takes nothing at all."""


class FileStats(StatGroup):
    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(
        "filesystem.write_buffered",
        "filesystem.write_completed",
        "filesystem.write_failed",
        "filesystem.flushed_by_timer",
        "filesystem.reopen_failed",
        gauges=("filesystem.write_total_buffered",),
    )

    def __init__(self) -> None:
        self.filesystem__write_buffered: int = 0
        self.filesystem__write_completed: int = 0
        self.filesystem__write_failed: int = 0
        self.filesystem__flushed_by_timer: int = 0
        self.filesystem__reopen_failed: int = 0
        self.filesystem__write_total_buffered: int = 0


class LogFile(Deadline):
    """One file, pipe or terminal.  ``write`` never waits and never raises."""

    def __init__(self, path: str, fd: int, interval: float, size: int, files: "LogFiles") -> None:
        super().__init__(files.deadlines)
        self.path = path
        """Empty for a stream that was given to us and cannot be opened anew."""
        self._interval = interval
        self._flush_size = size
        self._stats = files.stats
        self._lines: list[bytes] = []
        self._size = 0
        self._rest = b""
        """What a pipe did not take of a long line; it goes first."""
        self._full = False
        """The pipe takes no more; only the timer tries again."""
        self._fd = -1
        self._direct = True
        self._poll: select.poll | None = None
        self._use(fd)

    def _use(self, fd: int) -> None:
        self._fd = fd
        mode = os.fstat(fd).st_mode
        self._direct = stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(fd))
        self._poll = None
        if not self._direct and os.get_blocking(fd):
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)

    def write(self, line: bytes) -> None:
        """Append one or more whole lines."""
        size = self._size + len(line)
        if size > BUFFER_LIMIT or not line:
            if line:
                self._stats.filesystem__write_failed += 1
            return
        self._lines.append(line)
        self._size = size
        stats = self._stats
        stats.filesystem__write_buffered += 1
        stats.filesystem__write_total_buffered += len(line)
        if self.when == NEVER:
            self.set(self.deadlines.loop.time() + self._interval)
        if size >= self._flush_size and not self._full and not self.flush():
            self.set(self.deadlines.loop.time() + RETRY_INTERVAL)

    def expired(self, now: float) -> None:
        if self._size:
            self._stats.filesystem__flushed_by_timer += 1
        if not self.flush():
            self.set(now + RETRY_INTERVAL)

    def flush(self) -> bool:
        """Write what is waiting, as far as it goes without waiting; true when all is written."""
        if not self._size:
            return True
        return self._flush_file() if self._direct else self._flush_stream()

    def _flush_file(self) -> bool:
        data = b"".join(self._lines)
        self._lines.clear()
        try:
            while data:
                data = data[os.write(self._fd, data) :]
            self._stats.filesystem__write_completed += 1
        except OSError:  # the disk is full, the quota is reached: the lines are lost, and counted
            self._stats.filesystem__write_failed += 1
        self._written(self._size)
        return True

    def _flush_stream(self) -> bool:
        lines = self._lines
        done = 0
        stuck = False
        while not stuck and (self._rest or done < len(lines)):
            batch = self._rest
            last = done
            if not batch:
                batch = lines[done]
                last = done + 1
                while last < len(lines) and len(batch) + len(lines[last]) <= ATOMIC:
                    batch += lines[last]
                    last += 1
            written = self._offer(batch)
            if written == 0:
                stuck = True
                break
            done = last
            self._rest = batch[written:]
            self._written(written)
        del lines[:done]
        self._full = stuck
        return not stuck

    def _offer(self, batch: bytes) -> int:
        """How much of ``batch`` was taken; 0 for none now.  What can never be written is dropped."""
        try:
            if self._poll is not None:
                # A descriptor that others share must stay blocking; a pipe that is ready takes PIPE_BUF.
                if not self._poll.poll(0):
                    return 0
                batch = batch[:ATOMIC]
            written = os.write(self._fd, batch)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._stats.filesystem__write_failed += 1
            return len(batch)
        self._stats.filesystem__write_completed += 1
        return written

    def _written(self, size: int) -> None:
        self._size -= size
        self._stats.filesystem__write_total_buffered -= size

    def reopen(self) -> None:
        """Go on in a new file of the same name; what is waiting goes to the old one."""
        if not self.path:
            return
        try:
            fd = _open(self.path)
        except OSError:
            self._stats.filesystem__reopen_failed += 1
            return
        self.flush()
        old = self._fd
        self._use(fd)
        os.close(old)

    def close(self) -> None:
        """Write what is waiting and give the descriptor back; a full pipe is waited for, shortly."""
        self.clear()
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while not self.flush():
            if not poll.poll(CLOSE_PATIENCE * 1000):
                self._stats.filesystem__write_failed += len(self._lines)
                self._written(self._size)
                self._lines.clear()
                break
        os.close(self._fd)
        self._fd = -1


class LogFiles:
    """The log files of a worker, each opened once however many loggers write to it."""

    def __init__(
        self,
        deadlines: Deadlines,
        stats: Store | None = None,
        *,
        flush_interval: float = FLUSH_INTERVAL,
        flush_size: int = FLUSH_SIZE,
    ) -> None:
        self.deadlines = deadlines
        self._interval = flush_interval
        self._flush_size = flush_size
        self._files: dict[str, LogFile] = {}
        self.stats = FileStats()
        if stats is not None:
            stats.register("", self.stats)

    def open(self, path: str) -> LogFile:
        """The file of ``path``, created when it is not there.  Raises OSError."""
        stream = _STREAMS.get(path)
        if stream is not None:
            return self.stream(stream)
        file = self._files.get(path)
        if file is None:
            file = LogFile(path, _open(path), self._interval, self._flush_size, self)
            self._files[path] = file
        return file

    def stream(self, fd: int) -> LogFile:
        """Standard output (1) or standard error (2)."""
        key = f"&{fd}"
        file = self._files.get(key)
        if file is None:
            interval = min(self._interval, STREAM_INTERVAL)
            file = LogFile("", _own(fd), interval, self._flush_size, self)
            self._files[key] = file
        return file

    def reopen(self) -> None:
        """After a rotation (SIGUSR1, ``/reopen_logs``): every file anew under its name."""
        for file in self._files.values():
            file.reopen()

    def flush(self) -> None:
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


_STREAMS: Final = {
    "/dev/stdout": 1,
    "/dev/fd/1": 1,
    "/proc/self/fd/1": 1,
    "/dev/stderr": 2,
    "/dev/fd/2": 2,
    "/proc/self/fd/2": 2,
}


def _open(path: str) -> int:
    flags = os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if stat.S_ISREG(mode):
        return os.open(path, flags | os.O_WRONLY, 0o644)
    if stat.S_ISFIFO(mode):
        # For reading too, or the open would fail (or wait) until somebody reads.
        return os.open(path, flags | os.O_RDWR | os.O_NONBLOCK)
    return os.open(path, flags | os.O_WRONLY | os.O_NONBLOCK)


def _own(fd: int) -> int:
    """A descriptor for the same stream that does not wait.

    O_NONBLOCK belongs to the open file, which the shell that started us shares, so the stream is
    opened once more where it can be (not a socket, nor somebody else's terminal).
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)
